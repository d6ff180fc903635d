"""Several exported models in one folder."""

from collections.abc import Sequence
from pathlib import Path

from eyas.runtime.alignment import WordEncoder
from eyas.runtime.manifest import Manifest
from eyas.runtime.predictor import Predictor


def places_of(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """The place of each of `names` in `known`; of an unknown one, the place after the last."""
    places = {name: number for number, name in enumerate(known)}
    return [places.get(name, len(known)) for name in names]


class Stages(Predictor):
    """Models, each in a folder of its own; subclasses say how they answer together.

    Args:
        folder, threads, self_test, abstain_below: as for `Predictor`.
    """

    def __init__(
        self, folder: str | Path, threads: int = 1, self_test: bool = True, abstain_below: float | None = None
    ) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        self.stages = [Predictor(self.folder / stage["folder"], threads, self_test) for stage in self.manifest.stages]
        self.task, self.pair = self.manifest.meaning, self.manifest.pair
        self.label_names, self.data_labels = self.manifest.labels, self.manifest.data_labels
        self.max_length = min(stage.max_length for stage in self.stages)
        self.abstain(self.manifest.abstain_below if abstain_below is None else abstain_below)
        # A cascade knows which outputs mean the same; others go by their names.
        self.orders = [
            about.get("order") or places_of(self.label_names, stage.label_names)
            for about, stage in zip(self.manifest.stages, self.stages, strict=True)
        ]

    def count_cut(self, before: Sequence[int]) -> None:
        """Count the texts of a call that were cut: one that several models cut counts once.

        Args:
            before: what each model had cut before the call.
        """
        self.cut += max(stage.cut - cut for stage, cut in zip(self.stages, before, strict=True))

    @property
    def words(self) -> WordEncoder:
        return self.stages[0].words
