import importlib
import json
import linecache
import sys
from pathlib import Path

import pytest

from eyas.errors import DataError, ModelError
from eyas.exam.plan_file import make_plan, read_plan, to_yaml
from eyas.exam.trials import trials_of
from eyas.tasks import Task

POLAR = Task("classification", ("negative", "positive"))
PLANTED = Path(__file__).parents[1] / "planted"
TASKS = {"films": POLAR, "reviews": POLAR}
PLAN = """\
data:
  - source: reviews
    name: films
teacher: teacher
students: [static, {architecture: bilstm, hidden_size: 75}]
recipes: [logit-mse, soft-targets]
embeddings: [teacher, random]
seeds: [0, 1]
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


def test_plan_expands_into_trials(tmp_path: Path) -> None:
    plan = read_plan(_write(tmp_path, PLAN))
    trials = trials_of(plan, TASKS)
    kinds = [trial.kind for trial in trials]
    assert kinds[:4] == ["teacher", "teacher", "baseline", "baseline"]
    students = [trial for trial in trials if trial.kind == "student"]
    # 2 students x 2 embeddings x (2 recipes + the twin) x 2 seeds, all of the first seed first
    assert len(students) == 24
    assert [trial.seed for trial in students] == [0] * 12 + [1] * 12
    assert {trial.model for trial in students} == {"static", "bilstm-h75"}
    assert len({trial.key("") for trial in trials}) == len(trials)


def test_recipes_of_several_stages_have_their_last_stage_as_control() -> None:
    named = ["tinybert mapping=top", "dist"]
    plan = make_plan(data="films", teacher="t", students=[{"architecture": "bert"}], seeds=[0], recipes=named)
    films = {"films": POLAR}
    recipes = [trial.recipe for trial in trials_of(plan, films) if trial.kind == "student"]
    assert recipes == [*named, "hard-labels", "tinybert mapping=top stages=last"]
    without = plan.model_copy(update={"twins": False})
    assert [trial.recipe for trial in trials_of(without, films) if trial.kind == "student"] == named


def test_plan_round_trips_through_yaml(tmp_path: Path) -> None:
    plan = read_plan(_write(tmp_path, PLAN))
    assert read_plan(_write(tmp_path, to_yaml(plan))) == plan


def test_plan_resolves_paths_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    plan = read_plan(_write(tmp_path, PLAN))
    assert plan.data[0].source == str(tmp_path / "reviews")
    assert plan.teacher == ("teacher",)  # may be a name on the Hub


def test_plan_resolves_teacher_but_not_embeddings_named_teacher(tmp_path: Path) -> None:
    (tmp_path / "teacher").mkdir()
    plan = read_plan(_write(tmp_path, PLAN + "arguments: {learning_rate: 5e-4}\n"))
    assert plan.teacher == (str(tmp_path / "teacher"),)
    assert plan.embeddings == ("teacher", "random")
    assert plan.arguments == {"learning_rate": 5e-4}  # which YAML reads as a string
    single = make_plan(data={"source": "a", "unlabeled": "more.txt"}, teacher="b", students="cnn", recipes="dist")
    assert single.data[0].unlabeled == ("more.txt",)
    assert [student.architecture for student in single.students] == ["cnn"]
    assert single.recipes == ("dist",)


def test_trial_key_ignores_names(tmp_path: Path) -> None:
    renamed = PLAN.replace("films", "reviews").replace("hidden_size: 75}", "hidden_size: 75, name: small}")
    before = {trial.key("x") for trial in trials_of(read_plan(_write(tmp_path, PLAN)), TASKS)}
    assert {trial.key("x") for trial in trials_of(read_plan(_write(tmp_path, renamed)), TASKS)} == before
    assert {trial.key("y") for trial in trials_of(read_plan(_write(tmp_path, PLAN)), TASKS)}.isdisjoint(before)


def test_plan_resolves_init_folder(tmp_path: Path) -> None:
    (tmp_path / "general").mkdir()
    (tmp_path / "general" / "config.json").write_text('{"model_type": "eyas-bilstm"}')
    for written in ("general", "./general"):
        plan = read_plan(_write(tmp_path, PLAN.replace("hidden_size: 75", f"init: {written}")))
        assert [student.init for student in plan.students] == [None, str(tmp_path / "general")]


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("[static,", "[statik,", 5, "No student 'statik'. Expected one of static, cnn, bilstm, cnn-lstm"),
        ("recipes:", "recepies:", 6, "unknown key, expected one of data, teacher, teachers, students, recipes"),
        ("hidden_size: 75", "hiden_size: 75", 5, "unknown key, expected one of architecture, layers"),
        ("soft-targets", "softer", 6, "Unknown recipe 'softer'. Expected one of hard-labels"),
        ("random", "no/such.vec", 7, "expected teacher, random or a file of word vectors, got"),
        ("hidden_size: 75", "init: ./general", 5, "expected an existing folder, got ./general"),
        ("bilstm, hidden_size: 75", "cnn, compress: [low-rank:0.5]", 5, "starts from the teacher's layers, such as"),
        ("bilstm, hidden_size: 75", "bert-mini, init: frist", 5, "No init 'frist'. Expected random, first, last, skip"),
        ("bilstm, hidden_size: 75", "bert-mini, init: '1,3'", 5, "lists the layers 1,3, expected 4, one per student"),
        ("bilstm, hidden_size: 75", "bert-mini, heads: 5", 5, "is 256, expected a multiple of the 5 heads"),
        ("bilstm, hidden_size: 75", "bert-mini, crf: true", 5, "bert-mini has no CRF and no character vectors"),
        ("hidden_size: 75", "layers: 2", 5, "bilstm is not a transformer: leave --layers"),
        ("hidden_size: 75", "init: first", 5, "bilstm cannot start from teacher layers: init (--init) is 'first'"),
        ("hidden_size: 75", "init: reviews", 5, "expected a model folder with a config.json, found none"),
        ("hidden_size: 75", f"init: {PLANTED / 'films'}", 5, "but bilstm starts from a pretrained student"),
        (
            "hidden_size: 75",
            "init: general-xx",
            5,
            "init (--init) is 'general-xx', expected one of general",
        ),
        ("hidden_size: 75", "dropout: 1.5", 5, "dropout is 1.5, expected at least 0 and less than 1"),
        ("hidden_size: 75", "decoder_layers: 2", 5, "is for students that write"),
        ("hidden_size: 75", "combination: weights", 5, "bilstm is not an ensemble"),
        ("hidden_size: 75", "embeddings: random", 5, "from the plan: set its embeddings to [random]"),
        ("static, {architecture: bilstm, hidden_size: 75}", "{architecture: dagfm, heads: 2}", 5, "dagfm has no heads"),
        ("seeds: [0, 1]", "seeds: [0, 0]", 8, "0 is given more than once"),
        ("seeds: [0, 1]", "seeds: []", 8, "at least 1 item"),
        ("seeds: [0, 1]", "seeds: [a]", 8, "valid integer"),
        ("students: [static, {architecture: bilstm, hidden_size: 75}]", "students: []", 5, "at least 1 item"),
        ("teacher: teacher\n", "", 1, "data set films has no teacher"),
        ("    name: films\n", "    name: films\n  - source: b\n    name: films\n", 1, "two data are named films"),
        ("    name: films\n", "    name: films\n    label_noise: often\n", 2, "label_noise is often, expected a share"),
        ("    name: films\n", "    name: films\n    imbalance: 0\n", 2, "imbalance is 0, expected at least 1"),
        ("seeds: [0, 1]", "seeds: [0, 1", 9, "invalid YAML"),
        ("seeds:", "arguments: {learning_rat: 1}\nseeds:", 8, "'learning_rat'; did you mean learning_rate?"),
        (
            "seeds:",
            "arguments: {learning_rate: fast}\nseeds:",
            8,
            "learning_rate is 'fast': Input should be a valid number",
        ),
        (
            "seeds:",
            "arguments: {per_device_train_batch_size: 0}\nseeds:",
            8,
            "batch_size is 0, expected an integer of at",
        ),
        ("seeds:", "arguments: {per_device_train_batch_size: true}\nseeds:", 8, "is True: Input should be a valid int"),
        ("seeds:", "arguments: {num_train_epochs: -2}\nseeds:", 8, "num_train_epochs is -2, expected a number above 0"),
        ("seeds:", "arguments: {accelerator_config: x}\nseeds:", 8, "No such file or directory"),
        ("seeds:", "arguments: {eval_steps: x}\nseeds:", 8, "eval_steps is 'x': Input should be a valid number"),
        ("seeds:", "arguments: {max_steps: 2.5}\nseeds:", 8, "max_steps is 2.5: Input should be a valid integer"),
        ("seeds:", "arguments: {eval_strategy: epochs}\nseeds:", 8, "epochs is not a valid IntervalStrategy"),
        (
            "seeds:",
            "arguments: {seed: 1}\nseeds:",
            8,
            "arguments: seed is set by eyas: leave it out; the seed is a setting of its own",
        ),
    ],
)
def test_plan_errors_name_the_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in PLAN
    (tmp_path / "reviews").mkdir()
    with pytest.raises(DataError) as error:
        read_plan(_write(tmp_path, PLAN.replace(old, new)))
    assert f"plan.yaml:{line}:" in str(error.value), error.value
    assert said in str(error.value)


def test_invalid_plans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read the plan .*: No such file"):
        read_plan(tmp_path / "none.yaml")
    with pytest.raises(DataError, match="expected a plan"):
        read_plan(_write(tmp_path, "- a\n"))
    with pytest.raises(DataError, match=r"seeds: 1 is given more than once"):
        make_plan(data="x", teacher="y", seeds=[1, 1])


def test_plan_pairs_recipes_with_students_they_support(tmp_path: Path) -> None:
    text = PLAN.replace("[static, {architecture: bilstm, hidden_size: 75}]", "[cnn, 'ensemble:cnn,static', bert-tiny]")
    text = text.replace("[logit-mse, soft-targets]", "[logit-mse, {recipe: logit-mse, mutual: 1.0}, minilmv2]")
    trials = [trial for trial in trials_of(read_plan(_write(tmp_path, text)), TASKS) if trial.kind == "student"]
    taught = {(trial.model, trial.recipe) for trial in trials}
    assert taught == {
        *(
            (name, recipe)
            for name in ("cnn", "ensemble:cnn,static", "bert-tiny")
            for recipe in ("logit-mse", "hard-labels")
        ),
        ("ensemble:cnn,static", "logit-mse mutual=1.0"),
        ("bert-tiny", "minilmv2"),
        ("bert-tiny", "minilmv2 stages=last"),
    }
    alone = text.replace("[cnn, 'ensemble:cnn,static', bert-tiny]", "[cnn]")
    with pytest.raises(DataError, match=r"logit-mse mutual=1.0 supports none of the students cnn"):
        read_plan(_write(tmp_path, alone))


def test_plan_uses_default_recipe_of_each_task() -> None:
    data = [{"source": name} for name in ("films", "words", "yes-or-no", "three", "sides", "topics", "scores")]
    plan = make_plan(data=data, teacher="t", students=["cnn"], seeds=[0])
    tasks = {
        "films": POLAR,
        "words": Task("tagging", ("O", "B-place", "I-place")),
        "yes-or-no": Task("tagging", ("no", "yes")),
        "three": Task("classification", ("a", "b", "c")),
        "sides": Task("aspects", ("food=good", "food=bad", "food=none", "view=good", "view=bad")),
        "topics": Task("multi-label", ("a", "b", "c")),
        "scores": Task("regression", ("score",)),
    }
    trials = [trial for trial in trials_of(plan, tasks) if trial.kind == "student"]
    found = {trial.dataset.name: trial.recipe for trial in trials if trial.recipe != "hard-labels"}
    logits = dict.fromkeys(("films", "yes-or-no", "topics", "scores"), "logit-mse")
    assert found == {**logits, **dict.fromkeys(("words", "three", "sides"), "dist")}
    assert len(trials) == 2 * len(data)  # and each its twin
    crf = make_plan(data="words", teacher="t", students=[{"architecture": "cnn", "crf": True}], twins=False)
    assert {trial.recipe for trial in trials_of(crf, tasks) if trial.kind == "student"} == {"logit-mse"}


def test_plan_accepts_mappings_and_schedules() -> None:
    recipes = [
        {"recipe": "tinybert", "mapping": [[1, 3], [2, 6]]},
        {"recipe": "tinybert", "mapping": "1-6"},
        {"recipe": "soft-targets", "temperature": "linear:8:1"},
    ]
    plan = make_plan(data="x", teacher="y", students=["bert-tiny"], recipes=recipes)
    written = ("tinybert mapping=1-3,2-6", "tinybert mapping=1-6", "soft-targets temperature=linear:8:1")
    assert plan.recipes == written


def test_plan_uses_attributions_only_for_students_with_teacher_tokens() -> None:
    students = [
        {"architecture": "cnn"},
        {"architecture": "cnn", "vocab_size": 100},
        {"architecture": "bert", "layers": 1},
    ]
    plan = make_plan(data="x", teacher="y", students=students, recipes=["logit-mse", "ad-kd"], seeds=[0])
    tasks = {"x": Task("classification", ("a", "b"))}

    def sitting(*pairs: str) -> set[str]:
        return {trial.model for trial in trials_of(plan, tasks, pairs) if trial.recipe == "ad-kd"}

    assert sitting() == {"cnn", "bert-l1"}
    assert sitting("x") == {"bert-l1"}


def test_plan_pairs_students_and_word_vectors_with_data_they_fit(tmp_path: Path) -> None:
    words = Task("tagging", ("O", "B-place", "I-place"))
    (tmp_path / "glove.txt").write_text("a 0.1 0.2\n")
    vectors = str(tmp_path / "glove.txt")
    students = ["ensemble:cnn,static", {"architecture": "cnn", "crf": True}, "bert-tiny"]
    plan = make_plan(
        data=[{"source": "films"}, {"source": "words"}],
        teacher="t",
        students=students,
        seeds=[0],
        embeddings=["teacher", vectors],
        baselines=False,
    )
    trials = [trial for trial in trials_of(plan, {"films": POLAR, "words": words}) if trial.kind == "student"]
    assert {(trial.dataset.name, trial.model, trial.embeddings) for trial in trials} == {
        ("films", "ensemble:cnn,static", "teacher"),
        ("films", "ensemble:cnn,static", vectors),
        ("films", "bert-tiny", "teacher"),
        ("words", "cnn-crf", "teacher"),
        ("words", "cnn-crf", vectors),
        ("words", "bert-tiny", "teacher"),
    }
    with pytest.raises(ModelError, match="student cnn-crf: crf .* are for tagging"):
        trials_of(plan, {"films": POLAR, "words": POLAR})
    recipes = ["logit-mse", "soft-targets loss=standardized"]
    plan = make_plan(data="films", teacher="t", students=["cnn"], recipes=recipes)
    with pytest.raises(ModelError, match="soft-targets loss=standardized: LogitStandardizationLoss needs"):
        trials_of(plan, {"films": POLAR})
    with pytest.raises(DataError, match=r"student bert-tiny: bert-tiny reads subwords: embeddings"):
        make_plan(data="films", teacher="t", students=["bert-tiny"], embeddings=[vectors])


def test_seeds_of_a_plan_are_seeds() -> None:
    with pytest.raises(DataError, match=r"seed .* is -1, expected 0 to"):
        make_plan(data="x", teacher="y", seeds=[0, -1])


def test_teachers_read_as_much_as_the_students() -> None:
    """Else a student of long texts would learn what the teacher says of their first part."""
    longer = {"architecture": "cnn", "max_length": 512}
    plans = {
        name: make_plan(data={"source": "x", **own}, teacher="y", students=students)
        for name, own, students in (
            ("usual", {}, ["cnn"]),
            ("short", {}, [{"architecture": "cnn", "max_length": 64}]),
            ("long", {}, ["static", longer]),
            ("named", {"max_length": 300}, [longer]),
        )
    }
    assert {name: plan.datasets[0].max_length for name, plan in plans.items()} == {
        "usual": 256, "short": 256, "long": 512, "named": 300
    }  # fmt: skip
    keys = {name: {trial.key("") for trial in trials_of(plan, {"x": POLAR})} for name, plan in plans.items()}
    assert len(keys["usual"] & keys["short"]) == 4  # teachers and baselines
    assert not keys["usual"] & keys["long"]


def test_repeated_key_is_refused(tmp_path: Path) -> None:
    """YAML would keep the last alone."""
    with pytest.raises(DataError, match=r"plan.yaml:3: data is given twice, first in line 1"):
        read_plan(_write(tmp_path, "data: a\nteacher: t\ndata: b\n"))
    with pytest.raises(DataError, match=r"plan.yaml:3: source is given twice"):
        read_plan(_write(tmp_path, "data:\n  - source: a\n    source: b\nteacher: t\n"))
    once = {"source": "a", "label_map": {"1": "x"}}
    assert read_plan(_write(tmp_path, f"data: {json.dumps(once)}\nteacher: t\n")).data[0].label_map == {"1": "x"}
    merged = "data:\n  - &a {source: a}\n  - &b {teacher: t}\n  - {<<: *a, <<: *b, name: c}\n"
    with pytest.raises(DataError) as error:  # the second has no source; nothing is given twice
        read_plan(_write(tmp_path, merged))
    assert "twice" not in str(error.value)
    for text in ("data: &a [*a]\n", "data: d\narguments: &a\n  x: *a\n"):  # a part that holds itself
        with pytest.raises(DataError):
            read_plan(_write(tmp_path, f"{text}teacher: t\n"))


def test_moved_unlabeled_texts_are_the_same_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their content is in the fingerprint of the data."""
    keys = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "more.txt").write_text("a text\n")
        monkeypatch.chdir(tmp_path / name)
        plan = make_plan(data={"source": "x", "unlabeled": "more.txt", "teacher": "y"}, students=["cnn"])
        keys.append([trial.key("") for trial in trials_of(plan, {"x": POLAR})])
    assert keys[0] == keys[1]


