"""Several encoders under one head, to be trained together."""

import copy
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from eyas.errors import ModelError
from eyas.models.several_tasks import Several


class SharedHead(PreTrainedModel, Several):
    """Classifiers whose pooling and output layers are the same ones (MT-BERT, Wu et al. 2021).

    It exists while they are trained; each is saved as the ordinary model that it is.

    Args:
        models: the classifiers, by name. Their heads become that of the first.

    Raises:
        ModelError: their heads have other layers or sizes.
    """

    def __init__(self, models: dict[str, Any]) -> None:
        (first, head), *others = models.items()
        for name, model in others:
            _share(head, model, first, name)
        config = copy.deepcopy(head.config)
        config._attn_implementation = "eager"  # of this class, which has no attention: each model keeps its own
        super().__init__(config)
        self.places = {name: place for place, name in enumerate(models)}
        self.models = nn.ModuleList(models.values())  # not by name: torch takes no name with a dot
        self.all_tied_weights_keys = self.stored_elsewhere()
        self._keys_to_ignore_on_save = set(self.all_tied_weights_keys)

    def forward(self, labels: Tensor | None = None, *, task: str, **inputs: Any) -> Any:
        """The outputs of the classifier `task`."""
        return self.student(task)(labels=labels, **inputs)

    def student(self, task: str) -> Any:
        return self.models[self.places[task]]


def _share(ours: Any, theirs: Any, first: str, name: str) -> None:
    """Give `theirs` the head of `ours`."""
    if _shapes(ours) != _shapes(theirs):
        raise ModelError(
            f"{first} and {name} cannot share a head: it has the sizes {_shapes(ours)} in the one, {_shapes(theirs)} "
            "in the other. Choose encoders of one family and hidden size, or fine-tune each alone."
        )
    for part, module in ours.named_children():
        if part != ours.base_model_prefix:
            setattr(theirs, part, module)
    if getattr(ours.base_model, "pooler", None) is not None:
        theirs.base_model.pooler = ours.base_model.pooler


def _shapes(model: Any) -> dict[str, list[int]]:
    """The sizes of the weights above the encoder's layers: the head, and the pooler."""
    prefix = f"{model.base_model_prefix}."
    return {
        name.removeprefix(prefix): list(weight.shape)
        for name, weight in model.named_parameters()
        if not name.startswith(prefix) or name.startswith(f"{prefix}pooler.")
    }
