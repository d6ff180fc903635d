"""evaluate, predict, export, push: use a trained model."""

import json
import logging
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from eyas.cli.expand import with_options
from eyas.cli.options import (
    AbstainBelow,
    Beams,
    Data,
    LabelMap,
    Out,
    Overwrite,
    Quiet,
    log_to_stderr,
    open_classifier,
    open_writer,
    read_data,
)
from eyas.errors import EyasError
from eyas.outputs import strict_json
from eyas.settings import Columns

logger = logging.getLogger("eyas")

SIMILARITY = "sts"


@with_options
def evaluate(
    *,
    model: Annotated[str, typer.Option(help="Student, teacher or exported folder.", show_default=False)],
    data: Data,
    teacher: Annotated[
        str | None, typer.Option(help="Report retention and agreement with this teacher.", show_default=False)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test.", show_default="test, else validation")
    ] = None,
    abstain_below: Annotated[
        float | None,
        typer.Option(help="Also score only the answers with at least this probability.", show_default=False),
    ] = None,
    beams: Beams = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    columns: Columns,
    label_map: LabelMap = None,
    quiet: Quiet = False,
) -> None:
    """Score a model on a split, optionally against its teacher. --task sts scores sentence vectors by similarity."""
    log_to_stderr(quiet)
    from eyas.data.labels import parse_label_map
    from eyas.evaluation.evaluate import evaluate as run
    from eyas.evaluation.similarity import evaluate_similarity
    from eyas.teachers import Encoder

    writer = open_writer(model, beams)
    if writer is not None:
        if abstain_below is not None or label_map is not None:
            raise EyasError(f"{model} writes texts: leave --abstain-below and --label-map out.")
        _evaluate_writer(model, writer, data, teacher, split, beams, as_json, columns)
        return
    alike = columns.task == SIMILARITY
    loaded = read_data(data, replace(columns, task="regression") if alike else columns)
    chosen = split or ("test" if "test" in loaded else "validation")
    if chosen not in loaded:
        raise EyasError(f"{data} has no split {chosen!r}, only {', '.join(loaded)}.")
    classifier = open_classifier(model)
    if abstain_below is not None:
        classifier.abstain(abstain_below)
    if alike or classifier.task.kind == "vectors":
        scores = evaluate_similarity(classifier, loaded[chosen], Encoder(teacher) if teacher else None)
    else:
        other = open_classifier(teacher) if teacher else None
        names = parse_label_map(label_map) if label_map else None
        scores = run(classifier, loaded[chosen], other, names, classifier.abstain_below)
    scores = {"model": model, "split": chosen, **scores}
    if as_json:
        print(strict_json(scores))
        return
    intervals = {"retention_interval": "retention", "interval": classifier.task.metric}
    near = {whole: scores.pop(name) for name, whole in intervals.items() if name in scores}
    width = max(map(len, scores)) + 2
    for name, value in scores.items():
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        if name in near:
            shown += "  (95 % interval {:.4f} to {:.4f})".format(*near[name])
        print(f"{name.replace('_', ' '):<{width}}{shown}")


def _evaluate_writer(
    model: str,
    writer: Any,
    data: str,
    teacher: str | None,
    split: str | None,
    beams: int | None,
    as_json: bool,
    columns: Columns,
) -> None:
    from eyas.generation import evaluate as run
    from eyas.generation import load_pairs

    loaded = load_pairs(data, columns)
    chosen = split or ("test" if "test" in loaded else "validation")
    if chosen not in loaded:
        raise EyasError(f"{data} has no split {chosen!r}, only {', '.join(loaded)}.")
    other = open_writer(teacher, beams) if teacher else None
    if teacher and other is None:
        raise EyasError(f"The teacher {teacher} is no model that writes texts, as {model} is.")
    scores = {"model": model, "split": chosen, **run(writer, loaded[chosen], other)}
    if as_json:
        print(strict_json(scores))
        return
    for name, value in scores.items():
        print(f"{name.replace('_', ' '):<18}{f'{value:.2f}' if isinstance(value, float) else value}")


