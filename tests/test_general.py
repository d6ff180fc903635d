"""The general students that the package includes."""

import json
from pathlib import Path

import pytest

from eyas.general import families, read_general, shares_of_known_words
from eyas.settings import STUDENTS

MOST_BYTES = 12_000_000


@pytest.fixture(autouse=True)
def _shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EYAS_GENERAL")


def test_package_includes_english_students() -> None:
    model, tokenizer = read_general("general-en")
    assert list(model.config.members) == list(STUDENTS)
    assert model.config.tokens
    assert len(tokenizer) == model.config.vocab_size
    shares = shares_of_known_words(["The delivery was late, but the staff were friendly and helpful."], 64)
    assert shares["general-en"] > 0.9


def test_families_are_small_and_have_cards_with_licenses() -> None:
    size = 0
    for folder in families().values():
        size += sum(file.stat().st_size for file in folder.iterdir())
        card = (folder / "README.md").read_text()
        rows = [line for line in card.splitlines() if line.count("|") == 5]
        assert len(rows) > 20
        assert all(line.split("|")[3].strip() for line in rows)
        assert json.loads((folder / "config.json").read_text())["model_type"] == "eyas-family"
    assert size <= MOST_BYTES


def test_shipped_weights_are_no_git_lfs_pointers() -> None:
    assert all(Path(folder / "weights.safetensors").stat().st_size > 1_000_000 for folder in families().values())
