"""The README.md of an exported model."""

from pathlib import Path
from typing import Any

from understudy.export.parity import Parity
from understudy.runtime.manifest import MODEL, TOKENIZER, Manifest

TEMPLATE = """---
library_name: understudy
pipeline_tag: {pipeline}
tags:
- knowledge-distillation
- onnx
---
# {title}

{what} with {parameters:,} parameters, exported by understudy {version}.

| | |
|---|---|
| labels | {labels} |
| input | {input}, {length} |
| precision | {precision} |
| size on disk | {size:.2f} MB |
| architecture | {architecture} |
{training}
## Use

```python
from understudy.serve import Predictor

predictor = Predictor("{folder}")
print(predictor({example}))
```

It needs `onnxruntime`, `tokenizers` and `numpy`, not torch.

## Checks

The exported model answered as the original did in {agreement:.2%} of {rows} cases on validation texts; the largest
difference of {measure} was {difference:.4f}. `manifest.json` holds checksums of the files, and texts with their
expected probabilities, which are checked whenever the model is loaded.

## Limits

It has learned from one teacher and one data set, and repeats their mistakes. Measure it on your own texts:
`understudy evaluate --model {folder} --data DATA`.
"""

PIPELINES = {"tagging": "token-classification", "vectors": "feature-extraction"}
WHAT = {
    "classification": "A text classifier",
    "tagging": "A tagger of words",
    "regression": "A model that gives texts a number",
    "multi-label": "A classifier of texts with several labels",
    "aspects": "A classifier of texts by several aspects",
    "vectors": "An encoder of sentences",
}


def write_model_card(
    folder: Path, name: str, manifest: Manifest, model: Any, parity: Parity, run: dict[str, Any]
) -> None:
    """Write README.md into `folder`, the exported model that will be called `name`."""
    size = sum((folder / file).stat().st_size for file in (MODEL, TOKENIZER)) / 1e6
    length = manifest.max_length
    settings = "".join(
        f"| {key.replace('_', ' ')} | {value} |\n" for key, value in run.items() if value not in (None, False, [], {})
    )
    card = TEMPLATE.format(
        title=name,
        pipeline=PIPELINES.get(manifest.task, "text-classification"),
        what=WHAT[manifest.task],
        measure="a number" if manifest.task in ("regression", "vectors") else "a probability",
        parameters=model.num_parameters(),
        version=manifest.understudy_version,
        labels=", ".join(manifest.labels[:50]) if manifest.task != "vectors" else f"{len(manifest.labels)} dimensions",
        input="two texts" if manifest.pair else "sentences" if manifest.task == "tagging" else "one text",
        length=f"in windows of {length} tokens" if manifest.task == "tagging" else f"the first {length} tokens",
        precision=manifest.precision,
        size=size,
        architecture=type(model).__name__,
        training=f"\n## Training\n\n| setting | value |\n|---|---|\n{settings}" if settings else "",
        folder=name,
        example='[("first text", "second text")]' if manifest.pair else '["some text"]',
        agreement=parity.agreement,
        rows=parity.rows,
        difference=parity.difference,
    )
    (folder / "README.md").write_text(card)
