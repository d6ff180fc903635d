"""Latency at batch size 1, one thread: exported students beside a MiniLM teacher, BERT-base, Model2Vec and fastText.

All sit in one process and take turns on the same texts, in runs of ten; every text comes once. The figure is the median
over all texts, of the processor's time; ratios are taken within each round (their median and range are given). Weights
are random but for the vocabulary: speed does not depend on them. Every model has the teacher's WordPiece tokenizer but
the word-level ones.

    python benchmarks/inference.py --teacher TEACHER --text FILE
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from common import machine, write_rows
from datasets import Dataset
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

from eyas.data.tokenization import cut_tokenizer, word_counts, word_tokenizer
from eyas.export import as_wordpiece
from eyas.export.arrays import find_arrays
from eyas.export.onnx import input_names, write_onnx
from eyas.models import STUDENTS
from eyas.runtime.arrays import ArraysRun
from eyas.runtime.tokens import TextEncoder, find_alike

LENGTHS = (16, 32, 128)
RUN = 10
# Of `bilstm`, beside the default of 150 in each direction.
LSTM_UNITS = (100, 75)


class Exported:
    """Tokenizer and session, or numpy's arrays of a `static` student, as `Predictor` uses them."""

    def __init__(self, tokenizer: Tokenizer, path: Path, model=None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.names = [node.name for node in self.session.get_inputs()]
        file = path.with_suffix(".json")
        tokenizer.save(str(file), pretty=False)
        alike = find_alike(file, 256)
        self.encode = TextEncoder(file, 256, **alike) if alike else lambda text: tokenizer.encode(text).ids[:256]
        self.size_bytes = path.stat().st_size + file.stat().st_size
        arrays = find_arrays(path, model)
        self.arrays = arrays and ArraysRun(path, arrays)

    def tokenize(self, text: str) -> Any:
        if self.arrays:
            return self.encode(text)
        ids = np.array([self.encode(text)], dtype=np.int64)
        if self.names == ["input_ids"]:
            return {"input_ids": ids}
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return {name: feed[name] for name in self.names}

    def run(self, feed: Any) -> None:
        if self.arrays:
            self.arrays.one(feed)
        else:
            self.session.run(None, feed)


class Function:
    """A peer that takes text and cannot be timed in parts."""

    def __init__(self, predict, size_bytes: int) -> None:
        self.predict, self.size_bytes = predict, size_bytes

    def tokenize(self, text: str) -> str:
        return text

    def run(self, text: str) -> None:
        self.predict(text)


def students(tokenizer, texts: Dataset, folder: Path, vocab_size: int, suffix: str) -> dict[str, Exported]:
    found = {}
    known = {name: (model_class, {}) for name, model_class in STUDENTS.items()}
    known |= {f"bilstm-h{units}": (STUDENTS["bilstm"], {"hidden_size": units}) for units in LSTM_UNITS}
    for name, (model_class, sizes) in known.items():
        torch.manual_seed(0)
        size = 100 if suffix == "-word" else 128
        config = model_class.config_class(vocab_size=vocab_size, embedding_size=size, num_labels=2, **sizes)
        model = model_class(config).eval()
        for precision in ("fp32", "int8"):
            path = folder / f"{name}{suffix}-{precision}.onnx"
            write_onnx(model, ["input_ids"], path, precision)
            found[f"{name}{suffix} {precision}"] = Exported(tokenizer, path, model)
    return found


def transformer(model, wrapped, folder: Path, name: str) -> dict[str, Exported]:
    tokenizer = Tokenizer.from_str(wrapped.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    found = {}
    for precision in ("fp32", "int8"):
        path = folder / f"{name}-{precision}.onnx"
        write_onnx(model.eval(), input_names(model, wrapped), path, precision)
        found[f"{name} {precision}"] = Exported(tokenizer, path)
    return found


def peers(texts: list[str], tokenizer: Tokenizer) -> dict[str, Function]:
    """Model2Vec's classifier and fastText, where they are installed."""
    found = {}
    try:
        from model2vec import StaticModel
    except ImportError:
        print("model2vec is not installed: left out")
    else:
        random = np.random.default_rng(0)
        table = random.normal(size=(tokenizer.get_vocab_size(), 128)).astype(np.float32)
        static, head = StaticModel(table, tokenizer, normalize=True), random.normal(size=(128, 2))
        # A linear head in numpy: scikit-learn's own call would cost more than the model.
        found["Model2Vec 128d + linear"] = Function(lambda text: static.encode([text]) @ head, table.nbytes)
    try:
        import fasttext
    except ImportError:
        print("fasttext is not installed: left out")
    else:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.writelines(f"__label__{i % 2} {text}\n" for i, text in enumerate(texts))
            file.flush()
            model = fasttext.train_supervised(file.name, dim=100, wordNgrams=2, bucket=100_000, epoch=1, verbose=0)
        size = model.get_input_matrix().nbytes
        found["fastText 100d, bigrams"] = Function(lambda text: model.f.predict(text + "\n", 1, 0.0, "strict"), size)
    return found


def texts_of_length(lines: list[str], tokenizer: Tokenizer, length: int, count: int) -> list[str]:
    """Real text, cut so that the teacher's tokenizer makes `length` tokens of it, special ones counted."""
    words = " ".join(lines).split()
    found, start = [], 0
    while len(found) < count and start < len(words) - length:
        end, text = start + 1, words[start]
        while len(tokenizer.encode(text).ids) < length:
            end += 1
            text = " ".join(words[start:end])
        if len(tokenizer.encode(text).ids) == length:
            found.append(text)
        start = end
    return found


def measure(models: dict, texts: list[str]) -> dict[str, dict[str, list[float]]]:
    """{name: {"total" | "model": seconds of each text}}."""
    times = {name: {"total": [], "model": []} for name in models}
    for start in range(0, len(texts), RUN):
        part = texts[start : start + RUN]
        for name, model in models.items():
            model.run(model.tokenize(part[0]))
            for text in part:
                started = time.process_time()
                feed = model.tokenize(text)
                middle = time.process_time()
                model.run(feed)
                ended = time.process_time()
                times[name]["total"].append(ended - started)
                times[name]["model"].append(ended - middle)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="a fine-tuned BERT-type classifier")
    parser.add_argument("--text", required=True, help="a file of English lines")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=40, help="texts of each length")
    parser.add_argument("--out", default="benchmarks/results/inference.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [line.strip() for line in Path(arguments.text).read_text(errors="replace").splitlines() if line.strip()]
    texts = Dataset.from_dict({"text": lines[:20_000]})
    wrapped = AutoTokenizer.from_pretrained(arguments.teacher)
    cut = cut_tokenizer(wrapped, texts, 256, vocab_size=10_000)
    words = [word for word, _ in word_counts(texts, word_tokenizer([], lowercase=True)).most_common(9_996)]
    by_word = Tokenizer.from_str(json.dumps(as_wordpiece(json.loads(word_tokenizer(words, lowercase=True).to_str()))))
    plain = Tokenizer.from_str(wrapped.backend_tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = BertForSequenceClassification(BertConfig(num_labels=2))
        models = transformer(base, wrapped, folder, "BERT-base")
        teacher = AutoModelForSequenceClassification.from_pretrained(arguments.teacher, dtype=torch.float32)
        models |= transformer(teacher, wrapped, folder, "MiniLM-L6")
        models |= students(cut, texts, folder, cut.get_vocab_size(), "")
        models |= students(by_word, texts, folder, by_word.get_vocab_size(), "-word")
        models |= peers(lines[:2000], plain)
        fresh = lines[len(lines) // 2 :]
        for length in LENGTHS:
            per_round = arguments.count
            chosen = texts_of_length(fresh, plain, length, per_round * arguments.rounds)
            times = measure(models, chosen)
            for part in ("total", "model"):
                reference = {
                    name: np.array(times[name][part]).reshape(-1, per_round)
                    for name in ("BERT-base fp32", "BERT-base int8")
                }
                for name in models:
                    own = np.array(times[name][part]).reshape(-1, per_round)
                    ratios = np.median(reference["BERT-base fp32"], axis=1) / np.median(own, axis=1)
                    row = {
                        "model": name,
                        "tokens": length,
                        "tokenization": part == "total",
                        "median_us": round(float(np.median(own)) * 1e6, 1),
                        "times_faster_than_bert_base_fp32": round(float(np.median(ratios)), 1),
                        "lowest_round": round(float(ratios.min()), 1),
                        "highest_round": round(float(ratios.max()), 1),
                        "times_faster_than_bert_base_int8": round(
                            float(np.median(reference["BERT-base int8"]) / np.median(own)), 1
                        ),
                        "size_bytes": models[name].size_bytes,
                        **machine(),
                    }
                    rows.append(row)
                    print(json.dumps({k: row[k] for k in list(row)[:9]}), flush=True)
    write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
