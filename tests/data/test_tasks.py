"""The task of a data set, and errors that name file and line."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from conftest import write_jsonl
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from tagging import sentences, write_conll

from eyas import Teacher, load_data
from eyas.data.datasets import is_labeled, labels_of, load_unlabeled, task_of, texts_of, word_counts_of
from eyas.errors import DataError, LabelError
from eyas.settings import Columns
from eyas.tasks import Task
from eyas.teachers import align


def _folder(folder: Path, suffix: str, train: str, validation: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"train{suffix}").write_text(train)
    (folder / f"validation{suffix}").write_text(train if validation is None else validation)
    return folder


CONLL = "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n   \nGerman JJ B-MISC\ncall NN O"


@pytest.mark.parametrize("content", [CONLL, CONLL.replace("\n", "\r\n"), CONLL.replace(" ", "\t"), CONLL + "\n\n\n"])
def test_conll_reader_accepts_every_layout(content: str, tmp_path: Path) -> None:
    train = load_data(_folder(tmp_path / "data", ".conll", content))["train"]
    assert texts_of(train) == [["EU", "rejects"], ["German", "call"]]
    assert task_of(train).labels == ("O", "B-MISC", "B-ORG")
    assert labels_of(train).tolist() == [2, 0, 1, 0]
    assert train["text"][0] == "EU rejects"


def test_conll_reader_reads_named_column(tmp_path: Path) -> None:
    data = load_data(_folder(tmp_path / "data", ".conll", CONLL), Columns(label="1"))
    assert task_of(data["train"]).labels == ("JJ", "NN", "NNP", "VBZ")
    assert task_of(data["train"]).metric == "accuracy"


def test_conll_reader_accepts_trailing_tabs_and_comments(tmp_path: Path) -> None:
    content = "# id 1\nIn\tO\t\nRome\tB-LOC\t\n\n#\tO\nbest\tO\n"
    train = load_data(_folder(tmp_path / "data", ".conll", content))["train"]
    assert texts_of(train) == [["In", "Rome"], ["#", "best"]]


def test_conll_reader_tells_comments_from_words_by_columns(tmp_path: Path) -> None:
    first = "# id a\tdomain=en\nIn _ _ O\nRome _ _ B-LOC\n\n#rome _ _ B-LOC\n"
    assert texts_of(load_data(_folder(tmp_path / "a", ".conll", first))["train"]) == [["In", "Rome"], ["#rome"]]
    tabs = "# newdoc\n#rome\tB-LOC\nis\tO\n\n# 7\nfar\tO\n"
    assert texts_of(load_data(_folder(tmp_path / "b", ".conll", tabs))["train"]) == [["#rome", "is"], ["far"]]


def test_conll_reader_warns_of_word_with_space(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = load_data(_folder(tmp_path / "data", ".conll", "EU NNP\tB-ORG\nrejects VBZ\tO\n"))["train"]
    assert texts_of(train) == [["EU NNP", "rejects VBZ"]]
    assert caplog.text.count("'EU NNP' has a space in it and is read as one word") == 2  # once per file


def test_conll_reader_refuses_splits_with_other_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"validation.conll has 3 columns, .*train.conll 2, .*--label"):
        load_data(_folder(tmp_path / "data", ".conll", "a O\nb B-X\n", "a NN O\n"))
    data = load_data(_folder(tmp_path / "named", ".conll", "a O\nb B-X\n\nc O NN\n", "a O NN\n"), Columns(label="1"))
    assert labels_of(data["train"]).tolist() == [0, 1, 0]
    assert labels_of(data["validation"]).tolist() == [0]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("a O\nb\tB-X\tz\n", Columns(), r"train.conll:2: 3 columns .*the line above has 2"),
        ("a O\nb B-X extra\n", Columns(), r"train.conll:2: 3 columns"),
        (
            "a O\nb B-X\n\nc NN B-X\nd VB O\n",
            Columns(),
            r"train.conll:4: 3 columns, the first sentence has 2, .*--label",
        ),
        ("a O\nb B-X\n", Columns(label="3"), r"no column '3'. It has \['0', '1'\]"),
        ("a\nb\n", Columns(), r"one column, expected a word and at least one tag"),
        ("a O\nb O\n", Columns(), r"Every training row has the label 'O'"),
        ("a O\nb B-X\n", Columns(task="regression"), r"no text column"),
        ("a O\nb B-X\n", Columns(task="tags"), r"task \(--task\) is 'tags', expected one of classification"),
    ],
)
def test_conll_reader_refuses_invalid_files(content: str, columns: Columns, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_data(_folder(tmp_path / "data", ".conll", content), columns)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, r"train.jsonl:2: 2 words and 1 tags"),
        ({"tokens": [], "tags": []}, r"train.jsonl:2: a sentence without words"),
        ({"tokens": "[1, 2", "tags": ["O"]}, r"train.jsonl:2: 4 words and 1 tags"),
        ({"tokens": ["a"], "tags": None}, r"train.jsonl:2: 'tags' is None, expected a list of tags"),
        ({"tokens": [3], "tags": ["O"]}, r"train.jsonl:2: \[3\], expected a list of words"),
    ],
)
def test_load_data_refuses_invalid_sentences(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    rows: list[Any] = [{"tokens": ["x", "y"], "tags": ["O", "B-X"]}, row]
    write_jsonl(tmp_path / "train.jsonl", rows)
    with pytest.raises(DataError, match=message):
        load_data(tmp_path)


def test_load_data_warns_of_tags_missing_in_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = load_data(_folder(tmp_path / "data", ".conll", "a O\nb B-X\n", "a B-Y\nb B-X\n"))
    assert "no training sentence has the tags B-Y" in caplog.text
    assert task_of(data["validation"]).labels == ("O", "B-X", "B-Y")


def test_stray_inside_tags_are_counted_and_repaired_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _folder(tmp_path / "data", ".conll", "a I-X\nb I-X\nc O\nd B-X\n")
    train = load_data(folder)["train"]
    assert "train: 1 I- tags do not continue a span, the first in sentence 1" in caplog.text
    assert [task_of(train).labels[i] for i in labels_of(train)] == ["I-X", "I-X", "O", "B-X"]
    train = load_data(folder, Columns(repair_tags=True))["train"]
    assert [task_of(train).labels[i] for i in labels_of(train)] == ["B-X", "I-X", "O", "B-X"]


def test_bioes_tags_are_converted_to_bio(tmp_path: Path) -> None:
    train = load_data(_folder(tmp_path / "data", ".conll", "a S-X\nb B-X\nc I-X\nd E-X\ne O\n"))["train"]
    assert [task_of(train).labels[i] for i in labels_of(train)] == ["B-X", "B-X", "I-X", "I-X", "O"]


def _tags(dataset: Dataset) -> list[str | None]:
    names = [*task_of(dataset).labels, None]
    return [names[label] for label in labels_of(dataset)]


def test_tag_of_words_that_could_not_be_aligned_is_no_tag(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As spaCy writes it."""
    caplog.set_level("INFO")
    folder = _folder(tmp_path / "data", ".conll", "a U-X\nb B-X\nc I-X\nd L-X\ne O\n\nf O\ng -\n", "h L-X\n")
    train = load_data(folder)["train"]
    assert _tags(train) == ["B-X", "B-X", "I-X", "I-X", "O", "O", None]
    assert "the tags are BILOU, converted to BIO (L-X = I-X, U-X = B-X)" in caplog.text
    told = "the tags - are not of the scheme BILOU; 1 words with them are read as words without a tag, the first in"
    assert f"{told} {folder}/train.conll:7, word 2 ('g')" in caplog.text


