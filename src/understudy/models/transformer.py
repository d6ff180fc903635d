"""Small transformers of the teacher's own family: BERT-Tiny to BERT-Medium (Turc et al. 2019, table 1)."""

import copy
from dataclasses import dataclass
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedModel

from understudy.errors import ModelError


@dataclass(frozen=True)
class Size:
    """Layers, width, attention heads and width of the feed-forward layer."""

    layers: int
    hidden_size: int
    heads: int
    feed_forward: int


TRANSFORMERS: dict[str, Size] = {
    "bert-tiny": Size(2, 128, 2, 512),
    "bert-mini": Size(4, 256, 4, 1024),
    "bert-small": Size(4, 512, 8, 2048),
    "bert-medium": Size(8, 512, 8, 2048),
}
# What a family calls the width of its feed-forward layer, and what else is as wide as its layers.
FEED_FORWARD, WIDTHS = ("intermediate_size", "hidden_dim"), ("embedding_size", "pooler_hidden_size")


def new_transformer(teacher: PreTrainedModel, size: Size, tagging: bool, **settings: Any) -> PreTrainedModel:
    """A model of the teacher's family with random weights.

    Args:
        settings: fields of its configuration.

    Raises:
        ModelError: the teacher is no transformer, or of a family whose sizes are called otherwise.
    """
    config = copy.deepcopy(teacher.config)
    feed_forward = next((name for name in FEED_FORWARD if hasattr(config, name)), None)
    if feed_forward is None or not hasattr(config, "num_hidden_layers"):
        raise ModelError(
            f"A student like {type(teacher).__name__} cannot be made smaller here: its configuration names no layers. "
            "Choose static, cnn, bilstm or cnn-lstm."
        )
    config.num_hidden_layers, config.hidden_size = size.layers, size.hidden_size
    config.num_attention_heads = size.heads
    setattr(config, feed_forward, size.feed_forward)
    for name in WIDTHS:
        if hasattr(config, name):
            setattr(config, name, size.hidden_size)
    for name, value in settings.items():
        setattr(config, name, value)
    auto: Any = AutoModelForTokenClassification if tagging else AutoModelForSequenceClassification
    model: PreTrainedModel = auto.from_config(config).float()
    return model
