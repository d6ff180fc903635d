"""Known vulnerabilities of what is installed, by pip-audit; a word where the package index can't tell."""

import importlib.util
import json
import subprocess
import sys

SECONDS = 120


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--skip-editable"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        if importlib.util.find_spec("pip_audit") is None:
            print("audit: pip-audit is not installed. Install the extra dev.")
            return 1
        print("audit skipped: the package index does not answer.")
        return 0
    known = [package for package in packages if "skip_reason" not in package]
    found = [(package, vulnerability) for package in known for vulnerability in package["vulns"]]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    if not known:
        print(f"audit skipped: the package index tells no vulnerabilities of the {len(packages)} packages.")
    elif not found:
        print(f"audit: no known vulnerabilities in {len(known)} of {len(packages)} packages.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
