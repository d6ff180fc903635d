"""The API reference, checked without building the site."""

import re
from pathlib import Path
from pkgutil import resolve_name

import eyas
from eyas import errors, losses, serve

API = Path(__file__).parents[1] / "docs" / "api"


def test_api_reference_has_every_public_name() -> None:
    pages = "\n".join(page.read_text() for page in API.glob("*.md"))
    documented = [resolve_name(path) for path in re.findall(r"^::: (\S+)$", pages, re.MULTILINE)]
    public = {f"{part.__name__}.{name}" for part in (eyas, losses, serve) for name in part.__all__}
    public |= {f"eyas.errors.{name}" for name, value in vars(errors).items() if isinstance(value, type)}
    missing = {name for name in public if not any(resolve_name(name) is value for value in documented)}
    assert not missing, f"without a block in docs/api/: {sorted(missing)}"
