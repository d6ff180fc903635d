"""Several trained classifiers as one exported folder."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eyas.export import export_model
from eyas.runtime.manifest import Manifest


def export_combination(models: Sequence[str | Path], rule: str, out: Path, **options: Any) -> float:
    """Export each model to a folder in `out`, which answers as they do together.

    Args:
        models: folders of classifiers with the same labels.
        rule: a key of `eyas.runtime.combination.RULES`.
        options: as for `export_model`.

    Returns:
        The smallest agreement of an exported model with the original.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    places = [out / f"stage-{number}" for number in range(1, len(models) + 1)]
    agreements = [export_model(model, place, **options).agreement for model, place in zip(models, places, strict=True)]
    stages = [{"folder": place.name, "name": Path(model).name} for model, place in zip(models, places, strict=True)]
    Manifest.read(places[0]).of_stages(stages, rule).write_alone(out)
    return min(agreements)
