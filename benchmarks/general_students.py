"""The general students of the package: static, cnn, bilstm and cnn-lstm over one table of word vectors, each for texts
and for tags, taught by an encoder on unlabeled text, on its sentence vectors and on its states of tokens.

Trains (it resumes where it stopped), measures, and writes the compact family with its card to
src/eyas/general/NAME. The text must be free for such a use: see benchmarks/general_text.py.

    python benchmarks/general_students.py en --text 'FOLDER/en/*.txt' --sources FOLDER/sources.jsonl --work WORK
    python benchmarks/general_students.py en-id --encoder SHARED/models/me5-small-en-id --text ... --work WORK
"""

import argparse
import json
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine
from datasets import Dataset

from eyas import DistillSettings, StudentSettings, load_unlabeled
from eyas.data.tokenization import cut_tokenizer, wrap_tokenizer
from eyas.demo import encoder_folder
from eyas.evaluation.metrics import cosines
from eyas.general import FOLDER, WEIGHTS, read_compact, write_compact
from eyas.models.classifier import Classifier
from eyas.settings import STUDENTS
from eyas.teachers import Encoder
from eyas.teachers.live import has_fast_bfloat16
from eyas.training.pretrain import pretrain_student
from eyas.training.starts import rows_of_tokens

MAX_LENGTH = 96
# Share of the lines to which the next ones are joined.
JOINED = 0.1
ENCODERS = {
    "all-MiniLM-L6-v2": ("sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0"),
    "me5-small-en-id": ("intfloat/multilingual-e5-small, its vocabulary cut to English and Indonesian", "MIT"),
}


def texts_of(arguments: argparse.Namespace) -> Path:
    """All lines in one file; a tenth of them joined with the next ones, because texts may be longer than a sentence."""
    target = Path(arguments.work) / f"{arguments.name}.txt"
    if not target.exists():
        random, joined = np.random.default_rng(0), []
        for pattern in arguments.text:
            for path in sorted(glob(pattern)):
                lines = [line.strip() for line in Path(path).read_text().splitlines() if line.strip()]
                place = 0
                while place < len(lines):
                    count = int(random.integers(2, 5)) if random.random() < JOINED else 1
                    joined.append(" ".join(lines[place : place + count]))
                    place += count
        order = random.permutation(len(joined))[: arguments.most_texts]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(f"{joined[i]}\n" for i in order))
    return target


def pretrain(arguments: argparse.Namespace, texts: Dataset, encoder: Encoder) -> Path:
    """The family with its heads, in float32."""
    often = {"eval_strategy": "steps", "eval_steps": 500, "save_strategy": "steps", "save_steps": 500}
    settings = DistillSettings(
        StudentSettings(f"ensemble:{','.join(STUDENTS)}", max_length=MAX_LENGTH),
        arguments={
            "num_train_epochs": arguments.epochs,
            "logging_strategy": "steps",
            "logging_steps": 100,
            "bf16": has_fast_bfloat16(encoder.model.device),
            **often,
        },
    )
    out = Path(arguments.work) / arguments.name
    pretrain_student(encoder, texts, out, settings, cache=Path(arguments.work) / "cache")
    return out


def compact(source: Path, target: Path, most_tokens: int | None, texts: Any) -> None:
    """The family without its heads, in int8, and with at most so many tokens, the most frequent ones."""
    classifier = Classifier.from_pretrained(source)
    model, tokenizer = classifier.model, classifier.tokenizer
    if most_tokens is not None and most_tokens < len(tokenizer):
        cut = cut_tokenizer(tokenizer, texts, MAX_LENGTH, most_tokens)
        rows = rows_of_tokens(tokenizer, cut)
        table = model.embeddings.weight.detach()
        vectors = torch.stack([table[row].mean(0) if row else table.mean(0) for row in rows])
        tokenizer = wrap_tokenizer(cut, MAX_LENGTH, pair=False)
        model.resize_token_embeddings(len(tokenizer))
        model.embeddings.weight.data.copy_(vectors)
        model.config.pad_token_id = tokenizer.pad_token_id
    write_compact(model, tokenizer, target)


def quality(source: Path, encoder: Encoder) -> dict[str, float]:
    """The cosine of each member's sentence vectors with the encoder's, on texts that it was not trained on."""
    from eyas.models.ensemble import subset

    sample = [json.loads(line)["text"] for line in (source / "validation_sample.jsonl").read_text().splitlines()]
    theirs, whole = encoder.logits(sample), Classifier.from_pretrained(source)
    alone = [subset(whole.model, [place]) for place in range(len(STUDENTS))]
    found = [Classifier(model, whole.tokenizer).logits(sample) for model in alone]
    return {name: float(np.mean(cosines(own, theirs))) for name, own in zip(STUDENTS, found, strict=True)}


def card(
    name: str, encoder: str, texts: int, epochs: float, scores: dict[str, float], sources: list[dict[str, Any]]
) -> str:
    origin, licence = ENCODERS.get(encoder, (encoder, "see its card"))
    rows = "".join(
        f"| {row['name']} | {row['repository']} | {row['licence']} | {row['sentences']:,} |\n" for row in sources
    )
    members = "".join(f"| {member} | {score:.3f} |\n" for member, score in scores.items())
    about = machine()
    return f"""---
license: apache-2.0
library_name: eyas
---
# General students, {name}

{", ".join(STUDENTS)}, each for texts and for tags, over one table of word vectors. They were taught by {origin}
({licence}), on its sentence vectors and on its states of tokens, with {texts:,} sentences, read {epochs:g} times. They
know no task: `eyas distill` starts from them (`--init general-{name}`, the default where it fits).

Matrices are stored in int8 with a scale a row. Cosine of each student's sentence vectors with the encoder's, on
sentences that it was not trained on, before that:

| student | cosine |
|---|---|
{members}
Made by `benchmarks/general_students.py` with eyas {about["eyas"]}, {about["date"]}, {about["cpu"]}.

## Text

| source | from | licence | sentences |
|---|---|---|---|
{rows}
The text itself is not part of the package.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the family, such as en")
    parser.add_argument("--text", nargs="+", required=True, help="files of one sentence a line, or patterns")
    parser.add_argument("--sources", help="JSON lines about the text: name, repository, licence, sentences")
    parser.add_argument("--encoder", help="a folder or Hub name; by default all-MiniLM-L6-v2 of eyas[demo]")
    parser.add_argument("--work", required=True)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--most-texts", type=int, help="by default all")
    parser.add_argument("--most-tokens", type=int, help="of the vocabulary; by default all that occur")
    parser.add_argument("--out", help="by default the package's own folder")
    arguments = parser.parse_args()
    texts = load_unlabeled([texts_of(arguments)])
    encoder = Encoder(arguments.encoder or encoder_folder(), max_length=MAX_LENGTH)
    made, target = pretrain(arguments, texts, encoder), Path(arguments.out or FOLDER / arguments.name)
    compact(made, target, arguments.most_tokens, texts)
    read_compact(target)
    scores = quality(made, encoder)
    lines = Path(arguments.sources).read_text().splitlines() if arguments.sources else ()
    sources = [row for row in map(json.loads, lines) if row["language"] in arguments.name.split("-")]
    name = Path(arguments.encoder).name if arguments.encoder else "all-MiniLM-L6-v2"
    (target / "README.md").write_text(card(arguments.name, name, len(texts), arguments.epochs, scores, sources))
    print(target, f"{(target / WEIGHTS).stat().st_size / 1e6:.1f} MB", scores)


if __name__ == "__main__":
    main()
