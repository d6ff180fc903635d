"""Augmentation: the texts of each method, and reproducibility by seed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import teach
from toys import NEGATIVE, POSITIVE, write_jsonl
from transformers import BertConfig, BertForMaskedLM, BertModel, set_seed

from eyas import Classifier, StudentSettings, Teacher, load_data
from eyas.data.datasets import ids_of, labels_of, word_counts_of
from eyas.errors import DataError, LabelError, ModelError
from eyas.settings import TransferSettings
from eyas.teachers import AlignedTeacher
from eyas.text import SEPARATOR
from eyas.transfer import Augmentation, augment, transfer_set
from eyas.transfer.augmentation import identity
from eyas.transfer.doubts import Doubts
from eyas.transfer.masked_lm import MaskedLM
from eyas.transfer.neighbors import Neighbors, Vocabulary, whole_words
from eyas.transfer.perturb import Perturbation, count_words, shape_class
from eyas.transfer.words import Words, sentence, split_text


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EYAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=64)


def test_split_text_keeps_marks_with_their_letters() -> None:
    assert [len(split_text(text)) for text in ("हिन्दी भाषा", "déjà vu", "தமிழ் மொழி")] == [2, 2, 2]


def test_whole_words_skips_fragments_of_byte_level_tokenizer() -> None:
    """Only subwords that are words of the texts count, and bytes are decoded to letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = ["voilà le film", "voilà un bon film", "un drame", "un dramaturge dramatique"] * 5
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=330, special_tokens=["<unk>"]))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    starting = {fast.convert_tokens_to_string([token]).strip() for token in fast.get_vocab() if token.startswith("Ġ")}
    assert "dram" in starting
    words = whole_words(fast, {word for text in texts for word in text.split()})
    assert "voilà" in words
    assert "dram" not in words
    assert set(words) <= set(" ".join(texts).split())


