"""How many of a data set's running words general students know: the share that is one token of the vocabulary of
all-MiniLM-L6-v2 (English) and of me5-small-en-id (English and Indonesian). What `FEWEST_KNOWN` rests on.

    python benchmarks/known_words.py --shared SHARED
"""

import argparse
import logging
from pathlib import Path

from common import machine, write_rows
from transformers import AutoTokenizer

from eyas import load_data
from eyas.demo import encoder_folder
from eyas.general import known_words

RESULTS = Path(__file__).parent / "results" / "known_words.jsonl"
ENGLISH = (
    *("sst2-sentences", "sst5", "trec", "agnews", "banking77", "clinc150", "mrpc", "stsb", "snips", "wnut17"),
    *("conll2000", "wikiann-en", "reviews-by-domain/kitchen", "reviews-by-domain/books"),
)
INDONESIAN = tuple(f"indonlu/{name}" for name in ("smsa", "emot", "nergrit", "nerp", "posp", "hoasa", "terma", "wrete"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    shared = parser.parse_args().shared
    logging.disable(logging.WARNING)
    folders = {"en": encoder_folder(), "en-id": shared / "models" / "me5-small-en-id"}
    tokenizers = {name: AutoTokenizer.from_pretrained(path).backend_tokenizer for name, path in folders.items()}
    rows = []
    for language, names in (("en", ENGLISH), ("id", INDONESIAN)):
        for name in names:
            texts = load_data(shared / "data" / name)["train"]["text"]
            shares = {vocabulary: known_words(one, texts, 128) for vocabulary, one in tokenizers.items()}
            rows.append({"data": name, "language": language, **shares, **machine()})
            print(name, {vocabulary: f"{share:.2f}" for vocabulary, share in shares.items()}, flush=True)
    write_rows(RESULTS, rows)


if __name__ == "__main__":
    main()
