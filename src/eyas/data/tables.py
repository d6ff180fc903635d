"""Tables in memory as a `Dataset`: data frames, columns, texts with labels."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import pandas
import pyarrow
from datasets import Dataset

from eyas.errors import DataError

Table: TypeAlias = Dataset | pandas.DataFrame | Mapping[str, Any] | tuple[Any, Any]
ACCEPTED = (
    "a Dataset, a pandas DataFrame, a dict of columns such as {'text': [...], 'label': [...]}, a tuple "
    "(texts, labels), or a dict of splits such as {'train': ..., 'validation': ...}"
)


def as_dataset(table: Table, name: str) -> Dataset:
    """`table` as a `Dataset`, with the same columns.

    Args:
        table: the texts of `(texts, labels)` become `text`, or `tokens` if they are lists of words.
        name: its name in messages.

    Raises:
        DataError: an unsupported type, or columns that do not fit together.
    """
    if isinstance(table, Dataset):
        return table.with_format(None)
    if not isinstance(table, pandas.DataFrame | Mapping | tuple) or (isinstance(table, tuple) and len(table) != 2):
        raise DataError(f"{name}: got {_described(table)}, expected a path, a Hub name, {ACCEPTED}.")
    try:
        if isinstance(table, pandas.DataFrame):
            return Dataset.from_pandas(table, preserve_index=False)
        columns = table if isinstance(table, Mapping) else _text_and_label(table, name)
        return Dataset(
            pyarrow.table({str(key): _column(values, f"{name}, {key!r}") for key, values in columns.items()})
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {error}. Expected columns of the same length, each of one type.") from None


def _text_and_label(table: tuple[Any, Any], name: str) -> dict[str, Any]:
    texts, labels = table
    text, label = next(iter(texts), ""), next(iter(labels), "")
    if isinstance(text, str):
        return {"text": texts, "label": labels}
    if isinstance(label, str) or not hasattr(label, "__len__"):
        raise DataError(
            f"{name}: the first text is {text!r:.60}, its label {label!r:.60}. Each list of words needs a list "
            "of tags. Pass pairs of texts as {'text': [...], 'text_pair': [...], 'label': [...]}."
        )
    return {"tokens": texts, "label": labels}


def _column(values: Any, name: str) -> pyarrow.Array:
    if isinstance(values, str | Mapping | Dataset | pandas.DataFrame):
        raise DataError(
            f"{name}: got {_described(values)}, expected a list. Splits are called train, validation and test."
        )
    try:
        return pyarrow.array(values, from_pandas=True)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {error}. Expected a list of values of one type.") from None


def _described(value: Any) -> str:
    return type(value).__name__ + (f" of {len(value)} items" if isinstance(value, list | tuple) else "")
