"""Rules that make new texts from existing ones (Tang et al. 2019, section 3.3)."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from datasets import Dataset

from eyas.data.tokenization import batches_of_texts
from eyas.transfer.words import Words, texts_as_words

MOST_GRAMS = 5
SUFFIX = 2


class Perturbation:
    """Masks words, swaps words for others of their class, and cuts out n-grams.

    Each word is masked with `mask_probability`, or swapped with `swap_probability` for a word of its class, drawn by
    frequency. Then, with `ngram_probability`, one to five neighboring words are kept and the rest is dropped.

    Args:
        counts: how often each word occurs in the texts to augment.
        mask: the replacement for a masked word: the teacher's mask token.
        mask_probability, swap_probability, ngram_probability: by default as in the paper's code (0.1, 0.1, 0.25).
        word_class: maps a word and its count to its class. The paper uses parts of speech; the default,
            `shape_class`, needs no tagger and works in any language.
    """

    def __init__(
        self,
        counts: Counter[str],
        mask: str,
        mask_probability: float = 0.1,
        swap_probability: float = 0.1,
        ngram_probability: float = 0.25,
        word_class: Callable[[str, int], str] | None = None,
    ) -> None:
        self.mask = mask
        self.mask_probability, self.swap_probability = mask_probability, swap_probability
        self.ngram_probability = ngram_probability
        classes: dict[str, list[str]] = defaultdict(list)
        self._class_of = {word: (word_class or shape_class)(word, count) for word, count in counts.items()}
        for word, name in self._class_of.items():
            classes[name].append(word)
        self._members = {name: words for name, words in classes.items() if len(words) > 1}
        self._cumulative = {n: np.cumsum([counts[word] for word in words]) for n, words in self._members.items()}

    def variants(self, texts: Sequence[Words], count: int, random: np.random.Generator) -> list[list[Words]]:
        """For each text `count` variants; some may be identical."""
        return [[self._variant(text, random) for _ in range(count)] for text in texts]

    def _variant(self, text: Words, random: np.random.Generator) -> Words:
        chosen = {}
        draws = random.random(len(text)).tolist()
        changing = self.mask_probability + self.swap_probability
        for place in text.free:
            if draws[place] < self.mask_probability:
                chosen[place] = self.mask
            elif draws[place] < changing:
                other = self._swap(text.words[place], random)
                if other != text.words[place]:
                    chosen[place] = other
        variant = text.replaced(chosen) if chosen else text
        if random.random() < self.ngram_probability:
            length = int(random.integers(1, MOST_GRAMS + 1))
            start = int(random.integers(text.fixed, max(len(text) - length, text.fixed) + 1))
            variant = variant.span(start, start + length)
        return variant

    def _swap(self, word: str, random: np.random.Generator) -> str:
        name = self._class_of.get(word, "")
        if name not in self._members:
            return word
        cumulative = self._cumulative[name]
        return self._members[name][int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))]


def shape_class(word: str, count: int) -> str:
    """A word's class by its form and frequency: digits, symbols, case, last letters, order of magnitude.

    Endings indicate parts of speech in many languages, and frequency separates function words from the rest.
    """
    if any(character.isdigit() for character in word):
        return "number"
    if not any(character.isalpha() for character in word):
        return "sign"
    case = "upper" if word.isupper() else "title" if word[0].isupper() else "lower"
    return f"{case} -{word[-SUFFIX:].lower()} {int(math.log10(count))}"


def count_words(dataset: Dataset) -> Counter[str]:
    """How often each word of `dataset` occurs; words are split as by `split_text`."""
    counts: Counter[str] = Counter()
    for batch in batches_of_texts(dataset):
        for row in texts_as_words(batch):
            counts.update(_flat(part.words[part.fixed :] for part in row))
    return counts


def _flat(parts: Iterable[Sequence[str]]) -> Iterable[str]:
    return (word for part in parts for word in part)
