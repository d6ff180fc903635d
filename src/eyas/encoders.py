"""Pretrained encoders on this machine: in installed packages and in the Hub's cache."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# Heads that a pretrained encoder does not have.
TASK_HEADS = ("Classification", "QuestionAnswering")


@dataclass(frozen=True)
class Found:
    """A pretrained encoder.

    Args:
        name: what `--model` takes.
        origin: where it is from.
    """

    name: str
    folder: Path
    origin: str

    @property
    def config(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / CONFIG).read_text()))

    def describe(self) -> dict[str, Any]:
        """Its type, layers, hidden size, tokens and megabytes."""
        config = self.config
        sizes = ("num_hidden_layers", "hidden_size", "vocab_size")
        return {
            "name": self.name,
            "type": config.get("model_type"),
            **dict(zip(("layers", "hidden_size", "vocabulary"), map(config.get, sizes), strict=True)),
            "mb": round((self.folder / WEIGHTS).stat().st_size / 1e6),
            "from": self.origin,
        }


def find_encoder(name: str) -> str:
    """The folder of an installed package that carries a model; any other name as it is: a folder, or a Hub name."""
    if "/" in name or Path(name).exists():
        return name
    try:
        found = next(_models(distribution(name)), None)
    except (PackageNotFoundError, ValueError):
        return name
    return str(found) if found else name


def is_hub_name(name: str) -> bool:
    """Whether the Hub could have a repository of this name; `teacher/`, `./a` and `a/b/c` are folders only."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        try_to_load_from_cache(name, CONFIG)
    except HFValidationError:
        return False
    return True


def in_hub_cache(name: str) -> str | None:
    """The folder of a Hub name in the cache; None for what is not there, or is no such name."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name).exists() or not is_hub_name(name):
        return None
    found = try_to_load_from_cache(name, CONFIG)
    return str(Path(found).parent) if isinstance(found, str) else None


def encoders() -> list[Found]:
    """All that can be found without the network."""
    packages = [
        Found(package.name, folder, "installed package") for package in distributions() for folder in _models(package)
    ]
    return sorted([*packages, *_cached()], key=lambda found: found.name)


def _models(package: Distribution) -> Iterator[Path]:
    """The folders of a package that hold a model."""
    for file in package.files or ():
        folder = Path(str(file.locate())).parent
        if file.name == CONFIG and (folder / WEIGHTS).is_file() and (folder / "tokenizer.json").is_file():
            yield folder


def _cached() -> Iterator[Found]:
    """Encoders in the cache of the Hub."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return
    for repository in repositories:
        for revision in repository.revisions:
            folder = revision.snapshot_path
            whole = (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()
            if repository.repo_type == "model" and "main" in revision.refs and whole:
                found = Found(repository.repo_id, folder, "cache of the Hub")
                heads = " ".join(found.config.get("architectures") or ())
                if not any(head in heads for head in TASK_HEADS):
                    yield found
