"""Export a student of several tasks: one graph with an output for each, and a folder for each."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from eyas.export import checked, columns_of, is_cut_before, manifest_of, sample_of, stored, write_tokenizer
from eyas.export.model_card import run_settings, write_model_card
from eyas.export.onnx import input_names, output_name, write_onnx
from eyas.export.parity import Parity
from eyas.models import is_student
from eyas.models.classifier import Classifier
from eyas.models.loading import load_tasks, load_tokenizer
from eyas.outputs import OutputFolder
from eyas.runtime.manifest import CARD, MODEL, TASKS, TOKENIZER

logger = logging.getLogger("eyas")


def export_tasks(
    tasks: Mapping[str, Path], out: str | Path, precision: str, min_agreement: float | None, overwrite: bool
) -> Parity:
    """Export a student of several tasks.

    Args:
        tasks: the folder of each, as from `task_folders`.
        out: gets model.onnx, tokenizer.json, and a folder for each task with its manifest and model card.
        precision: of the weights.
        min_agreement: as for `export_model`.

    Returns:
        The parity of the task with the smallest agreement.

    Raises:
        ExportError: an exported task differs too much.
    """
    source = next(iter(tasks.values())).parent
    model = load_tasks(source)
    classifiers = {
        name: Classifier(model.student(name), load_tokenizer(folder, model.student(name)))
        for name, folder in tasks.items()
    }
    texts = {name: columns_of(sample_of(folder), classifiers[name]) for name, folder in tasks.items()}
    made, precision = stored(model, source, precision)
    for name, classifier in classifiers.items():
        # Their texts are cut before the graph, so all tasks read the same tokens, once.
        if is_student(model) and not classifier.pair:
            made.student(name).config.max_length = sys.maxsize
    settings = {"command": "export", "model": str(source.resolve()), "precision": precision}
    parities: dict[str, Parity] = {}
    with OutputFolder(out, settings, overwrite, resumable=False) as folder:
        first = next(iter(classifiers.values()))
        logger.info("Exporting %s to ONNX (%s).", source, precision)
        write_onnx(made, input_names(model, first.tokenizer), folder / MODEL, precision)
        write_tokenizer(first, folder / TOKENIZER, cut=any(map(is_cut_before, classifiers.values())))
        for name, classifier in classifiers.items():
            own, (firsts, seconds) = folder / name, texts[name]
            own.mkdir()
            manifest = manifest_of(classifier, folder / TOKENIZER, precision, firsts, seconds)
            manifest.output = output_name(name)
            parities[name] = checked(manifest, own, classifier, firsts, seconds, min_agreement)
            logger.info("%s: %s.", name, parities[name])
            place = f"{Path(out).name}/{name}"
            write_model_card(own, place, manifest, classifier.model, parities[name], run_settings(source))
        manifest.of_stages([{"folder": name, "name": name} for name in tasks], TASKS).write_alone(folder)
        (folder / CARD).write_text(_card(Path(out).name, parities), encoding="utf-8")
    return min(parities.values(), key=lambda parity: parity.agreement)


def _card(name: str, parities: Mapping[str, Parity]) -> str:
    rows = "\n".join(f"| [{task}]({task}/{CARD}) | {parity} |" for task, parity in parities.items())
    return f"""---
library_name: eyas
license: unknown
tags:
- eyas
- onnx
---
# {name}

One model for several tasks, made and exported by eyas.

| task | as exported |
|---|---|
{rows}

```python
from eyas.serve import Predictor

predictor = Predictor("{name}")
print(predictor(["some text"]))                         # all tasks
print(predictor(["some text"], task="{next(iter(parities))}"))
```
"""
