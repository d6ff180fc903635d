"""A task of generation: letters and their translation, letter by letter."""

import random
from typing import Any

WORDS = dict(zip("abcdefghij", "klmnopqrst", strict=True))
TINY = "layers=2,hidden_size=32,heads=2,feed_forward=32,vocab_size=60"
# Arguments with which a tiny model learns most of it.
LEARNS: dict[str, Any] = {
    "num_train_epochs": 16,
    "learning_rate": 5e-3,
    "label_smoothing_factor": 0.0,
    "per_device_train_batch_size": 32,
    "bf16": False,
}


def letter_rows(count: int, seed: int) -> list[dict[str, str]]:
    chosen = random.Random(seed)
    sources = [chosen.sample(list(WORDS), chosen.randint(2, 4)) for _ in range(count)]
    return [{"source": " ".join(s), "target": " ".join(WORDS[word] for word in s)} for s in sources]
