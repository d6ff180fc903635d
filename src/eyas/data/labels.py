"""Label names, and matching them between data, teacher and student: by name, never by id."""

import contextlib
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eyas.errors import LabelError
from eyas.spans import find_scheme
from eyas.tasks import Task

# A label map counts as proven if the teacher reaches at least this accuracy under it ...
PROOF_ACCURACY = 0.6
# ... and each label's most frequent prediction is its own teacher output, on at least this many rows.
PROOF_ROWS = 20

_GENERIC = re.compile(r"(label[_ -]?)?-?\d+", re.IGNORECASE)


class Named(Protocol):
    """A classifier's task, the names of its outputs, and their names in its training data."""

    task: Task
    label_names: list[str]
    data_labels: list[str]


def sort_label_names(names: set[str]) -> list[str]:
    """Integers in numeric order, anything else in alphabetical order."""
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        return sorted(names, key=int)
    return sorted(names)


def doubles(names: Sequence[str]) -> list[list[str]]:
    """Names that look like one label: they differ in case or spaces, or are the same number (`1`, `1.0`, `true`)."""
    alike: dict[str, list[str]] = {}
    for name in names:
        plain = " ".join(name.split()).casefold()
        plain = {"true": "1", "false": "0"}.get(plain, plain)
        with contextlib.suppress(ValueError):
            plain = str(float(plain))
        alike.setdefault(plain, []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def are_generic(names: Sequence[str]) -> bool:
    """Whether the names are generic: `0`, `1`, `LABEL_0`, ..."""
    return all(_GENERIC.fullmatch(name) for name in names)


def ordered_names(id2label: Mapping[Any, str]) -> list[str]:
    """The names of `id2label` in the order of their ids.

    Raises:
        LabelError: ids are not 0 to n-1, or a name occurs twice.
    """
    ids = sorted(int(index) for index in id2label)
    names = [str(id2label[index]) for index in ids]
    if ids != list(range(len(ids))) or len(set(names)) != len(names):
        raise LabelError(
            f"The label map {dict(id2label)} is invalid: expected ids 0 to {len(ids) - 1}, each with a "
            "unique name. Correct id2label in the model's config.json."
        )
    return names


def match_by_name(data_names: Sequence[str], model_names: Sequence[str]) -> list[int] | None:
    """For each data label, the model output of the same name (or else ignoring case); None if the names differ."""
    for key in (str, str.casefold):
        positions = {key(name): index for index, name in enumerate(model_names)}
        found = [positions[key(name)] for name in data_names if key(name) in positions]
        if len(set(found)) == len(found) == len(data_names) == len(model_names):
            return found
    return None


def match_by_proof(
    data_names: Sequence[str], model_names: Sequence[str], labels: np.ndarray, predictions: np.ndarray
) -> list[int] | None:
    """For each data label, the model output that predicts it; None unless the predictions prove the match.

    Args:
        labels: [rows] int, indices into `data_names`.
        predictions: [rows] int, indices into `model_names`.
    """
    from scipy.optimize import linear_sum_assignment

    size = len(data_names)
    if size != len(model_names) or len(labels) < PROOF_ROWS:
        return None
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (labels, predictions), 1)
    rows, columns = linear_sum_assignment(-counts)
    matched = counts[rows, columns]
    dominant = (matched == counts.max(axis=1)) & (matched > 0)
    if not dominant.all() or matched.sum() / len(labels) < PROOF_ACCURACY:
        return None
    return [int(column) for column in columns]


def check_task(data: Task, model: Task, who: str) -> None:
    """Raise LabelError if model and data have different tasks."""
    scheme = find_scheme(model.labels) if model.is_tagging else None
    if data.is_tagging and scheme is not None and scheme.marks_starts and not scheme.is_bio:
        raise LabelError(
            f"The {who} tags in {scheme.name} ({', '.join(sorted(scheme.change)[:6])} ...), but tags of data are "
            f"converted to BIO, so the two cannot be compared. Fine-tune a {who} on this data."
        )
    if data.kind != model.kind:
        raise LabelError(
            f"The data is for {data.describe()}, but the {who} does {model.describe()}. Set the data's task with "
            f"Columns(task=...) or --task, or choose another {who}."
        )


def match_labels(
    data_names: list[str],
    classifier: Named,
    evidence: Callable[[], tuple[np.ndarray, np.ndarray]],
    label_map: Mapping[str, str] | None,
    who: str,
) -> list[int]:
    """For each data label, the corresponding output of `classifier`.

    Matches by `label_map` if it is given, else by name (the classifier's, or those of its training data). If one side
    has generic names (`0`, `LABEL_0`), the predictions can prove the match.

    Args:
        evidence: returns the classifier's logits [rows, labels] for rows of the data and their labels [rows],
            -1 = unlabeled; called only if the names do not match.

    Raises:
        LabelError: no match; the message shows both label maps.
    """
    model_names = classifier.label_names
    if classifier.task.kind == "regression":
        return [0]
    if label_map:
        order = match_by_name(data_names, [label_map.get(name, name) for name in model_names])
    else:
        order = match_by_name(data_names, model_names) or match_by_name(data_names, classifier.data_labels)
        provable = classifier.task.is_single_label
        if order is None and provable and (are_generic(data_names) or are_generic(model_names)):
            logits, labels = evidence()
            labeled = labels >= 0
            order = match_by_proof(data_names, model_names, labels[labeled], logits[labeled].argmax(1))
    if order is None:
        raise refuse(data_names, model_names, who)
    return order


