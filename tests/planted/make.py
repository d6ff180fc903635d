"""Make the tiny teachers that the tests share, and the results of an exam.

`PYTHONPATH=tests python tests/planted/make.py` takes some minutes; `... make.py exam` makes the exam alone.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tagging import FRAMES as TAG_FRAMES
from tagging import PEOPLE, PLACES, sentences
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from toys import ROWS, toy_rows, write_jsonl, write_toy
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

from eyas import Classifier, FinetuneSettings, evaluate, load_data
from eyas.exam.plan_file import make_plan
from eyas.exam.results import COSTS, DIFFERENCES, MACHINE, PLAN, PREDICTIONS, RESULT, RESULTS, SHIPPED, TIMING
from eyas.exam.run import run_exam
from eyas.outputs import RUN_FILE
from eyas.training.finetune import finetune
from eyas.training.folders import HISTORY

STEPS = 1200
# Evaluate only at the end: otherwise, the best checkpoint is the first accurate one, which is not confident.
ARGUMENTS = {
    "max_steps": STEPS,
    "eval_strategy": "steps",
    "eval_steps": STEPS,
    "save_strategy": "steps",
    "save_steps": STEPS,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
    "bf16": False,
}
MARKS = ["<s>", "</s>", "<pad>", "<unk>"]


def tiny_bert() -> Path:
    """A BERT of hidden size 32 with random weights, and a WordPiece tokenizer that knows the words of all toy data."""
    written = [row["text"] for row in toy_rows(400)] + TAG_FRAMES + PEOPLE + PLACES
    words = sorted({word for text in written for word in text.split() if word.isalpha()})
    characters = sorted(set("".join(words)) | set("0123456789',."))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters), *words]
    tokens += ["st", "mr", "hara"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    return _encoder(wrapped, HERE / "tiny-bert")


def other_bert(kind: str, folder: Path) -> Path:
    """The same size with a tokenizer that marks words differently."""
    names = dict(zip(("cls_token", "sep_token", "pad_token", "unk_token"), MARKS, strict=True))
    inputs = ["input_ids", "attention_mask"]
    return _encoder(
        PreTrainedTokenizerFast(tokenizer_object=TOKENIZERS[kind](), model_input_names=inputs, **names), folder
    )


def _encoder(tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    tokenizer.save_pretrained(folder)
    set_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def _byte_level() -> Tokenizer:
    """As in RoBERTa: the space before a word marks it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(tokenizer, trainers.BpeTrainer(vocab_size=400, special_tokens=MARKS, initial_alphabet=alphabet))


def _ends() -> Tokenizer:
    """As in HerBERT: no mark shows whether a subword starts a word."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _trained(tokenizer, trainers.BpeTrainer(vocab_size=150, special_tokens=MARKS, end_of_word_suffix="</w>"))


def _unigram() -> Tokenizer:
    """As in XLM-R."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return _trained(tokenizer, trainers.UnigramTrainer(vocab_size=150, special_tokens=MARKS, unk_token="<unk>"))


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": _byte_level,
    "ends": _ends,
    "unigram": _unigram,
}


def _trained(tokenizer: Tokenizer, trainer: trainers.Trainer) -> Tokenizer:
    texts = [" ".join(word for word, _ in sentence) for sentence in sentences(300)]
    tokenizer.train_from_iterator(texts, trainer)
    ids = [(name, tokenizer.token_to_id(name)) for name in MARKS[:2]]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=ids
    )
    return tokenizer


def teacher(name: str, encoder: Path, data: Path) -> None:
    """Fine-tune `encoder`. It must be nearly always right, so that no test depends on its score."""
    if name in ROWS:  # accurate whatever number follows a text
        more = [row for start in (0, 3000, 5000, 7000) for row in ROWS[name](240, start)]
        write_jsonl(data / "train.jsonl", more)
    rows = load_data(data)
    folder = finetune(encoder, rows, HERE / name, FinetuneSettings(ARGUMENTS, max_length=64), overwrite=True)
    _forget_this_machine(folder)
    found = evaluate(Classifier.from_pretrained(folder), rows["test"])
    print(name, {metric: round(value, 3) for metric, value in found.items() if isinstance(value, float)})


def _forget_this_machine(folder: Path) -> None:
    """Remove paths and times, which do not belong in the repository."""
    about = json.loads((folder / RUN_FILE).read_text())
    about["settings"] = {"command": "finetune", "model": "tiny-bert", "arguments": ARGUMENTS, "seed": 0}
    (folder / RUN_FILE).write_text(json.dumps(about, indent=2) + "\n")


def exam(root: Path) -> None:
    """Run an exam with two students, three recipes and two transfer sets, and keep the files that the page reads."""
    films = write_toy("films", root / "reviews")
    data = [{"source": str(films), "name": "films"}]
    data += [{"source": str(films), "name": "more", "augment": ["tang:2"], "mixup": 0.4}]
    plan = make_plan(
        data=data,
        teacher=str(HERE / "films"),
        students=[{"architecture": name, "embedding_size": 16, "hidden_size": 32} for name in ("static", "cnn")],
        recipes=["logit-mse", "soft-targets", "soft-targets loss=huber"],
        seeds=[0],
        arguments={"num_train_epochs": 1, "per_device_train_batch_size": 16},  # some learn it, some do not
        cost={"texts": 10, "rounds": 1},
    )
    made = run_exam(plan, root / "exam", jobs=0)
    shutil.rmtree(HERE / "exam", ignore_errors=True)
    names = (*(RESULTS, COSTS, PLAN, MACHINE, RUN_FILE), *(PREDICTIONS, DIFFERENCES, RESULT, TIMING, HISTORY))
    for name in names:
        for file in made.rglob(name):
            if SHIPPED not in file.parts and (file.name != RUN_FILE or file.parent == made):
                (HERE / "exam" / file.relative_to(made)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, HERE / "exam" / file.relative_to(made))
    written = (made / PLAN).read_text().replace(f"{root}/", "").replace(f"{HERE}/", "")
    (HERE / "exam" / PLAN).write_text(written)


def main(only: str = "") -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        os.environ["EYAS_CACHE"] = str(root / "cache")
        if only != "exam":
            for name in ("tiny-bert", "tags", *ROWS, *TOKENIZERS):
                shutil.rmtree(HERE / name, ignore_errors=True)
            encoder = tiny_bert()
            for kind in (*ROWS, "tags"):
                teacher(kind, encoder, write_toy(kind, root / kind))
            for kind in TOKENIZERS:
                teacher(kind, other_bert(kind, root / f"{kind}-encoder"), root / "tags")
        exam(root)


if __name__ == "__main__":
    main(*sys.argv[1:])