def predict(
    model: Annotated[str, typer.Option(help="Student, teacher or exported folder.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Lines of text or JSON; - for standard input.")] = Path("-"),
    all_scores: Annotated[bool, typer.Option("--all-scores", help="Print the probability of every label.")] = False,
    abstain_below: AbstainBelow = None,
    beams: Beams = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer the lines of a file.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Classify or tag a stream of lines, or write a text for each: text or JSON in, JSON lines out.

    Rows of fields may also come as a table. A model of several tasks answers all of them: {"text": ..., "TASK": {...}}.

    A JSON line is a string, {"text": ..., "text_pair": ...}, or for a tagger {"tokens": [...], "question": ...}. Other
    fields pass through, except those of the answer: label and score, or tokens, tags, scores and spans, or
    generated_text.
    """
    log_to_stderr(quiet)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    from eyas.cli.lines import BLOCK, predict_lines, write_lines
    from eyas.data.files import open_binary
    from eyas.data.readers import SUFFIXES, file_kind, read_rows, text_blocks, text_lines
    from eyas.errors import DataError
    from eyas.runtime.several_tasks import SeveralTasks

    alone = open_writer(model, beams)  # it answers line by line, as several tasks do
    classifier = open_classifier(model) if alone is None else None
    if isinstance(classifier, SeveralTasks):
        alone, classifier = classifier, None
    if alone is not None and (all_scores or abstain_below is not None or workers > 1):
        does = "answers several tasks" if isinstance(alone, SeveralTasks) else "writes texts"
        raise EyasError(f"{model} {does}: leave --all-scores, --abstain-below and --workers out.")
    if classifier is not None and abstain_below is not None:
        classifier.abstain(abstain_below)
    if classifier is not None and all_scores and classifier.task.is_tagging:
        raise EyasError(f"--all-scores is for whole texts; this model does {classifier.task.describe()}.")
    if str(file) == "-":
        if workers > 1:
            raise EyasError(
                "--workers is for a file: a stream is answered line by line. Name the file, or leave it out."
            )
        lines = enumerate(text_lines(sys.stdin.buffer, "standard input"), 1)
        if classifier is None:
            write_lines(alone, lines, "standard input")
            return
        predict_lines(model, classifier, ((n, [line]) for n, line in lines), "standard input", all_scores)
    elif not file.is_file():
        if not file.exists():
            raise DataError(f"No such file: {file}.")
        raise DataError(f"{file} is not a regular file. Name a file of texts, or leave it out to read a pipe.")
    else:
        kind = file_kind(file)
        if classifier is not None and classifier.row_fields and kind in SUFFIXES:
            rows = ((int(place.split()[-1].rpartition(":")[2]), row) for place, row in read_rows(file))
            written = ((number, [json.dumps(row, default=str)]) for number, row in rows)
            predict_lines(model, classifier, written, str(file), all_scores, workers)
            return
        if kind not in (None, ".txt", ".jsonl", ".ndjson"):
            raise DataError(f'{file} is a table ({kind}), expected lines of text or JSON, such as {{"text": ...}}.')
        with open_binary(file) as stream:
            if classifier is None:
                write_lines(alone, enumerate(text_lines(stream, str(file)), 1), str(file))
                return
            blocks = text_blocks(stream, str(file), BLOCK)
            predict_lines(model, classifier, blocks, str(file), all_scores, workers)


@with_options
def export(
    *,
    model: Annotated[str, typer.Option(help="Student or teacher folder.", show_default=False)],
    out: Out,
    int8: Annotated[bool, typer.Option("--int8", help="Quantize to int8: a quarter of the size.")] = False,
    int4: Annotated[
        bool, typer.Option("--int4", help="Store in 4 bits, best what was trained with --compress int4.")
    ] = False,
    ternary: Annotated[
        bool, typer.Option("--ternary", help="Store in 2 bits, best what was trained with --compress ternary.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Texts for the parity check.", show_default="the model's validation sample"),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            help="Required share of equal answers; for regression, R2.",
            show_default="1.0, with --int8 0.98",
        ),
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Also write web/, which runs in the browser.")] = False,
    web_runtime: Annotated[
        str | None,
        typer.Option(
            help="Folder dist of the npm package onnxruntime-web, to copy into web/; npm gets it through npm.",
            show_default=False,
        ),
    ] = None,
    openvino: Annotated[bool, typer.Option("--openvino", help="Also write openvino/, in float16.")] = False,
    beams: Beams = None,
    abstain_below: AbstainBelow = None,
    columns: Columns,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Export a model to ONNX with tokenizer, labels and model card, and check that its answers match."""
    log_to_stderr(quiet)
    from eyas.export import export_model as run
    from eyas.runtime.manifest import TOKENIZER

    texts = None if data is None else _parity_texts(model, data, columns)
    more = {"web": web, "web_runtime": web_runtime, "openvino": openvino, "abstain_below": abstain_below or 0.0,
            "int4": int4, "ternary": ternary, "beams": beams}  # fmt: skip
    parity = run(model, out, int8, texts, min_agreement, overwrite, **more)  # type: ignore[arg-type]
    size = sum(file.stat().st_size for file in (*out.glob("*.onnx"), out / TOKENIZER)) / 1e6
    logger.info("Exported to %s, %.2f MB: %s.", os.path.relpath(out), size, parity)
    if web and web_runtime is None:
        page = shlex.quote(os.path.relpath(out / "web"))
        logger.warning(
            "%s needs onnxruntime-web before it runs: export again with --web-runtime npm or its folder dist, or "
            "copy its files as %s/README.md says.",
            page,
            page,
        )
    logger.info("Next: eyas serve %s", shlex.quote(os.path.relpath(out)))


def push(
    folder: Annotated[str, typer.Argument(help="Exported folder, student or teacher.", show_default=False)],
    repository: Annotated[str, typer.Argument(help="USER/NAME on the Hub.", show_default=False)],
    license: Annotated[
        str | None, typer.Option(help="License for the model card, as the Hub spells it.", show_default="unknown")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    quiet: Quiet = False,
) -> None:
    """Upload a model with its card to the Hugging Face Hub."""
    log_to_stderr(quiet)
    from eyas.export.push import push_to_hub

    logger.info("Uploaded to %s.", push_to_hub(folder, repository, license, private))


def _parity_texts(model: str, data: str, columns: Columns) -> list[tuple[Any, ...]]:
    from eyas.data.datasets import load_unlabeled
    from eyas.data.readers import inputs_of
    from eyas.models.loading import is_seq2seq_folder, load_classifier, task_of_folder

    if is_seq2seq_folder(model):
        from eyas.generation import load_pairs

        return [(text,) for text in load_pairs(data, columns)["validation"]["source"]]
    task = task_of_folder(model)
    named = Columns(text=columns.text, text_pair=columns.text_pair)
    if task.reads_fields:
        named = Columns(text=",".join(load_classifier(model)[0].config.fields), task=task.kind)
    if Path(data).is_file():
        return [inputs_of(row) for row in load_unlabeled([data], named, task.is_tagging)]
    return [inputs_of(row) for row in read_data(data, columns)["validation"]]
