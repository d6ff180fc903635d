"""Microseconds of processor time a text, by `tokenizers` and by what an exported student reads with, and their ids.

python benchmarks/tokenizer_speed.py --tokenizer tokenizer.json --text FILE [FILE ...]
"""

import argparse
import time
from pathlib import Path

from common import machine, write_rows
from tokenizers import Tokenizer

from eyas.runtime.tokens import READ_ALIKE, TextEncoder, find_alike

MAX_LENGTH = 256


def seconds(encode, texts: list[str]) -> float:
    started = time.process_time()
    for text in texts:
        encode(text)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, type=Path, help="the tokenizer.json of an exported student")
    parser.add_argument("--text", required=True, nargs="+", type=Path, help="files with one text a line")
    parser.add_argument("--lines", type=int, default=20_000, help="of each file")
    parser.add_argument("--out", default="benchmarks/results/tokenizer_speed.jsonl")
    arguments = parser.parse_args()
    library = Tokenizer.from_file(str(arguments.tokenizer))
    library.enable_truncation(MAX_LENGTH)
    found = find_alike(arguments.tokenizer, MAX_LENGTH)
    if found is None:
        parser.exit(1, f"{arguments.tokenizer} is not read alike: the library reads all texts.\n")
    encode = TextEncoder(arguments.tokenizer, MAX_LENGTH, **found)
    rows = []
    for path in arguments.text:
        texts = [line.strip() for line in path.read_text(errors="replace").splitlines()][: arguments.lines]
        times = [
            [seconds(lambda text: library.encode(text).ids, part), seconds(encode, part)]
            for part in (texts[start : start + 1000] for start in range(0, len(texts), 1000))
        ]
        slow, fast = (sum(column) / len(texts) * 1e6 for column in zip(*times, strict=True))
        rows.append(
            {
                "text": path.name,
                "texts": len(texts),
                "tokenizers_us": round(slow, 1),
                "eyas_us": round(fast, 1),
                "read_by_tokie": round(
                    sum(map(bool, map(READ_ALIKE[found["texts"]].fullmatch, texts))) / len(texts), 4
                ),
                "other_ids": sum(encode(text) != library.encode(text).ids for text in texts),
                **machine(),
            }
        )
        print({name: rows[-1][name] for name in list(rows[-1])[:6]}, flush=True)
    write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