def test_unspecified_tags_of_plain_tags_are_no_tags(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = load_data(_folder(tmp_path / "data", ".conll", "a NOUN\nb VERB\nc _\nd -\n"))["train"]
    assert _tags(train) == ["NOUN", "VERB", None, "-"]  # a dash is a part of speech
    assert "the tags _ are not of the scheme plain tags; 2 words" in caplog.text
    train = load_data(_folder(tmp_path / "more", ".conll", "a PER\nb LOC\nc O\nd -\n"))["train"]
    assert _tags(train) == ["PER", "LOC", "O", None]


def test_label_that_hugging_face_ignores_is_no_label() -> None:
    rows = {"tokens": [["a", "b"]] * 20, "tags": [[-100, 1], [0, -100]] * 10}
    data = load_data({"train": rows, "validation": rows})
    assert set(labels_of(data["train"]).tolist()) == {-1, 0, 1}


def test_model_with_tags_of_another_scheme_is_refused(tag_teacher_folder: Path, tmp_path: Path) -> None:
    teacher = Teacher(tag_teacher_folder)
    names = ["O", "B-LOC", "L-LOC", "U-LOC", "B-PER"][: len(teacher.label_names)]
    teacher.task = Task("tagging", tuple(names))
    data = load_data(_folder(tmp_path / "data", ".conll", "a B-LOC\nb L-LOC\nc O\nd U-LOC\ne B-PER\n"))
    with pytest.raises(LabelError, match="The teacher tags in BILOU .*L-LOC"):
        align(teacher, data)


def test_tags_outside_the_scheme_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = _folder(tmp_path / "data", ".conll", "a B-X\nb I-X\nc O\n\nd O\n", "e O\nf PAD\ng B-X\n")
    data = load_data(folder)
    assert _tags(data["validation"]) == ["O", "PAD", "B-X"]
    assert f"spans of one word, the first in {folder}/validation.conll:1, word 2 ('f')" in caplog.text


def test_iob1_is_found_and_converted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The form of the original CoNLL-2003 files: B- only between two spans of one type."""
    caplog.set_level("INFO")
    rows = "U.N. I-ORG\nofficial O\nEkeus I-PER\n\nSydney I-LOC\nBaghdad B-LOC\nBay I-LOC\nAnna I-PER\n"
    train = load_data(_folder(tmp_path / "data", ".conll", rows))["train"]
    assert _tags(train) == ["B-ORG", "O", "B-PER", "B-LOC", "B-LOC", "I-LOC", "B-PER"]
    assert "IOB1, converted to BIO (I- at the start of a span = B-)" in caplog.text


def test_inside_tags_alone_stay_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train = load_data(_folder(tmp_path / "data", ".conll", "a I-X\nb I-X\nc O\nd I-Y\n"))["train"]
    assert _tags(train) == ["I-X", "I-X", "O", "I-Y"]
    assert "spans of one type that touch are read as one" in caplog.text
    assert "do not continue a span" not in caplog.text


@pytest.mark.parametrize("notation", ["PER-B PER-I o", "B_PER I_PER O", "b-PER i-PER o", "PER:B PER:I O"])
def test_other_ways_to_write_tags_are_read(notation: str, tmp_path: Path) -> None:
    begin, inside, outside = notation.split()
    rows = f"anna {begin}\nlee {inside}\nsaid {outside}\n"
    assert _tags(load_data(_folder(tmp_path / "data", ".conll", rows))["train"]) == ["B-PER", "I-PER", "O"]


def test_csv_reader_parses_lists_and_prepends_question(tmp_path: Path) -> None:
    train = "question,passage,seq_label\n\"['Who', '?']\",\"['He', 'was', 'Bo']\",\"['O', 'O', 'B']\"\n"
    rows = load_data(_folder(tmp_path / "data", ".csv", train))["train"]
    assert texts_of(rows) == [["Who", "?", "[SEP]", "He", "was", "Bo"]]
    assert labels_of(rows).tolist() == [-1, -1, -1, 0, 0, 1]


def test_task_option_chooses_label_over_tags(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"tokens": ["play", "abba", str(n)], "tags": ["O", "B-artist", "O"], "label": f"intent{n % 2}"}
        for n in range(20)
    ]
    write_jsonl(tmp_path / "all.jsonl", rows)
    assert task_of(load_data(tmp_path / "all.jsonl")["train"]).kind == "tagging"
    data = load_data(tmp_path / "all.jsonl", Columns(task="classification"))
    assert task_of(data["train"]).labels == ("intent0", "intent1")
    assert data["train"][0]["text"].startswith("play abba")


def test_score_column_means_regression(tmp_path: Path) -> None:
    rows: list[Any] = [{"text1": f"a{n}", "text2": "b", "score": n / 4} for n in range(20)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    train = load_data(tmp_path)["train"]
    assert task_of(train).kind == "regression"
    assert set(labels_of(train).tolist()) <= {n / 4 for n in range(20)}
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "a", "score": "much"}) + "\n")
    with pytest.raises(LabelError, match=r"train.jsonl:1: score 'much', expected a number"):
        load_data(tmp_path, Columns(task="regression"))


def test_multi_label_data_is_read_from_lists_and_columns(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"text": f"t{n}", "labels": [name for name, every in (("a", 2), ("b", 3)) if n % every == 0]} for n in range(30)
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    train = load_data(tmp_path)["train"]
    assert task_of(train).kind == "multi-label"
    found = dict(zip(train["text"], labels_of(train).tolist(), strict=True))
    assert all(found[text] == [int(text[1:]) % 2 == 0, int(text[1:]) % 3 == 0] for text in found)
    columns = "text,x,y\n" + "".join(f"t{n},{n % 2},{n % 3 == 0:d}\n" for n in range(30))
    data = load_data(_folder(tmp_path / "columns", ".csv", columns), Columns(label="x,y"))
    assert task_of(data["train"]).kind == "multi-label"
    assert labels_of(data["train"])[3].tolist() == [1, 1]


def test_aspects_are_read_from_columns(tmp_path: Path) -> None:
    header = "sentence,price,service\n"
    content = header + "".join(f"s{n},{['low', 'high'][n % 2]},{['bad', 'good', 'none'][n % 3]}\n" for n in range(12))
    train = load_data(_folder(tmp_path / "data", ".csv", content))["train"]
    task = task_of(train)
    assert task.aspects == ["price", "service"]
    assert [task.labels[i] for i in labels_of(train)[1]] == ["price=high", "service=good"]
    lacking = "sentence,price\ns1,low\n"
    with pytest.raises(DataError, match=r"no column 'service'. It has \['sentence', 'price'\]"):
        load_data(_folder(tmp_path / "lacking", ".csv", content, lacking))
    with pytest.raises(LabelError, match=r"train.csv:2: no value for the aspect 'price'"):
        load_data(
            _folder(tmp_path / "empty", ".csv", header + "s1,,good\ns2,low,bad\n"), Columns(label="price,service")
        )


def test_dataset_dict_keeps_its_tags() -> None:
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["O", "B-X"]))})
    rows = {"tokens": [["a", "b"], ["c"]], "ner_tags": [[0, 1], [1]]}
    part = Dataset.from_dict(rows, features=features)
    train = load_data(DatasetDict(train=part, validation=part))["train"]
    assert labels_of(train).tolist() == [0, 1, 1]
    assert word_counts_of(train.select([1])).tolist() == [1]
    assert labels_of(train.select([1])).tolist() == [1]


def test_load_unlabeled_splits_texts_into_words(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("Rome, in 1999.\n")
    rows = load_unlabeled([tmp_path / "lines.txt"], tagging=True)
    assert texts_of(rows) == [["Rome", ",", "in", "1999", "."]]
    conll = write_conll(tmp_path / "more.conll", sentences(3))
    assert len(load_unlabeled([conll], tagging=True)) == 3


def test_missing_tags_are_unlabeled_words(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    rows: list[Any] = [{"tokens": ["a", "b"], "tags": [None, "B-X" if n % 2 else "O"]} for n in range(4)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    caplog.set_level(logging.INFO)
    train = load_data(_with(tmp_path, "validation.jsonl"))["train"]
    assert labels_of(train).tolist() == [-1, 0, -1, 1, -1, 0, -1, 1]
    assert is_labeled(train).all()
    assert np.array_equal(word_counts_of(train), [2, 2, 2, 2])


def _with(folder: Path, name: str) -> Path:
    (folder / name).write_text((folder / "train.jsonl").read_text())
    return folder


def test_conll_u_reader_reads_words_and_parts_of_speech(tmp_path: Path) -> None:
    lines = ["# text = Don't go", "1-2\tDon't" + "\t_" * 8]
    words = (("Do", "AUX"), ("n't", "PART"), ("go", "VERB"))
    lines += [f"{n}\t{word}\t_\t{tag}" + "\t_" * 6 for n, (word, tag) in enumerate(words, 1)]
    train = load_data(_folder(tmp_path / "data", ".conllu", "\n".join(lines) + "\n"))["train"]
    assert texts_of(train) == [["Do", "n't", "go"]]
    assert task_of(train).labels == ("AUX", "PART", "VERB")


def test_numpy_style_lists_are_refused(tmp_path: Path) -> None:
    content = "tokens,tags\n\"['EU' 'rejects']\",\"['B-ORG' 'O']\"\n"
    with pytest.raises(DataError, match=r"train.csv:2: .* is a list without commas, as numpy prints it"):
        load_data(_folder(tmp_path / "data", ".csv", content))


def test_load_unlabeled_reads_lines_in_brackets_as_texts(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("[Reuters] Stocks fell.\n[deleted]\n[1]\n")
    found = texts_of(load_unlabeled([tmp_path / "lines.txt"], tagging=True))
    assert found[1:] == [["[", "deleted", "]"], ["[", "1", "]"]]
    (tmp_path / "bodies.csv").write_text("body\n[deleted]\nfine\n")
    assert list(load_unlabeled([tmp_path / "bodies.csv"], Columns("body"))["text"]) == ["[deleted]", "fine"]


def test_multi_label_data_is_read_from_list_text_and_numbers(tmp_path: Path) -> None:
    lists = "text,labels\n" + "".join(f"t{n},\"['joy', 'anger']\"\n" if n % 2 else f"t{n},['joy']\n" for n in range(9))
    train = load_data(_folder(tmp_path / "lists", ".csv", lists))["train"]
    assert task_of(train).labels == ("anger", "joy")
    assert labels_of(train)[:2].tolist() == [[0, 1], [1, 1]]
    rows: list[Any] = [{"text": f"t{n}", "x": n % 2, "y": float(n % 3 == 0)} for n in range(9)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    data = load_data(_with(tmp_path, "validation.jsonl"))
    assert task_of(data["train"]).kind == "multi-label"
    assert labels_of(data["train"])[3].tolist() == [1, 1]


def test_load_unlabeled_skips_texts_without_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_jsonl(tmp_path / "texts.jsonl", [{"text": "in rome"}, {"text": " "}, {"text": ""}])
    assert texts_of(load_unlabeled([tmp_path / "texts.jsonl"], tagging=True)) == [["in", "rome"]]
    assert "2 unlabeled texts have no words and are left out" in caplog.text


def test_list_text_may_contain_label_numbers(tmp_path: Path) -> None:
    several = "text,labels\n" + "".join(f't{n},"[0, {n % 2 + 1}]"\n' for n in range(9))
    assert task_of(load_data(_folder(tmp_path / "a", ".csv", several))["train"]).labels == ("0", "1", "2")
    tags = "tokens,tags\n\"['a', 'b']\",\"[0, 1]\"\n"
    assert labels_of(load_data(_folder(tmp_path / "b", ".csv", tags))["train"]).tolist() == [0, 1]


def test_load_data_refuses_aspect_with_equals_sign(tmp_path: Path) -> None:
    rows = "text,a=b,c\n" + "".join(f"t{n},x{n % 2},y{n % 3}\n" for n in range(9))
    with pytest.raises(DataError, match="the aspect 'a=b' has '=' in its name"):
        load_data(_folder(tmp_path / "data", ".csv", rows))


def test_bioes_tags_are_repaired(tmp_path: Path) -> None:
    content = "a S-X\nb O\nc E-X\nd O\ne B-X\nf E-X\n"
    train = load_data(_folder(tmp_path / "data", ".conll", content), Columns(repair_tags=True))["train"]
    assert [task_of(train).labels[tag] for tag in labels_of(train)] == ["B-X", "O", "B-X", "O", "B-X", "I-X"]


def test_repair_keeps_unlabeled_words(tmp_path: Path) -> None:
    rows: list[Any] = [{"tokens": ["a", "b", "c"], "tags": [None, "I-X", "O"]}]
    write_jsonl(tmp_path / "train.jsonl", rows)
    train = load_data(_with(tmp_path, "validation.jsonl"), Columns(repair_tags=True))["train"]
    assert labels_of(train).tolist() == [-1, 1, 0]


def test_bioes_is_detected_from_training_tags(tmp_path: Path) -> None:
    data = load_data(_folder(tmp_path / "data", ".conll", "a S-X\nb O\nc B-X\nd E-X\n", "a S-X\n"))
    assert labels_of(data["validation"]).tolist() == [1]


def test_lists_of_one_label_are_classification(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As doccano writes them."""
    caplog.set_level("INFO")
    rows: list[Any] = [
        {"id": n, "text": f"film {n}", "label": [["pos", "neg"][n % 2]], "Comments": []} for n in range(40)
    ]
    write_jsonl(tmp_path / "all.jsonl", rows)
    data = load_data(tmp_path / "all.jsonl")
    assert (data.task.kind, data.labels) == ("classification", ["neg", "pos"])
    assert data.labels[labels_of(data["train"])[0]] == rows[int(data["train"][0]["text"].split()[1])]["label"][0]
    assert "every text has one label, so this is classification" in caplog.text
    assert "reads the columns text, label, not id, Comments" in caplog.text
    assert load_data(tmp_path / "all.jsonl", Columns(task="multi-label")).task.kind == "multi-label"
    write_jsonl(tmp_path / "all.jsonl", [*rows, {**rows[0], "label": ["pos", "neg"]}])
    assert load_data(tmp_path / "all.jsonl").task.kind == "multi-label"


def test_columns_taken_for_labels_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    values = {"sentiment": ["good", "bad"], "annotator": ["anna", "bo"], "language": ["en", "id"]}
    rows = [{"text": f"film {n}", **{name: two[n // 3 % 2] for name, two in values.items()}} for n in range(40)]
    pandas.DataFrame(rows).to_csv(tmp_path / "all.csv", index=False)
    assert load_data(tmp_path / "all.csv").task.kind == "aspects"
    assert (
        "so sentiment, annotator, language are taken for labels. If they are not, name the label column" in caplog.text
    )
    caplog.clear()
    assert load_data(tmp_path / "all.csv", Columns(label="sentiment")).labels == ["bad", "good"]
    assert "taken for" not in caplog.text


def test_label_cells_with_json_are_lists(tmp_path: Path) -> None:
    """As labeling tools export them."""
    cells = ['{"choices": ["sound", "cast"]}', '["cast"]', '{"choices": ["sound"]}', "[]"]
    rows = [{"text": f"film {n}", "label": cells[n % 4]} for n in range(40)]
    path = tmp_path / "all.csv"
    pandas.DataFrame(rows).to_csv(path, index=False)
    data = load_data(path, Columns(task="multi-label"))
    assert data.labels == ["cast", "sound"]
    one = [{"text": f"film {n}", "label": ['["pos"]', '{"choices": ["neg"]}'][n % 2]} for n in range(40)]
    pandas.DataFrame(one).to_csv(path, index=False)
    assert load_data(path, Columns(task="classification")).labels == ["neg", "pos"]
    pandas.DataFrame(rows).to_csv(path, index=False)
    with pytest.raises(LabelError, match=r"all.csv:2: several labels .*--task"):
        load_data(path, Columns(task="classification"))
    pandas.DataFrame([{**row, "label": '{"a": ["x"], "b": ["y"]}'} for row in rows]).to_csv(path, index=False)
    with pytest.raises(LabelError, match="expected a list, or an object with one list"):
        load_data(path, Columns(task="multi-label"))
