"""Models of rows of categorical fields: a vector for each field, and interactions of these factors."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from eyas.data.tokenization import SPECIAL_TOKENS, UNKNOWN
from eyas.models.configuration import CINConfig, DAGFMConfig
from eyas.models.sequence import StudentForSequenceClassification
from eyas.models.student import TextEncoder


class DAGFMEncoder(TextEncoder):
    """Interactions that pass along a directed acyclic graph of the fields (Tian et al. 2023, KD-DAGFM).

    In each layer, a field receives the states of itself and the fields before it, each through weights of that edge,
    and multiplies their sum by its first state. The sums of all states over their dimensions are the output.
    """

    def __init__(self, config: DAGFMConfig, input_size: int) -> None:
        super().__init__()
        fields, self.outer = len(config.fields), config.interaction == "outer"
        shape = (1 + self.outer, config.layers, input_size, fields, fields)
        self.mixing = nn.Parameter(torch.eye(fields))
        self.edges = nn.Parameter(torch.randn(shape) * math.sqrt(2 / (fields * input_size)))
        self.output_size = fields * (config.layers + 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        first = state = self.mixing @ x
        sums = [state.sum(-1)]
        for edges in torch.triu(self.edges).unbind(1):  # [1 or 2, size, from, to]
            if self.outer:  # a matrix of rank one for each edge
                passed = torch.einsum("bfd,dft->bft", state, edges[0])
                received = torch.einsum("bft,dft->btd", passed, edges[1])
            else:
                received = torch.einsum("bfd,dft->btd", state, edges[0])
            state = first * received
            sums.append(state.sum(-1))
        return torch.cat(sums, -1)


class CINEncoder(TextEncoder):
    """A compressed interaction network beside a multilayer perceptron (xDeepFM, Lian et al. 2018, equations 6 to 8)."""

    def __init__(self, config: CINConfig, input_size: int) -> None:
        super().__init__()
        fields = len(config.fields)
        maps, widths = [fields, *config.feature_maps], [fields * input_size, *config.hidden_sizes]
        self.maps = nn.ModuleList(nn.Linear(before * fields, after) for before, after in pairwise(maps))
        layers = [[nn.Linear(before, after), nn.ReLU()] for before, after in pairwise(widths)]
        self.deep = nn.Sequential(*(part for layer in layers for part in layer))
        self.output_size = sum(maps) + widths[-1]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        first = state = x.transpose(1, 2)  # [batch, size, fields]
        sums = [first.sum(1)]
        for layer in self.maps:
            state = layer((state.unsqueeze(-1) * first.unsqueeze(-2)).flatten(2))
            sums.append(state.sum(1))
        return torch.cat([*sums, self.deep(x.flatten(1))], -1)


class FieldsForSequenceClassification(StudentForSequenceClassification):
    """A model of rows of fields. Its logits for 0 and 1 are opposite: half the logit of a click."""

    config: DAGFMConfig | CINConfig

    scale = 0.05  # the model multiplies several vectors

    def read(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vectors [rows, fields, size]; a value that is not known is read as its field's own unknown value."""
        ids = input_ids[:, 1 : 1 + len(self.config.fields)]  # the first token is special
        unknown = len(SPECIAL_TOKENS) + torch.arange(len(self.config.fields), device=ids.device)
        ids = torch.where(ids == SPECIAL_TOKENS.index(UNKNOWN), unknown, ids)
        return self.embeddings(ids), ids != self.config.pad_token_id

    def answer(self, x: Tensor, mask: Tensor) -> SequenceClassifierOutput:
        logits = self.head(self.encode(x, mask))
        return SequenceClassifierOutput(logits=logits - logits.mean(-1, keepdim=True))


class DAGFMForSequenceClassification(FieldsForSequenceClassification):
    config_class = DAGFMConfig
    encoder_class = DAGFMEncoder


class CINForSequenceClassification(FieldsForSequenceClassification):
    config_class = CINConfig
    encoder_class = CINEncoder


FIELD_MODELS: dict[str, type[FieldsForSequenceClassification]] = {
    "dagfm": DAGFMForSequenceClassification,
    "dagfm-outer": DAGFMForSequenceClassification,
    "cin": CINForSequenceClassification,
}
"""The models of rows of fields, by the names of `settings.FIELD_MODELS`."""
