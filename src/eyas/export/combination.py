"""Several classifiers as one exported folder."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eyas.export import export_model
from eyas.runtime.manifest import MANIFEST, Manifest


def ship(model: str | Path, out: Path, **options: Any) -> float:
    """Export a classifier; copy a folder that is exported already.

    Args:
        options: as for `export_model`.

    Returns:
        The agreement of the exported model with the original.
    """
    if not (Path(model) / MANIFEST).is_file():
        return export_model(model, out, **options).agreement
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(model, out)
    return 1.0


def export_combination(models: Sequence[str | Path], rule: str, out: Path, **options: Any) -> float:
    """Export each model to a folder in `out`, which answers as they do together.

    Args:
        models: folders of classifiers with the same labels, or labels that are `joined`; or of exported ones.
        rule: a key of `eyas.runtime.combination.RULES`.
        options: as for `export_model`.

    Returns:
        The smallest agreement of an exported model with the original.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    places = [out / f"stage-{number}" for number in range(1, len(models) + 1)]
    agreements = [ship(model, place, **options) for model, place in zip(models, places, strict=True)]
    stages = [{"folder": place.name, "name": Path(model).name} for model, place in zip(models, places, strict=True)]
    manifests = [Manifest.read(place) for place in places]
    labels = list(dict.fromkeys(name for one in manifests for name in one.labels))
    whole = manifests[0].of_stages(stages, rule)
    if labels != whole.labels:
        whole = replace(whole, labels=labels, data_labels=labels)
    whole.write_alone(out)
    return min(agreements)