def test_masked_lm_candidates_stay_in_their_script(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"我喜欢这部电影好", "the", "film", "new", "very", "good"]
    tokenizer = Tokenizer(models.WordPiece({token: place for place, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names).save_pretrained(tmp_path)
    set_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertForMaskedLM(BertConfig(vocab_size=len(tokens), **sizes)).save_pretrained(tmp_path)
    chinese, english = MaskedLM(tmp_path, (), size=3).candidates(
        [split_text("我喜欢电影"), split_text("the good film")]
    )
    assert all(len(word) == 1 for words in chinese for word in words)
    assert all(word.isascii() for words in english for word in words)
    assert chinese[0]
    assert english[0]


@pytest.mark.parametrize(
    "text", ["A man's film , well-made (3.5 stars)!", "私は映画が好きです。", "ab\t cd", "ผมชอบหนัง", "x"]
)
def test_split_text_round_trips(text: str) -> None:
    assert str(split_text(text)) == text


def test_split_text_splits_scripts_without_spaces_into_characters() -> None:
    assert len(split_text("映画が好き")) == 5
    assert len(split_text("good film")) == 2


def test_perturbation_masks_swaps_and_cuts(toy_data: Path) -> None:
    counts = count_words(load_data(toy_data)["train"])
    text = split_text("the film was lovely and the plot was great")
    always = {"mask_probability": 0.0, "swap_probability": 0.0, "ngram_probability": 0.0}

    def variants(**changed: float) -> list[Any]:
        return Perturbation(counts, "[MASK]", **{**always, **changed}).variants([text], 50, np.random.default_rng(0))[0]

    assert {str(variant) for variant in variants()} == {str(text)}
    masked = variants(mask_probability=0.3)
    share = np.mean([variant.words.count("[MASK]") / len(text) for variant in masked])
    assert 0.2 < share < 0.4
    cut = variants(ngram_probability=1.0)
    assert {len(variant) for variant in cut} == {1, 2, 3, 4, 5}
    assert all(str(variant) in str(text) for variant in cut)
    for variant in variants(swap_probability=1.0):
        pairs = [(a, b) for a, b in zip(text.words, variant.words, strict=True) if a in counts]
        assert all(shape_class(a, counts[a]) == shape_class(b, counts[b]) for a, b in pairs)


@pytest.mark.process
def test_augment_gives_same_rows_for_any_number_of_processes(
    teacher: Teacher, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = load_data(toy_data)["train"]
    monkeypatch.setattr("eyas.transfer.augmentation.ROWS_PER_CHUNK", 50)
    rows = {}
    for name, seed, processes in (("one", 1, 1), ("two", 1, 2), ("other", 2, 1)):
        monkeypatch.setenv("EYAS_CACHE", str(tmp_path / name))
        rows[name] = augment(train, "tang:5", teacher, seed=seed, processes=processes)
    assert rows["one"]["text"] == rows["two"]["text"]
    assert rows["one"]["text"] != rows["other"]["text"]
    made = rows["one"]
    assert len(set(made["example_id"])) == len(made)
    assert not np.isin(ids_of(made), ids_of(train)).any()
    assert np.isin(made["source_id"], ids_of(train)).all()
    assert set(made["method"]) == {"tang"}
    assert (labels_of(made) == -1).all()


def test_interrupted_augmentation_resumes(
    teacher: Teacher, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = load_data(toy_data)["train"]
    monkeypatch.setattr("eyas.transfer.augmentation.ROWS_PER_CHUNK", 50)
    monkeypatch.setenv("EYAS_CACHE", str(tmp_path))
    whole = augment(train, "tang:3", teacher)["text"]
    chunks = sorted((tmp_path / "transfer").rglob("*.arrow"))
    times = {path: path.stat().st_mtime_ns for path in chunks[1:]}
    chunks[0].unlink()
    assert augment(train, "tang:3", teacher)["text"] == whole
    assert chunks[0].exists()
    assert {path: path.stat().st_mtime_ns for path in chunks[1:]} == times


def test_augment_changes_one_or_both_texts_of_pairs(pair_teacher_folder: Path, toy_pairs: Path) -> None:
    train = load_data(toy_pairs)["train"].select(range(40))
    made = augment(train, "tang:6", Teacher(pair_teacher_folder))
    sources = {row["example_id"]: row for row in train}
    changed = {tuple(row[side] != sources[row["source_id"]][side] for side in ("text", "text_pair")) for row in made}
    assert changed == {(True, False), (False, True), (True, True)}


def test_augment_keeps_tags_of_unchanged_words(tag_teacher_folder: Path, toy_tags: Path) -> None:
    train = load_data(toy_tags)["train"]
    made = augment(train, "tang:4", Teacher(tag_teacher_folder, max_length=64))
    assert made.features["label"] == train.features["label"]
    assert len(labels_of(made)) == word_counts_of(made).sum()
    sources = {row["example_id"]: dict(zip(row["tokens"], row["label"], strict=True)) for row in train}
    kept = 0
    for row in made:
        for word, tag in zip(row["tokens"], row["label"], strict=True):
            if tag >= 0:
                kept += 1
                assert sources[row["source_id"]][word] == tag
    assert 0.4 < kept / word_counts_of(made).sum() < 0.99


def test_perturbation_keeps_the_question() -> None:
    text = sentence(["who", "sang", SEPARATOR, "he", "sang", "it", "well"], [-1, -1, -1, 1, 0, 0, 0])
    rules = Perturbation(count_words_of(text.words), "[MASK]", 0.5, 0.5, 1.0)
    for variant in rules.variants([text], 30, np.random.default_rng(0))[0]:
        assert variant.words[:3] == text.words[:3]
        assert len(variant.tags) == len(variant)


def count_words_of(words: tuple[str, ...]) -> Any:
    from collections import Counter

    return Counter(words)


def test_vocabulary_neighbors_are_nearest_by_cosine() -> None:
    words = ["good", "great", "bad", "awful", "table"]
    vectors = np.array([[1, 0.1], [2, 0.3], [-1, 0.1], [-3, 0.2], [0, 1]], dtype=np.float32)
    vocabulary = Vocabulary(words, vectors, size=2)
    assert vocabulary.neighbors("good") == ["great", "table"]
    assert vocabulary.neighbors("Good") == ["Great", "Table"]
    assert vocabulary.neighbors("GOOD") == ["GREAT", "TABLE"]
    assert vocabulary.neighbors("unheard") == []


def test_vocabulary_neighbors_have_the_case_of_the_word() -> None:
    """A cased vocabulary, as of bert-base-cased: a word's nearest is itself in another case."""
    words = ["good", "Good", "Great", "great", "NASA", "café", "映画"]
    vectors = np.array([[1, 0], [1, 0.01], [1, 0.02], [1, 0.03], [1, 0.1], [1, 0.2], [1, 0.3]], dtype=np.float32)
    vocabulary = Vocabulary(words, vectors, size=3)
    assert vocabulary.neighbors("good") == ["great", "nasa", "café"]
    assert vocabulary.neighbors("Good") == ["Great", "NASA", "Café"]
    assert vocabulary.neighbors("GOOD") == ["GREAT", "NASA", "CAFÉ"]
    assert vocabulary.neighbors("映画") == ["café", "NASA", "great"]


def test_masked_lm_candidates_equal_model_predictions(masked_lm: Path) -> None:
    method = MaskedLM(masked_lm, (), size=5, dtype="float32")
    texts = [split_text("the film was lovely"), split_text("awful film of the year , and boring")]
    found = method.candidates(texts)
    tokenizer = method.tokenizer
    for text, candidates in zip(texts, found, strict=True):
        for place, names in enumerate(candidates):
            words = list(text.words)
            if len(tokenizer.tokenize(words[place])) > 1 or not words[place].isalpha():
                continue
            expected_text = " ".join([*words[:place], "[MASK]", *words[place + 1 :]])
            inputs = tokenizer(expected_text, return_tensors="pt")
            mask = int((inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero())
            logits = method.model(input_ids=inputs["input_ids"]).logits[0, mask]
            ranked = [tokenizer.convert_ids_to_tokens(int(i)) for i in logits.argsort(descending=True)]
            expected = [n for n in ranked if n.isalpha() and len(n) > 1 and n != words[place].lower()][:5]
            assert names == expected
    assert any(names for names in found[0])


def test_masked_lm_replaces_words_of_several_tokens(masked_lm: Path) -> None:
    known = ["greatly", "lovelyish", "boringest", "film", "the"]
    method = MaskedLM(masked_lm, known, size=5)
    assert all(len(method.tokenizer.tokenize(word)) > 1 for word in known[:3])
    [found] = method.candidates([split_text("the Greatly film")])
    assert len(found[1]) == 5
    assert all(name[0].isupper() for name in found[1])
    table = method.model.get_input_embeddings().weight.detach()
    ids = method.tokenizer("greatly", add_special_tokens=False)["input_ids"]
    mean = torch.nn.functional.normalize(table[ids].mean(0), dim=0)
    words = {**method.tokenizer.get_vocab(), "lovelyish": None, "boringest": None}
    best = max(
        (word for word in words if word in method.vocabulary.words and word != "greatly"),
        key=lambda word: float(mean @ _unit(table, method.tokenizer, word)),
    )
    assert found[1][0].lower() == best


def _unit(table: torch.Tensor, tokenizer: Any, word: str) -> torch.Tensor:
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    return torch.nn.functional.normalize(table[ids].mean(0), dim=0)


def test_masked_lm_requires_head_and_matching_tokenizer(
    tiny_bert: Path, masked_lm: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="BertModel"):
        MaskedLM(tiny_bert, ())
    with pytest.raises(ModelError, match="BertForSequenceClassification"):
        MaskedLM(teacher_folder, ())
    config = BertConfig.from_pretrained(tiny_bert)
    config.vocab_size = 40
    BertForMaskedLM(config).save_pretrained(tmp_path)
    Teacher(teacher_folder).tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"\b40\b"):
        MaskedLM(tmp_path, ())
    set_seed(0)
    BertModel(BertConfig.from_pretrained(tiny_bert)).save_pretrained(tmp_path / "headless")
    config = json.loads((tmp_path / "headless" / "config.json").read_text())
    (tmp_path / "headless" / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    with pytest.raises(ModelError, match=r"weights.*\bcls"):
        MaskedLM(tmp_path / "headless", ())


def test_doubts_increase_disagreement_more_than_neighbors(
    teacher: Teacher, toy_data: Path, students: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    """Over many texts, words chosen by the gradient separate student and teacher more than random neighbors."""
    mistaken = Path(shutil.copytree(students["cnn", False], tmp_path / "mistaken"))
    student = Classifier.from_pretrained(mistaken)
    table = student.model.get_input_embeddings().weight
    with torch.no_grad():
        for word in (*POSITIVE[:4], *NEGATIVE[:4]):  # the student takes each for its opposite
            table[student.tokenizer.convert_tokens_to_ids(word)] *= -1
    student.model.save_pretrained(mistaken)
    vocabulary = Vocabulary.of_model(teacher.model, teacher.tokenizer, (), size=15)

    def gap(variants: list[list[Words]]) -> float:
        texts = [str(first) for first, *_ in variants]
        return float(np.square(student.logits(texts) - teacher.logits(texts)).mean())

    words = [split_text(text) for text in load_data(toy_data)["train"]["text"][:60]]
    doubts = Doubts(mistaken, teacher, vocabulary, probability=0.4, best=1)
    chosen = doubts.variants(words, 1, np.random.default_rng(0))
    anyhow = Neighbors(vocabulary, 0.4).variants(words, 1, np.random.default_rng(0))
    assert gap(chosen) > 1.1 * gap(anyhow)  # measured: 1.4 times


def test_doubts_require_matching_label_names(
    teacher_folder: Path, students: dict[tuple[str, bool], Path], toy_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(teacher_folder, tmp_path / "teacher")
    config = json.loads((tmp_path / "teacher" / "config.json").read_text())
    config |= {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    (tmp_path / "teacher" / "config.json").write_text(json.dumps(config))
    teacher, train = Teacher(tmp_path / "teacher", max_length=64), load_data(toy_data)["train"].select(range(10))
    spec = f"doubts:1:{students['cnn', False]}"
    with pytest.raises(LabelError, match=r"LABEL_0.*AlignedTeacher"):
        augment(train, spec, teacher)
    assert len(augment(train, spec, AlignedTeacher(teacher, [0, 1]))) > 0


def test_doubts_refuse_pairs(
    pair_teacher_folder: Path, students: dict[tuple[str, bool], Path], toy_pairs: Path
) -> None:
    train = load_data(toy_pairs)["train"]
    with pytest.raises(ModelError, match="doubts"):
        augment(train, f"doubts:1:{students['cnn', True]}", Teacher(pair_teacher_folder))


def test_augment_reports_no_new_text(teacher: Teacher, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": word, "label": label} for word, label in (("zzz", "good"), ("qqq", "bad"))] * 20
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    train = load_data(tmp_path)["train"]
    with caplog.at_level("INFO", "eyas"):
        made = augment(train, "neighbors:20", teacher)
    assert len(made) == 0
    assert "no new text" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tong:20", "'tong'.*tang, neighbors"),
        ("tang:many", "'many'"),
        ("tang:5:folder", "tang.*'folder'"),
        ("masked-lm:5", "masked-lm:5:FOLDER"),
    ],
)
def test_augmentation_parse_refuses_invalid_text(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Augmentation.parse(text)


def test_students_train_on_masked_texts(teacher: Teacher, toy_data: Path, masked_lm: Path, tmp_path: Path) -> None:
    """The teacher's mask token is a single token in every kind of student."""
    data = load_data(toy_data)
    data["train"] = data["train"].select(range(40))
    (tmp_path / "v.txt").write_text(
        "".join(f"{w} {len(w)} {i % 5} 1\n" for i, w in enumerate(["the", "film", "was", "great", "awful", "and"]))
    )
    settings = TransferSettings(augment=("tang:10", f"masked-lm:2:{masked_lm}"))
    texts = transfer_set(data, teacher, None, settings)
    assert set(texts["method"]) == {"", "tang", "masked-lm"}
    assert texts["example_id"][:40] == data["train"]["example_id"]
    for embeddings in ("teacher", str(tmp_path / "v.txt")):
        student = StudentSettings("cnn", embeddings=embeddings, hidden_size=16)
        folder = teach(teacher, data, tmp_path / Path(embeddings).stem, student, transfer=settings)
        classifier = Classifier.from_pretrained(folder)
        ids = classifier.tokenizer("the [MASK] film")["input_ids"]
        assert len(ids) == 4
        assert classifier.tokenizer.convert_ids_to_tokens(ids)[2] == "[MASK]"


def test_augment_command_writes_new_texts(
    run: Callable[..., tuple[int, str, str]], teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.jsonl"
    code, _, err = run(
        *("augment", "--teacher", teacher_folder, "--data", toy_data, "--out", out, "--per-text", 2, "-q")
    )
    assert code == 0, err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[0].keys() == {"text", "method", "source_id", "source"}
    code, _, err = run(
        "augment", "--teacher", teacher_folder, "--data", toy_data, "--out", out, "--method", "masked-lm"
    )
    assert code == 2
    assert "masked-lm:" in err


def test_augment_command_never_replaces_its_input(
    run: Callable[..., tuple[int, str, str]], teacher_folder: Path, toy_data: Path
) -> None:
    train = next(toy_data.glob("train.*"))
    before = train.read_bytes()
    for data in (toy_data, train):
        code, _, err = run("augment", "--teacher", teacher_folder, "--data", data, "--out", train, "--per-text", 2)
        assert code == 2
        assert "is an input of this command" in err
    assert train.read_bytes() == before


def test_identity_changes_with_a_nested_file(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "texts.txt").write_text("one\n")
    before = identity(str(tmp_path))
    (tmp_path / "more" / "texts.txt").write_text("one\ntwo\n")
    assert identity(str(tmp_path)) != before


def test_tang_leaves_no_gold_tag_of_an_entity_that_lost_its_start(tag_teacher_folder: Path, toy_tags: Path) -> None:
    data = load_data(toy_tags)
    names = data.task.labels
    made = augment(data["train"], "tang:5", Teacher(tag_teacher_folder, max_length=64))
    firsts = [next((tag for tag in tags), -1) for tags in made["label"]]
    assert not [tag for tag in firsts if tag >= 0 and names[tag].startswith("I-")]
