"""The data of one task, as returned by `load_data`."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from datasets import Dataset, DatasetDict

from eyas.data.splits import data_fingerprint, is_labeled, is_pair, is_read
from eyas.data.targets import task_of, with_labels_of
from eyas.errors import DataError, LabelError
from eyas.tasks import Task
from eyas.verbosity import without_bars


class TaskData(DatasetDict):  # type: ignore[misc] # datasets has no types
    """The splits of one task: `train`, usually `validation`, sometimes `test`. Behaves like a `DatasetDict`.

    Its properties are read from the splits on each access, so a split may be replaced.
    """

    @classmethod
    def of(cls, splits: Mapping[str, Dataset]) -> "TaskData":
        """Wrap splits that come from `load_data`.

        Raises:
            DataError: there is no `train`, or a split does not have the columns and ids of `load_data`.
        """
        foreign = [name for name, rows in splits.items() if not is_read(rows)]
        if foreign or "train" not in splits:
            why = f"the split {foreign[0]!r} is not from load_data" if foreign else "there is no split 'train'"
            raise DataError(f"Expected splits from load_data, but {why}. Pass all splits to load_data.")
        return cls(splits)

    @property
    def task(self) -> Task:
        return task_of(self["train"])

    @property
    def labels(self) -> list[str]:
        """The output names, in the order of their ids."""
        return list(self.task.labels)

    @property
    def is_pair(self) -> bool:
        return is_pair(self["train"])

    def fingerprint(self, split: str | None = None) -> str:
        """A checksum of the texts and labels of a split in order; by default of all splits and the label names."""
        if split is not None:
            return data_fingerprint(self[split])
        about = [self.task.kind, self.labels, {name: data_fingerprint(rows) for name, rows in self.items()}]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    @without_bars()
    def with_labels_of(self, model_names: Sequence[str], label_map: Mapping[str, str] | None = None) -> "TaskData":
        """The same data with the labels that only the model has appended (see `targets.with_labels_of`)."""
        return TaskData({name: with_labels_of(rows, model_names, label_map) for name, rows in self.items()})

    def check_validation(self) -> None:
        """Check that the validation split can choose a checkpoint.

        Raises:
            LabelError: it has no labels.
        """
        if not is_labeled(self["validation"]).any():
            raise LabelError(
                "The validation split has no labels, but it chooses the best checkpoint. Label it, or remove it "
                "to use a tenth of train instead."
            )
