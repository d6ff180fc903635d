"""What a teacher writes, and its distributions at the tokens of the targets, on disk: found by `example_id`."""

import hashlib
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from eyas.generation.data import EncodedPairs
from eyas.generation.losses import IGNORED, TopK, top_k
from eyas.generation.models import TextGenerator
from eyas.kinds import GENERATION
from eyas.teachers.cached import CachedRows, Shards, Waiting, claim_cache, write_shards
from eyas.teachers.live import autocast, fingerprint_of

FORMAT_VERSION = 2
ROWS_PER_SHARD = 256
FIELDS = ("words", "log_probabilities")
BATCH = 32


class TeacherCache(CachedRows):
    """Words at the tokens of targets, [tokens, k] int32 each, and perhaps their log-probabilities."""

    def texts(self, ids: np.ndarray) -> list[list[int]]:
        """The words that the teacher wrote for examples.

        Raises:
            CacheError: one is not in the cache.
        """
        words, lengths = self.rows(ids, "words")
        return [part[:, 0].tolist() for part in words.split(lengths.tolist())]

    def distributions(self, examples: Tensor, labels: Tensor) -> TopK:
        """The distributions at the tokens of `labels` [batch, tokens]; at padding anything.

        Raises:
            CacheError: an example is not in the cache.
        """
        found = []
        for name in FIELDS:
            values, lengths = self.rows(examples.cpu().numpy(), name)
            rows = torch.nn.utils.rnn.pad_sequence(values.split(lengths.tolist()), batch_first=True)
            found.append(nn.functional.pad(rows, (0, 0, 0, labels.shape[1] - rows.shape[1])).to(labels.device))
        return TopK(found[0].long(), found[1])


def fingerprint(teacher: TextGenerator, dtype: str) -> dict[str, Any]:
    """What determines the teacher's outputs."""
    weights, tokenizer = fingerprint_of(teacher.model, teacher.tokenizer)
    longest = teacher.model.generation_config.max_length
    search = {k: v for k, v in teacher.model.generation_config.to_diff_dict().items() if k != "transformers_version"}
    about = {"max_length": teacher.max_length, "longest": longest, "search": search, "dtype": dtype}
    return {"teacher_weights": weights, "tokenizer": tokenizer, **about}


def cached(
    teacher: TextGenerator, pairs: EncodedPairs, settings: dict[str, Any], dtype: str, cache: Any
) -> TeacherCache:
    """Compute the teacher's outputs for `pairs` once, in order of length; after an interruption, resume.

    Args:
        settings: {"top_k": k} for distributions at the tokens of the targets, {"beams": n} for texts of the teacher's.
        dtype: precision of the teacher's matrix products.
        cache: the folder; by default one named after all that determines its content.

    Raises:
        CacheError: the folder was made by another teacher or from other data.
    """
    ids, first = np.unique(pairs.ids, return_index=True)
    about = {
        **{"format_version": FORMAT_VERSION, **fingerprint(teacher, dtype), **settings},
        **{"data": hashlib.sha256(ids.tobytes()).hexdigest(), "rows": len(ids)},
    }
    folder = claim_cache(cache, about, GENERATION)
    lengths = np.array([len(source) for source in pairs.sources])
    order = first[np.lexsort((pairs.lengths[first], lengths[first]))]
    ask, setting = (_distributions, "top_k") if "top_k" in settings else (_outputs, "beams")

    def shards(waiting: Waiting) -> Shards:
        for start, rows in waiting.items():
            fields: dict[str, list[Tensor]] = {}
            for part in np.split(rows, range(BATCH, len(rows), BATCH)):
                with torch.no_grad(), autocast(teacher.model.device, dtype):
                    for field, values in ask(teacher, pairs, settings[setting], part.tolist()).items():
                        fields.setdefault(field, []).extend(values)
            whole = {field: torch.cat(values) for field, values in fields.items()}
            whole["lengths"] = torch.tensor([len(words) for words in fields["words"]])
            yield start, save(whole | {"example_id": torch.from_numpy(pairs.ids[rows])})

    return TeacherCache(write_shards(folder, order, shards, ROWS_PER_SHARD), FIELDS[: 2 if "top_k" in settings else 1])


def _distributions(teacher: TextGenerator, pairs: EncodedPairs, k: int, rows: list[int]) -> dict[str, list[Tensor]]:
    model = teacher.model
    batch = teacher.tokenizer.pad({"input_ids": [pairs.sources[row] for row in rows]}, return_tensors="pt")
    targets = [torch.tensor(pairs.targets[row]) for row in rows]
    labels = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED).to(model.device)
    names = ("input_ids", "attention_mask")
    found = top_k(model(**{name: batch[name].to(model.device) for name in names}, labels=labels).logits, k)
    return {
        "words": [words[: len(target)].int().cpu() for words, target in zip(found.words, targets, strict=True)],
        "log_probabilities": [
            values[: len(target)].cpu() for values, target in zip(found.log_probabilities, targets, strict=True)
        ],
    }


def _outputs(teacher: TextGenerator, pairs: EncodedPairs, beams: int, rows: list[int]) -> dict[str, list[Tensor]]:
    end = teacher.model.config.eos_token_id
    found = []
    for ids in teacher.ids([pairs.sources[row] for row in rows], num_beams=beams)[:, 1:].cpu().int():
        ends = (ids == end).nonzero()
        found.append(ids[: int(ends[0]) + 1 if len(ends) else len(ids), None])
    return {"words": found}
