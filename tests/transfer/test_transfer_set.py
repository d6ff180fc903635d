"""Which texts enter the transfer set."""

from pathlib import Path

import numpy as np
import pytest
from toys import toy_rows, write_jsonl

from eyas import Classifier, Teacher, distill, load_data, load_unlabeled
from eyas.data.datasets import ids_of, task_of
from eyas.errors import DataError
from eyas.settings import DistillSettings, TransferSettings
from eyas.teachers import AlignedTeacher, aligned_by_name, label_texts
from eyas.transfer import Selection, chosen_texts, most_alike, new_texts, transfer_set
from eyas.transfer.learned import LearnedSelector
from eyas.transfer.unlabeled import are_near_duplicates, near_keys


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=64)


def lines(path: Path, texts: list[str]) -> Path:
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def test_transfer_set_leaves_out_known_texts(
    toy_data: Path,
    toy_pairs: Path,
    toy_tags: Path,
    teacher: Teacher,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = load_data(toy_data)
    known = data["train"]["text"][0], data["test"]["text"][0]
    news = [
        "something new",
        "something new",
        "another",
        "a review of the long and winding tale that nobody had seen before",
    ]
    nearly = "A review of the long and winding tale, that nobody had seen before!"
    unlabeled = load_unlabeled([lines(tmp_path / "more.txt", [*known, *news, nearly])])
    with caplog.at_level("INFO", "eyas"):
        texts = transfer_set(data, teacher, unlabeled)
    assert texts["text"][-3:] == ["something new", "another", news[-1]]
    assert texts["label"][-3:] == [-1, -1, -1]
    assert texts["method"][-3:] == ["unlabeled"] * 3
    assert texts["source_id"] == texts["example_id"]
    assert "1 repeated, 1 in train, 1 in test, 1 nearly identical" in caplog.text
    with pytest.raises(DataError, match="unlabeled texts are single texts, the data has pairs"):
        new_texts(unlabeled, load_data(toy_pairs))
    with pytest.raises(DataError, match=r"rows are texts, the data has words.*tagging=True"):
        new_texts(unlabeled, load_data(toy_tags))
    with pytest.raises(DataError, match=r"No unlabeled text is left: .*in test"):
        new_texts(load_unlabeled([lines(tmp_path / "test.txt", data["test"]["text"])]), data)


def test_near_duplicates_are_found_by_overlap(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = [f"w{number}" for number in range(3000)]
    texts = [" ".join(random.choice(words, 60)) for _ in range(200)]
    changed = [text.replace(text.split()[30], "other") for text in texts]  # 54 of 58 runs of three words stay
    half = [" ".join([*text.split()[:30], *random.choice(words, 30)]) for text in texts]
    keys = {
        name: near_keys(load_unlabeled([lines(tmp_path / f"{name}.txt", rows)]))
        for name, rows in (("texts", texts), ("changed", changed), ("half", half))
    }
    assert not are_near_duplicates(keys["texts"][:0], keys["texts"]).any()
    assert are_near_duplicates(keys["texts"], keys["changed"]).mean() > 0.8
    assert are_near_duplicates(keys["texts"], keys["half"]).mean() < 0.2


def test_symbols_and_pairs_are_not_near_duplicates(toy_data: Path, toy_pairs: Path, tmp_path: Path) -> None:
    data = load_data(toy_data)
    signs = ["!!!", "\U0001f44d", "\U0001f44e", "good!", "good"]
    assert new_texts(load_unlabeled([lines(tmp_path / "signs.txt", signs)]), data)["text"] == signs
    passage = " ".join(f"word{number}" for number in range(60))
    rows = [{"text1": passage, "text2": f"question {number}"} for number in range(5)]
    pairs = load_unlabeled([write_jsonl(tmp_path / "pairs.jsonl", rows)])
    assert len(new_texts(pairs, load_data(toy_pairs))) == 5
    with pytest.raises(DataError, match=r"signs.txt has the columns \['text'\], other files \['text', 'text_pair'\]"):
        load_unlabeled([tmp_path / "pairs.jsonl", tmp_path / "signs.txt"])


def test_most_alike_prefers_texts_like_the_training_texts(toy_data: Path, tmp_path: Path) -> None:
    train = load_data(toy_data)["train"]
    alike = [row["text"].replace("was", "is") for row in toy_rows(300, 5000)]
    random = np.random.default_rng(0)
    other = [" ".join(random.choice(["stock", "bond", "market", "was", "rates", "the"], 7)) for _ in range(300)]
    unlabeled = load_unlabeled([lines(tmp_path / "more.txt", [*other, *alike])])
    chosen = most_alike(unlabeled, train, 100)
    assert len(chosen) == 100
    assert np.mean([text in alike for text in chosen["text"]]) > 0.7  # by chance: 0.5


def test_selection_rules_use_teacher_predictions(
    teacher: Teacher, toy_data: Path, students: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    data = load_data(toy_data)
    data["train"] = data["train"].select(range(50))
    texts = transfer_set(data, teacher, None, TransferSettings(augment=("tang:10",)))
    labeled = label_texts(teacher, texts)
    aligned = aligned_by_name(labeled, task_of(texts).labels)
    student = students["static", False]

    def chosen(*rules: str) -> np.ndarray:
        rows = chosen_texts(texts, data, aligned, TransferSettings(select=rules))
        assert rows["example_id"][:50] == data["train"]["example_id"]
        logits = labeled.logits(ids_of(rows)[50:])
        return np.asarray(logits.softmax(1).amax(1))

    everything = chosen("confident:1")
    assert chosen("confident:0.3").min() >= chosen("uncertain:0.7").max()
    assert len(chosen("uncertain:0.5")) == round(len(everything) / 2)
    assert len(chosen(f"disagreement:0.2:{student}")) == round(len(everything) / 5)
    assert len(chosen("same-label", "uncertain:0.5")) < len(chosen("uncertain:0.5"))
    kept = chosen_texts(texts, data, aligned, TransferSettings(select=("same-label",)))
    theirs = labeled.logits(ids_of(kept)).argmax(1)
    sources = labeled.logits(np.asarray(kept["source_id"])).argmax(1)
    assert (theirs == sources).all()
    assert len(kept) < len(texts)


@pytest.mark.process
def test_learned_selector_avoids_harmful_texts(
    teacher: Teacher, toy_data: Path, students: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    """Half of the new texts have inverted targets."""
    data = load_data(toy_data)
    rows = transfer_set(data, teacher, None, TransferSettings(augment=("tang:3",))).select(range(240, 640))
    theirs = label_texts(teacher, rows).logits(ids_of(rows)).numpy()
    wrong = np.arange(len(rows)) % 2 == 0
    rows = rows.remove_columns("method").add_column("method", np.where(wrong, "wrong", "right").tolist())
    theirs = np.where(wrong[:, None], -theirs, theirs)
    scores, again = (
        LearnedSelector(rounds=40).scores(
            rows, theirs, Classifier.from_pretrained(students["static", False]), data["validation"]
        )
        for _ in range(2)
    )
    assert (again == scores).all()
    assert scores[~wrong].mean() > scores[wrong].mean()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("same-label:0.5", "takes no share; it keeps every unchanged label"),
        ("sure", "no rule 'sure'. Expected one of confident"),
        ("uncertain:2", "the share is '2', expected a number above 0"),
        ("disagreement:0.5", "needs a student: disagreement:0.5:FOLDER"),
    ],
)
def test_selection_parse_refuses_invalid_rules(rule: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Selection.parse(rule)


def test_selection_requires_new_texts(teacher: Teacher, toy_data: Path) -> None:
    data = load_data(toy_data)
    labeled = AlignedTeacher(label_texts(teacher, data["train"]), [0, 1])
    with pytest.raises(DataError, match=r"set unlabeled \(--unlabeled\) or augment"):
        chosen_texts(data["train"], data, labeled, TransferSettings(select=("uncertain",)))


def test_a_limit_of_unlabeled_texts_requires_some(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    settings = DistillSettings(transfer=TransferSettings(max_unlabeled=10))
    with pytest.raises(DataError, match=r"max_unlabeled \(--max-unlabeled\) is 10, but there are no unlabeled texts"):
        distill(teacher, toy_data, tmp_path / "out", "static", settings=settings)
    assert not (tmp_path / "out").exists()


def test_load_unlabeled_accepts_files_folders_and_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    (folder / "deep").mkdir(parents=True)
    lines(folder / "a.txt", ["one", "two"])
    write_jsonl(folder / "deep" / "b.jsonl", [{"text": "three"}])
    (folder / "notes.md").write_text("not a text file that is read")
    assert load_unlabeled([folder])["text"] == ["one", "two", "three"]
    assert load_unlabeled([f"{folder}/*.txt"])["text"] == ["one", "two"]
    assert load_unlabeled([f"{folder}/**/*.jsonl"])["text"] == ["three"]
    with pytest.raises(DataError, match="No such file or folder"):
        load_unlabeled([f"{folder}/nothing*.txt"])


def test_load_unlabeled_refuses_files_that_are_not_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match=r"empty.txt has no rows"):
        load_unlabeled([tmp_path / "empty.txt"])
    (tmp_path / "binary.txt").write_bytes(b"\x7fELF\x02\x01\x00")
    with pytest.raises(DataError, match="not a text file"):
        load_unlabeled([tmp_path / "binary.txt"])
    (tmp_path / "latin.txt").write_bytes("schön\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.txt:1: byte 4 of the line is not valid UTF-8"):
        load_unlabeled([tmp_path / "latin.txt"])
    monkeypatch.setattr("eyas.data.readers.LONGEST_LINE", 1000)
    (tmp_path / "long.txt").write_text("short\n" + "word " * 400)
    with pytest.raises(DataError, match=r"long.txt:2: a line of more than"):
        load_unlabeled([tmp_path / "long.txt"])
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.bin").write_bytes(b"x")
    with pytest.raises(DataError, match="has no text file"):
        load_unlabeled([tmp_path / "sub"])


def test_default_augment_is_for_small_classification_sets(
    toy_data: Path, toy_pairs: Path, toy_tags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eyas.transfer import texts

    films = load_data(toy_data)
    assert texts.default_augment(films, TransferSettings(), more_text=False) == ("neighbors:10",)
    assert texts.default_augment(films, TransferSettings(), more_text=True) == ()
    assert texts.default_augment(load_data(toy_pairs), TransferSettings(), more_text=False) == ()
    assert texts.default_augment(load_data(toy_tags), TransferSettings(), more_text=False) == ()
    monkeypatch.setattr(texts, "FEW_TEXTS", 10)
    assert texts.default_augment(films, TransferSettings(), more_text=False) == ()


@pytest.mark.parametrize(
    ("held_out", "nearly"),
    [
        (
            "今天的天气非常适合和朋友们一起去公园散步然后一起吃晚饭",
            "今天的天气非常适合和朋友们一起去公园散步然后一起吃晚饭。",
        ),
        ("Short text", "short  text"),
    ],
)
def test_nearly_the_same_text_is_found_in_any_script_and_length(held_out: str, nearly: str, tmp_path: Path) -> None:
    data = load_data({"train": {"text": ["some text", "other text"], "label": [0, 1]}, "test": {"text": [held_out]}})
    unlabeled = load_unlabeled([lines(tmp_path / "more.txt", [nearly, "一些完全不同的文字也在这里", "Another text"])])
    assert nearly not in new_texts(unlabeled, data)["text"]
    assert len(new_texts(unlabeled, data)) == 2