def test_paths_in_tuples_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line passes tuples; the plan in the exam's folder must find the files from there."""
    (tmp_path / "mlm").mkdir()
    (tmp_path / "d.csv").write_text("text,label\n")
    monkeypatch.chdir(tmp_path)
    plan = make_plan(data=({"source": "d.csv", "augment": ("masked-lm:5:mlm",)},), teacher=("mlm",), students=("cnn",))
    (entry,) = plan.datasets
    assert (entry.source, entry.teacher) == (str(tmp_path / "d.csv"), (str(tmp_path / "mlm"),))
    assert entry.augment == (f"masked-lm:5:{tmp_path / 'mlm'}",)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seeds: 3", "seeds: expected a list, got 3"),
        ("recipes: ['']", "A recipe is empty"),
        ("recipes: [{mapping: top}]", "Unknown recipe"),
        ("teachers: joined", "a rule for several"),
        ("arguments: {learning_rate: .nan}", "learning_rate is nan, expected 0 or more"),
        ("students: [{architecture: statick}]", "statick"),
    ],
)
def test_plan_errors_say_one_thing(line: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=expected) as found:
        read_plan(_write(tmp_path, f"data: {PLANTED / 'films'}\nteacher: t\n{line}\n"))
    assert len(str(found.value).splitlines()) == 1