def refuse(data_names: Sequence[str], model_names: Sequence[str], model: str) -> LabelError:
    """The error for label maps that could not be matched; shows both."""
    in_data, in_model = ({name.casefold(): name for name in names} for names in (data_names, model_names))
    alone = [
        [names[key] for key in names if key not in others]
        for names, others in ((in_data, in_model), (in_model, in_data))
    ]
    if len(data_names) != len(model_names):
        return LabelError(
            f"The labels of the data and the {model} do not match.\n"
            f"  data:    {_listing(data_names)}\n"
            f"  {model + ':':<8} {_listing(model_names)}\n"
            f"Only the data has {', '.join(alone[0][:10]) or 'none'}; only the {model} has "
            f"{', '.join(alone[1][:10]) or 'none'}. Both need the same labels: choose another {model}, or data "
            "with all labels in its training split."
        )
    example = label_map_option(dict(zip(model_names, data_names, strict=True)))
    return LabelError(
        f"The labels of the data and the {model} do not match.\n"
        f"  data:    {_listing(data_names)}\n"
        f"  {model + ':':<8} {_listing(model_names)}\n"
        "Their names differ, and the predictions do not prove a match. If you know it, set label_map (--label-map), "
        f"with the {model}'s names first, for example: --label-map {example}"
    )


def label_map_option(label_map: Mapping[str, str]) -> str:
    """A label map as it is typed after --label-map in a shell."""
    if all(re.fullmatch(r"[\w.+-]+", name) for pair in label_map.items() for name in pair):
        return ",".join(f"{model_name}={data_name}" for model_name, data_name in label_map.items())
    return shlex.quote(json.dumps(dict(label_map), ensure_ascii=False))


def parse_label_map(text: str) -> dict[str, str]:
    """The label map {model's name: data's name} of --label-map.

    Args:
        text: `LABEL_0=negative,LABEL_1=positive`; for names with commas or equals signs a JSON object, or a JSON or
            YAML file with one.

    Raises:
        LabelError: none of these, or a name occurs twice.
    """
    if Path(text).suffix in (".json", ".yaml", ".yml") and ("=" not in text or os.path.isfile(text)):
        return _pairs_of(_file(Path(text)), text)
    if text.lstrip().startswith("{"):
        try:
            return _pairs_of(json.loads(text, object_pairs_hook=list), text)
        except (ValueError, RecursionError) as error:
            raise LabelError(f"--label-map {text!r:.80} is not valid JSON: {error}.") from None
    pairs = [part.split("=") for part in text.split(",") if part.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise LabelError(
            f"--label-map {text!r}: expected MODEL=DATA,MODEL=DATA, ... For names with commas or equals signs, write "
            'JSON, {"MODEL": "DATA", ...}, or name a JSON or YAML file.'
        )
    return _pairs_of([(model_name.strip(), data_name.strip()) for model_name, data_name in pairs], text)


def _file(path: Path) -> list[tuple[Any, Any]]:
    """The pairs in a JSON or YAML file."""
    import yaml

    try:
        content = path.read_text(encoding="utf-8-sig")
        found = json.loads(content, object_pairs_hook=list) if path.suffix == ".json" else yaml.safe_load(content)
    except FileNotFoundError:
        raise LabelError(f"--label-map: no such file: {path}.") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise LabelError(f"--label-map {path}: {error}.") from None
    return list(found.items()) if isinstance(found, dict) else found


def _pairs_of(found: Any, place: str) -> dict[str, str]:
    pairs = found if isinstance(found, list) and all(isinstance(pair, tuple) for pair in found) else []
    names = [name for pair in pairs for name in pair]
    wrong = [name for name in names if isinstance(name, bool) or not isinstance(name, str | int)]
    if not pairs or wrong:
        got = f", got {wrong[0]!r} (in YAML, quote it)" if wrong else ""
        raise LabelError(f'--label-map {place!r:.80}: expected {{"model\'s name": "data\'s name", ...}}{got}.')
    result = {str(model_name): str(data_name) for model_name, data_name in pairs}
    if len(result) < len(pairs):
        twice = next(str(name) for name, _ in pairs if [str(n) for n, _ in pairs].count(str(name)) > 1)
        raise LabelError(f"--label-map {place!r:.80}: the model's label {twice!r} occurs twice.")
    return result


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(f"{index}={name}" for index, name in enumerate(names[:20]))
    return shown + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
