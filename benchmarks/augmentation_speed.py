"""How many new texts a second the methods without a model make, and what batching masks brings; on one core.

The masked language model is the teacher's encoder with a random head, since speed is all that is asked of it. The loop
that it stands beside gives it one masked text at a time and takes all its logits, as TinyBERT's code does.

python benchmarks/augmentation_speed.py --data DATA --teacher TEACHER
"""

import argparse
import os
import tempfile
import time

import torch
from common import machine, write_rows
from transformers import AutoModelForMaskedLM

from eyas import Teacher, load_data
from eyas.transfer.augmentation import augment
from eyas.transfer.masked_lm import MaskedLM
from eyas.transfer.words import split_text

METHODS = ("tang:20", "neighbors:20")
MASKED_TEXTS = 200


def one_at_a_time(model, tokenizer, texts):
    """Masks predicted a second."""
    started, count = time.perf_counter(), 0
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, return_tensors="pt").input_ids
            for place in range(1, ids.shape[1] - 1):
                masked = ids.clone()
                masked[0, place] = tokenizer.mask_token_id
                model(input_ids=masked).logits[0, place].topk(15)
                count += 1
    return count / (time.perf_counter() - started)


def batched(folder, texts):
    """Masks predicted a second."""
    lines = [split_text(text) for text in texts]
    filler = MaskedLM(folder, {word for line in lines for word in line.words})
    filler.candidates(lines[:20])
    started = time.perf_counter()
    count = sum(len(names) > 0 for line in filler.candidates(lines) for names in line)
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--out", default="benchmarks/results/augmentation_speed.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    teacher, train = Teacher(arguments.teacher), load_data(arguments.data)["train"]
    train = train.select(range(arguments.rows))
    rows = []
    for method in METHODS:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["EYAS_CACHE"] = cache  # nothing is there already
            started = time.perf_counter()
            count = len(augment(train, method, teacher))
            rate = count / (time.perf_counter() - started)
        rows.append({"method": method, "source_texts": len(train), "texts": count, "per_second": rate, **machine()})
        print(method, f"{rate:,.0f} texts a second", flush=True)
    texts = train["text"][:MASKED_TEXTS]
    with tempfile.TemporaryDirectory() as folder:
        model = AutoModelForMaskedLM.from_config(teacher.model.config).eval()
        model.save_pretrained(folder)
        teacher.tokenizer.save_pretrained(folder)
        rates = {"batched": batched(folder, texts), "one at a time": one_at_a_time(model, teacher.tokenizer, texts)}
    for method, rate in rates.items():
        rows.append({"method": f"masked-lm, {method}", "source_texts": len(texts), "per_second": rate, **machine()})
        print(method, f"{rate:,.0f} masks a second", flush=True)
    write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