def test_plan_of_options_can_be_read_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "films.csv").write_text("text,label\n")
    monkeypatch.chdir(tmp_path / "here")
    written = to_yaml(make_plan(data="films.csv", teacher="t"))
    monkeypatch.chdir(tmp_path)
    assert Path(read_plan(_write(tmp_path, written)).data[0].source) == tmp_path / "here" / "films.csv"


def test_added_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    """Links to two folders called student would be two seeds of one student."""
    for run in ("a", "b"):
        (tmp_path / run / "student").mkdir(parents=True)
        (tmp_path / run / "student" / "config.json").write_text("{}")
        (tmp_path / f"link-{run}").symlink_to(tmp_path / run / "student")
    with pytest.raises(DataError, match="two folders have the same name"):
        make_plan(data="x", teacher="t", add=[str(tmp_path / "link-a"), str(tmp_path / "link-b")])


def test_trials_follow_the_code_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe whose loss was edited between two runs is another trial."""
    monkeypatch.syspath_prepend(tmp_path)
    file, keys = tmp_path / "edited_recipe.py", []
    for weight in (1.0, 2.5):
        file.write_text(
            "from eyas import HardLabelLoss\nfrom eyas.training.recipes import Stage\n\n"
            f"def mine():\n    return [Stage([HardLabelLoss({weight})])]\n"
        )
        linecache.checkcache()
        monkeypatch.delitem(sys.modules, "edited_recipe", raising=False)
        importlib.invalidate_caches()
        plan = make_plan(data="films", teacher="t", students=["static"], recipes=["edited_recipe:mine"])
        keys.append(next(one for one in trials_of(plan, TASKS) if one.recipe == "edited_recipe:mine").key(""))
    assert keys[0] != keys[1]
