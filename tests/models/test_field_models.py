"""Models of rows of fields: against the operations of the authors' code, and by loops."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from eyas.models import CINConfig, DAGFMConfig
from eyas.models.fields import CINEncoder, CINForSequenceClassification, DAGFMEncoder

GOLDEN = Path(__file__).parents[1] / "golden" / "dagfm.json"
FIELDS = ["user", "item", "hour"]


@pytest.mark.parametrize("interaction", ["inner", "outer"])
def test_dagfm_has_logits_of_the_authors(interaction: str) -> None:
    file = json.loads(GOLDEN.read_text())
    inputs = {name: torch.tensor(given, dtype=torch.float64) for name, given in file["inputs"].items()}
    fields, size = inputs["vectors"].shape[1:]
    config = DAGFMConfig(fields=list(map(str, range(fields))), layers=2, interaction=interaction)
    encoder = DAGFMEncoder(config, size).double()
    parts = [inputs["p"], inputs["q"]][: 1 + (interaction == "outer")]
    with torch.no_grad():
        encoder.mixing.copy_(inputs["connect_layer"])
        encoder.edges.copy_(torch.stack([part.permute(0, 3, 1, 2) for part in parts]))
        states = encoder(inputs["vectors"], torch.ones(len(inputs["vectors"]), fields))
    logits = F.linear(states, inputs["linear_weight"], inputs["linear_bias"])[:, 0]
    torch.testing.assert_close(
        logits, torch.tensor(file["expected"][interaction], dtype=torch.float64), rtol=0, atol=1e-8
    )


def test_cin_sums_products_of_maps_and_fields() -> None:
    config = CINConfig(fields=FIELDS, feature_maps=[2, 2], hidden_sizes=[4])
    encoder = CINEncoder(config, 2).double()
    x = torch.randn(1, 3, 2, dtype=torch.float64)
    found = encoder(x, torch.ones(1, 3))[0]
    maps, sums = x[0].tolist(), [sum(row) for row in x[0].tolist()]
    for layer in encoder.maps:
        weights, bias = layer.weight.tolist(), layer.bias.tolist()  # type: ignore[operator, union-attr]
        new = []
        for own, offset in zip(weights, bias, strict=True):
            row = [offset, offset]
            for i, state in enumerate(maps):
                for j, first in enumerate(x[0].tolist()):
                    row = [r + own[3 * i + j] * a * b for r, a, b in zip(row, state, first, strict=True)]
            new.append(row)
        maps, sums = new, sums + [sum(row) for row in new]
    torch.testing.assert_close(found[:7], torch.tensor(sums, dtype=torch.float64))
    torch.testing.assert_close(found[7:], encoder.deep(x.flatten(1))[0])


def test_unknown_value_is_its_fields_own() -> None:
    model = CINForSequenceClassification(CINConfig(fields=FIELDS, vocab_size=10, max_length=4)).eval()
    start, unknown, user, item = 2, 1, 4, 5  # after four special tokens, the fields without a value
    logits = model(torch.tensor([[start, unknown, 8, 9], [start, user, 8, 9], [start, item, 8, 9]])).logits
    torch.testing.assert_close(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])
    torch.testing.assert_close(logits[:, 0], -logits[:, 1])
