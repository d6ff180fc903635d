"""What every benchmark notes beside its figures."""

import datetime
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, versions and date."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    extensions = [flag for flag in ("avx512_vnni", "avx512_bf16", "amx_int8") if flag in flags]
    return {
        "cpu": f"{cpu} ({', '.join(extensions)})",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "onnxruntime", "understudy")},
        "date": datetime.date.today().isoformat(),
    }


def write_rows(path: str | Path, rows: list[dict[str, Any]]) -> None:
    """JSON lines."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def append_row(path: str | Path, row: dict[str, Any]) -> None:
    """One more JSON line, synced: an interrupted benchmark goes on behind it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []
