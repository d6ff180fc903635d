"""Write docs/benchmarks.md, which-student.md, beyond-size.md and papers.md from the rows in benchmarks/results.

python benchmarks/write_docs.py
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from common import read_rows

from eyas.exam.results import LAST_STAGE
from eyas.report.page import METRICS

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("accuracy", "calibration_error")
TARGET = Path(__file__).parents[1] / "docs" / "benchmarks.md"
IMAGES = TARGET.with_name("images")


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def spread(values: list[float]) -> str:
    """Mean and, with several seeds, the standard deviation; in percent."""
    mean = f"{100 * np.mean(values):.1f}"
    return f"{mean} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def where(row: dict) -> str:
    cores = f"{row['cores']} core{'' if row['cores'] == 1 else 's'}"
    machine = ", ".join(filter(None, [row.get("gpu"), row["cpu"], cores]))
    return f"{machine}, torch {row['torch']}, onnxruntime {row['onnxruntime']}, {row['date']}"


def accuracy() -> str:
    rows = read_rows(RESULTS / "sst2_accuracy.jsonl")
    groups = defaultdict(list)
    for row in rows:
        groups[row["setting"], row["student"], row["recipe"]].append(row)
    parts = []
    for setting, title in (("a", "(a) all 67,349 labels"), ("b", "(b) 10 % of the labels, 90 % as unlabeled text")):
        lines = []
        for student in ("static", "cnn", "bilstm", "cnn-lstm"):
            hard, soft = groups[setting, student, "hard-labels"], groups[setting, student, "logit-mse"]
            if not hard or not soft:
                continue
            paired = {r["seed"]: r["accuracy"] for r in hard}
            gains = [r["accuracy"] - paired[r["seed"]] for r in soft if r["seed"] in paired]
            lines.append(
                [
                    f"`{student}`",
                    spread([r["accuracy"] for r in hard]),
                    spread([r["accuracy"] for r in soft]),
                    f"{100 * np.mean(gains):+.1f}" if gains else "",
                    spread([r["teacher_accuracy"] for r in soft]),
                    spread([r["retention"] for r in soft]),
                    spread([r["agreement"] for r in soft]),
                    f"{len(hard)} / {len(soft)}",
                ]
            )
        header = ["student", "hard labels", "logit-mse", "gain", "teacher", "retention", "agreement", "seeds"]
        parts.append(f"### {title}\n\n{table(header, lines)}")
    machines = dict.fromkeys(where({**row, "date": row["date"][:7]}) for row in rows)
    return "\n\n".join(parts) + f"\n\n{'; '.join(machines)}."


def inference() -> str:
    rows = read_rows(RESULTS / "inference.jsonl")
    parts = []
    for tokens in (16, 32, 128):
        both = {(r["model"], r["tokenization"]): r for r in rows if r["tokens"] == tokens}
        lines = []
        for (name, counted), row in both.items():
            if not counted:
                continue
            ratio = row["times_faster_than_bert_base_fp32"]
            lines.append(
                [
                    name,
                    f"{row['median_us']:,.0f}",
                    f"{both[name, False]['median_us']:,.0f}",
                    f"{ratio:,.0f} ({row['lowest_round']:,.0f} to {row['highest_round']:,.0f})",
                    f"{row['times_faster_than_bert_base_int8']:,.1f}",
                    f"{row['size_bytes'] / 1e6:.2f}",
                ]
            )
        header = [
            "model",
            "µs",
            "µs without tokenization",
            "times BERT-base fp32 (rounds)",
            "times BERT-base int8",
            "MB",
        ]
        parts.append(f"### {tokens} tokens\n\n{table(header, lines)}")
    return "\n\n".join(parts) + f"\n\n{where(rows[0])}."


def times() -> str:
    rows = read_rows(RESULTS / "training_time.jsonl")
    ours = np.mean([r["seconds"] for r in rows if r["command"] == "eyas"])
    lines = []
    for name in dict.fromkeys(r["command"] for r in rows):  # the mean of the rounds
        taken = float(np.mean([r["seconds"] for r in rows if r["command"] == name]))
        lines.append([name, f"{taken:.0f}", f"{taken / ours:.1f}"])
    caption = f"{rows[0]['rows']:,} SST-2 phrases, {rows[0]['epochs']} epochs, `bilstm`, batch 64."
    overhead = read_rows(RESULTS / "trainer_overhead.jsonl")
    extra = [
        [f"`{r['student']}`", f"{r['bare_ms']:.2f}", f"{r['trainer_ms']:.2f}", f"{r['overhead']:+.1%}"]
        for r in overhead
    ]
    return (
        f"{caption}\n\n{table(['command', 'seconds', 'times eyas'], lines)}\n\n{where(rows[0])}.\n\n"
        "The trainer's overhead per step over forward, backward and optimizer, at batch size 64, medians:\n\n"
        f"{table(['student', 'bare loop, ms', 'trainer, ms', 'overhead'], extra)}"
    )


def memory() -> str:
    lines = [
        [
            f"{r['rows']:,}",
            r["teacher"],
            f"{r['file_bytes'] / 1e6:.0f}",
            f"{r['peak_rss_bytes'] / 1e9:.2f}",
            f"{r['seconds']}",
        ]
        for r in read_rows(RESULTS / "memory.jsonl")
    ]
    return table(["texts", "teacher", "file, MB", "peak RSS, GB", "seconds"], lines)


def cascades() -> str:
    lines = [
        [
            f"`{r['dataset']}`",
            f"{r['min_retention']:.1%}",
            *(
                [f"refused: {r['refused'].split(':')[-1].split('. Ask')[0].strip()}", "", "", ""]
                if r["refused"]
                else [
                    f"{r['retention']:.1%} ({r['interval'][0]:.1%} to {r['interval'][1]:.1%})",
                    f"{r['answered']:.0%}",
                    f"{r['speed']:.1f}",
                    f"{r['texts']:,}",
                ]
            ),
        ]
        for r in read_rows(RESULTS / "cascades.jsonl")
    ]
    header = ["data set", "promised", "of the teacher's test score (95 % interval)", "answered by the student"]
    header += ["times the teacher's speed", "test texts"]
    return f"{table(header, lines)}\n\n{where(read_rows(RESULTS / 'cascades.jsonl')[-1])}."


def compression() -> str:
    """Each method's size, speed and score; the model as it is in bold."""
    rows = pd.DataFrame(read_rows(RESULTS / "compression.jsonl")).drop_duplicates(
        ["dataset", "encoder", "method", "seed"], keep="last"
    )
    tables = []
    for (dataset, encoder), part in rows.groupby(["dataset", "encoder"], sort=False):
        lines = []
        for method, group in part.groupby("method", sort=False):
            name = f"as it is, {method.split()[1]}" if method.startswith("none") else f"`{method.replace('+', '`, `')}`"
            sizes = [f"{group[column].mean():.1f}" for column in ("mb", "smaller", "faster")]
            lines.append([name, *sizes, spread(list(group["score"])), f"{100 * group['retention'].mean():.1f}"])
        lines.sort(key=lambda line: float(line[2]))
        first = part.iloc[0]
        name = f"{dataset}, {encoder}, {int(first['train_texts']):,} texts"
        metric = METRICS.get(first["metric"], first["metric"])
        header = [name, "MB", "times smaller", "times faster", metric, "of the teacher, %"]
        tables.append(table(header, lines))
    last = read_rows(RESULTS / "compression.jsonl")[-1]
    return "\n\n".join([*tables, f"{where(last)}."])


def few_bits() -> str:
    """Speed of each kernel relative to int8's."""
    rows = read_rows(RESULTS / "few_bits.jsonl")[-9:]
    kinds = ["fp32 speed", "4 bits speed", "2 bits speed"]
    lines = [[str(row["tokens"]), row["shape"], *(f"{row[kind]:.2f}" for kind in kinds)] for row in rows]
    header = ["tokens", "matrix", "fp32", "4 bits", "2 bits"]
    return f"{table(header, lines)}\n\n{where(rows[-1])}."


def labeling() -> str:
    rows = [r for r in read_rows(RESULTS / "labeling.jsonl") if r["part"] == "rate"]
    ratios = [r["ratio"] for r in rows]
    return (
        f"{rows[0]['texts']:,} texts, {len(rows)} rounds: `label` runs at {np.mean(ratios):.2f} times the rate of the "
        f"bare loop ({min(ratios):.2f} to {max(ratios):.2f}). {where(rows[-1])}."
    )


def predict_files() -> str:
    rows = read_rows(RESULTS / "predict_files.jsonl")
    alone = {r["model"]: r["rate"] for r in rows if r["workers"] == 1}
    lines = [
        [
            f"`{r['model']}` {r['precision']}",
            f"{r['workers']}",
            f"{r['seconds']:.0f}",
            f"{r['per_second']:,}",
            f"{r['rate']:,}",
            f"{r['rate'] / alone[r['model']]:.2f}",
            f"{r['peak_of_a_tenth_mb']:.0f}, {r['peak_mb']:.0f}",
        ]
        for r in rows
    ]
    header = ["model", "processes", "seconds", "texts a second", "without the start", "times one process", "peak MB"]
    return f"{table(header, lines)}\n\n{where(rows[-1])}."


def exam() -> str:
    row = read_rows(RESULTS / "exam_overhead.jsonl")[0]
    share = row["idle_seconds"] / row["trial_seconds"]
    return f"{row['trials']} trials, {row['trial_seconds']:,.0f} seconds of work, {share:.2%} overhead. {where(row)}."


def which_student() -> str:
    """The exam's rows as answers: which student, which loss, which word vectors."""
    from eyas.exam.results import FORM

    results = pd.DataFrame(read_rows(RESULTS / "which_student.jsonl"))
    costs = pd.DataFrame(read_rows(RESULTS / "which_student_costs.jsonl")).drop(columns=["key", "format_version"])
    rows = results.merge(costs, on=FORM, how="left")
    teachers = rows[(rows["kind"] == "teacher") & (rows["precision"] == "fp32")].set_index("dataset")["accuracy"]
    rows["retention"] = rows["accuracy"] / rows["dataset"].map(teachers)
    students = rows[rows["kind"] == "student"]
    parts = []
    for name, own in rows.groupby("dataset", sort=False):
        lines = []
        for (model, precision), group in own[own["kind"] != "student"].groupby(["model", "precision"], sort=False):
            lines.append(_line(f"{model} {precision}".strip(), group))
        default = own[(own["kind"] == "student") & (own["embeddings"] == "teacher") & (own["recipe"] == "logit-mse")]
        lines += [_line(f"`{model}`", group) for model, group in default.groupby("model", sort=False)]
        header = ["model", "accuracy", "share of the teacher", "ms per text", "times the teacher", "MB"]
        seeds = own[own["kind"] == "student"]["seed"].nunique()
        tested = f"{own['rows'].iloc[0]:,} test rows, {seeds} seeds"
        parts.append(f"### {name}\n\n{tested}.\n\n{table(header, lines)}\n\n![{name}](images/exam-{name}.svg)")
    questions = [
        (
            "Which loss?",
            "recipe",
            ["embeddings"],
            [("logit-mse", "hard-labels"), ("soft-targets", "hard-labels"), ("logit-mse", "soft-targets")],
        ),
        ("Which word vectors?", "embeddings", ["recipe"], [("teacher", "random")]),
    ]
    for question, column, others, pairs in questions:
        lines = []
        for name, own in students.groupby("dataset", sort=False):
            wide = own.pivot_table(index=["model", "seed", *others], columns=column, values="accuracy")
            for a, b in pairs:
                gap = (wide[a] - wide[b]).dropna()
                error = 100 * gap.std(ddof=1) / np.sqrt(len(gap))
                share = f"{(gap > 0).mean():.0%} of {len(gap)}"
                lines.append([name, f"{a} - {b}", f"{100 * gap.mean():+.2f} ± {error:.2f}", share])
        header = ["data set", "accuracy of", "points, mean ± standard error", "better in"]
        parts.append(f"### {question}\n\nPairs of the same student, seed and {others[0]}.\n\n{table(header, lines)}")
    return "\n\n".join(parts) + f"\n\n{where(results.iloc[0])}."


# Wilie et al. 2020, table 5, test macro-F1: IndoBERT base (phase one), and the best transformer on fastText vectors.
PUBLISHED = {
    "emot": (75.48, 69.23),
    "smsa": (87.73, 82.13),
    "casa": (93.23, 82.20),
    "hoasa": (92.07, 85.88),
    "wrete": (78.55, 67.36),
    "posp": (95.26, 94.94),
    "bapos": (87.09, 81.77),
    "terma": (90.73, 76.12),
    "keps": (70.36, 56.70),
    "nergrit": (69.87, 38.69),
    "nerp": (75.52, 46.79),
    "facqa": (53.45, 15.29),
}


def exam_table(name: str, score: str = "score") -> str:
    """Every data set of an exam: the teacher, the linear baseline, each student with each recipe, labels first."""
    from eyas.exam.results import FORM

    results = pd.DataFrame(read_rows(RESULTS / f"{name}.jsonl"))
    costs = pd.DataFrame(read_rows(RESULTS / f"{name}_costs.jsonl")).drop(columns=["key", "format_version"])
    rows = results[results["status"] == "done"].merge(costs, on=FORM, how="left")
    models = list(dict.fromkeys(rows[rows["kind"] == "student"]["model"]))
    every = ("hard-labels", "logit-mse", "soft-targets", "dist")
    recipes = [recipe for recipe in every if (rows["recipe"] == recipe).any()]
    published = name == "indonlu"
    lines = []
    for dataset, own in rows.groupby("dataset", sort=False):
        whole = own[(own["kind"] == "teacher") & (own["precision"] == "fp32")]
        line = [f"{dataset} ({own['metric'].iloc[0].replace('_', ' ')})" if score == "score" else str(dataset)]
        line += [spread(list(whole[score])), spread(list(own[own["kind"] == "baseline"].head(1)[score]))]
        for model in models:
            each = own[own["model"] == model]
            groups = [each[each["recipe"] == recipe] for recipe in recipes]
            line.append(" / ".join(spread(list(group[score])) for group in groups if len(group)))
        fastest = {model: own[own["model"] == model]["times_faster"].iloc[0] for model in models}
        line.append(", ".join(f"{value:,.0f}" for value in fastest.values()))
        line += [f"{value:.1f}" for value in PUBLISHED[str(dataset)]] if published else []
        lines.append(line)
    header = ["data set", "teacher", "linear baseline", *(f"`{model}`" for model in models), "times the teacher"]
    header += ["IndoBERT base*", "fastText*"] if published else []
    return f"{table(header, lines)}\n\n{where(results.iloc[0])}."


def transfer() -> str:
    """What each transfer set brings, beside the same steps on the training texts alone."""
    rows = pd.DataFrame(read_rows(RESULTS / "transfer_set.jsonl"))
    order = {variant: place for place, variant in enumerate(dict.fromkeys(rows["variant"]))}
    lines = []
    for (task, student, variant, steps, recipe), own in sorted(
        rows.groupby(["task", "student", "variant", "steps", "recipe"], sort=False),
        key=lambda item: (*item[0][:2], order[item[0][2]], *item[0][3:]),
    ):
        plain = rows[(rows["task"] == task) & (rows["student"] == student) & (rows["variant"] == "none")]
        plain = plain[plain["steps"] == plain["steps"].min()]
        base = dict(zip(plain["seed"], plain["accuracy"], strict=True))
        gains = [row.accuracy - base[row.seed] for row in own.itertuples() if row.seed in base]
        error = f" ± {100 * np.std(gains, ddof=1) / len(gains) ** 0.5:.1f}" if len(gains) > 1 else ""
        texts = own["texts"].iloc[0]
        share = float((re.search(r"select=[\w-]+:([\d.]+)", str(variant)) or ["", 1])[1])  # of the new ones
        new = share * (sum(texts.values()) - texts["train"])
        lines.append(
            [
                str(task),
                f"`{student}`",
                str(variant) if recipe == "logit-mse" else f"{variant}, {recipe}",
                f"{1 + new / texts['train']:.1f}",
                spread(list(own["accuracy"])),
                "" if own.index.isin(plain.index).all() else f"{100 * np.mean(gains):+.1f}{error}",
                spread(list(own["agreement"])),
                f"{100 * own['teacher_accuracy'].iloc[0]:.1f}",
                f"{steps:,}",
                str(len(own)),
            ]
        )
    header = ["data", "student", "transfer set", "times the texts", "accuracy", "against none", "agreement", "teacher"]
    curve(rows)
    return f"{table([*header, 'steps', 'seeds'], lines)}\n\nA step has 64 texts. {where(rows.iloc[0])}."


def hard_labels() -> str:
    """How the labels among unlabeled texts are averaged: accuracy and calibration error."""
    frame = pd.DataFrame(read_rows(RESULTS / "hard_labels.jsonl"))
    lines = [
        [str(data), f"`{recipe}`", labels, f"{weight:g}" if weight else "", *(spread(list(own[c])) for c in COLUMNS)]
        for (data, recipe, labels, weight), own in frame.groupby(["data", "recipe", "labels", "weight"])
    ]
    header = ["data", "recipe", "labels", "their weight", "accuracy", "calibration error"]
    return f"{table(header, lines)}\n\n{where(frame.iloc[0].to_dict())}."


def learning_rates() -> str:
    rows = read_rows(RESULTS / "learning_rates.jsonl")
    lines = [
        [
            row["data"],
            f"`{row['recipe']}`",
            " + ".join(map(str, row["steps"])),
            ", ".join(f"{rate:g}" for rate in row["rates"]),
            f"{100 * row['after_first_stage']:.1f}" if len(row["steps"]) > 1 else "",
            f"{100 * row['validation']:.1f}",
        ]
        for row in rows
    ]
    header = ["data", "recipe", "steps", "learning rates", "after stage one", "best of the last stage"]
    return f"{table(header, lines)}\n\n{where(rows[0])}."


def curve(rows: pd.DataFrame) -> None:
    """Accuracy against the number of unlabeled texts beside a hundredth of SST-2's labels, as a picture."""
    own = rows[(rows["task"] == "sst2@1") & rows["variant"].str.fullmatch(r"none|unlabeled(:\d+)?")]
    own = own[own["steps"] == own["steps"].min()]
    points = pd.DataFrame(
        {
            "times": [round(sum(texts.values()) / texts["train"], 1) for texts in own["texts"]],
            "accuracy": own["accuracy"],
        }
    )
    scale = alt.Scale(type="log", domain=[0.9, 40], nice=False)
    x = alt.X("times:Q", scale=scale, title="texts that the teacher labels, in times the training texts")
    y = alt.Y("accuracy:Q", scale=alt.Scale(zero=False), axis=alt.Axis(format=".0%"), title="test accuracy")
    line = alt.Chart(points).mark_line(color="#2f6f9f").encode(x, alt.Y("mean(accuracy):Q", title="test accuracy"))
    dots = alt.Chart(points).mark_circle(color="#2f6f9f", size=45).encode(x, y)
    (line + dots).properties(width=520, height=280, background="white").save(IMAGES / "transfer-curve.svg")


def layers(exam: str) -> str:
    """Each recipe at the same steps, beside logit-mse, hard-labels and itself without options, with 95 % intervals."""
    compared = pd.DataFrame(read_rows(RESULTS / f"{exam}_compared.jsonl"))
    compared = compared.set_index(["dataset", "model", "recipe", "other"])
    rows = pd.DataFrame(read_rows(RESULTS / f"{exam}.jsonl"))
    rows = rows[(rows["status"] == "done") & (rows["kind"] == "student")]
    parts, with_options = [], any(other not in ("logit-mse", "hard-labels") for *_, other in compared.index)
    for (dataset, model), own in rows.groupby(["dataset", "model"], sort=False):
        scores, lines = own.groupby("recipe", sort=False)["score"], []
        for recipe, found in scores:
            others = ["logit-mse", "hard-labels", *([recipe.split()[0]] if with_options else [])]
            gaps = []
            for other in others:
                known = recipe != other and (dataset, model, recipe, other) in compared.index
                seeds = float(np.hypot(found.std(), scores.get_group(other).std())) if known else 0.0
                gaps.append(_gap(compared.loc[dataset, model, recipe, other], seeds) if known else "")
            lines.append([f"`{recipe}`", spread(list(found)), *gaps])
        header = ["recipe", own["metric"].iloc[0], "against logit-mse", "against hard-labels"]
        header += ["against itself without options"] if with_options else []
        parts.append(f"**{dataset}**, `{model}`, {int(own['rows'].iloc[0]):,} test rows\n\n{table(header, lines)}")
    return "\n\n".join([*parts, f"{where(rows.iloc[0])}."])


def methods() -> str:
    """Each recipe at its own defaults: score, and gains over logits at the same steps and over its last stage alone."""
    rows = pd.DataFrame(read_rows(RESULTS / "methods.jsonl"))
    compared = pd.DataFrame(read_rows(RESULTS / "methods_compared.jsonl"))
    rows = rows[(rows["status"] == "done") & rows["kind"].isin(["student", "teacher"]) & (rows["precision"] == "fp32")]
    teachers = rows[rows["kind"] == "teacher"].set_index("dataset")["score"]
    parts = []
    for (dataset, model), own in rows[rows["kind"] == "student"].groupby(["dataset", "model"], sort=False):
        gaps = compared[(compared["dataset"] == dataset) & (compared["model"] == model)]
        gaps = dict(iter(gaps.groupby(["recipe", "other"], sort=False)))
        lines = []
        for recipe, found in own.groupby("recipe", sort=False):
            if str(recipe).endswith(LAST_STAGE):
                continue
            alone = gaps.get((f"{recipe}{LAST_STAGE}", recipe))
            alone = None if alone is None else _reversed(alone)
            gains = [gaps.get((recipe, "logit-mse")), alone]
            lines.append([f"`{recipe}`", spread(list(found["score"])), *map(_gain, gains)])
        first, seeds = own.iloc[0], own["seed"].nunique()
        header = ["recipe", first["metric"], "against logit-mse, as many steps", "against its last stage alone"]
        title = f"**{dataset}**, `{model}`, {int(first['rows']):,} test rows, teacher {100 * teachers[dataset]:.1f}, "
        title += f"{int(first['steps']):,} steps, {seeds} seed{'s' * (seeds > 1)}"
        parts.append(f"{title}\n\n{table(header, lines)}\n\n{where(first.to_dict())}.")
    return "\n\n".join(parts)


def _reversed(gaps: pd.DataFrame) -> pd.DataFrame:
    return gaps.assign(difference=-gaps["difference"], low=-gaps["high"], high=-gaps["low"])


def _gain(gaps: pd.DataFrame | None) -> str:
    """Of one seed the difference and its interval; of several the mean and the spread."""
    if gaps is None:
        return ""
    if len(gaps) == 1:
        return _gap(next(gaps.itertuples()))
    mean, deviation = 100 * gaps["difference"].mean(), 100 * gaps["difference"].std()
    return f"{mean:+.1f} ± {deviation:.1f}"


def papers(text: str) -> str:
    """What each recipe gained over the teacher's logits, in the places for it."""
    anew = pd.DataFrame(read_rows(RESULTS / "methods_compared.jsonl"))
    anew = anew[anew["other"] == "logit-mse"]
    exams = ("layers", "authors", "grid", "grid_full", "grid_pairs", "grid_tasks")
    found = {exam: read_rows(RESULTS / f"{exam}_compared.jsonl") for exam in exams}
    # Recipes that were changed to their authors' code were measured anew; older rows of theirs do not count.
    changed = {row["recipe"] for row in found["authors"]} - {row["recipe"] for row in found["layers"]}
    compared = pd.DataFrame(
        [row for exam in exams for row in found[exam] if exam == "authors" or row["recipe"] not in changed]
    )
    repeated = (compared["recipe"] == "tinybert") & (compared["dataset"] == "trec")
    compared = compared[~repeated | ~compared.duplicated(["dataset", "model", "recipe", "other"])]
    wide = ~compared["model"].str.contains("-h")  # of the students, those as wide as their teacher
    compared = compared[(compared["other"] == "logit-mse") & wide]

    def gains(found: re.Match[str]) -> str:
        now = anew[anew["recipe"] == found[1]]
        if len(now):
            own = now.groupby(["dataset", "model"], sort=False)
            return "; ".join(f"{dataset} {_gain(part)}" for (dataset, _), part in own)
        rows = compared[compared["recipe"] == found[1]]
        return "; ".join(f"{row.dataset} {_gap(row)}" for row in rows.itertuples()) or "not run"

    return re.sub(r"{{ gain (.+?) }}", gains, text)


def ensembles() -> str:
    """Members alone, and together: score, against the best member and the teacher, and what it costs."""
    from eyas.exam.results import FORM

    results = pd.DataFrame(read_rows(RESULTS / "ensembles.jsonl"))
    costs = pd.DataFrame(read_rows(RESULTS / "ensembles_costs.jsonl")).drop(columns=["key", "format_version"])
    rows = results[results["status"] == "done"].merge(costs, on=FORM, how="left")
    compared = pd.DataFrame(read_rows(RESULTS / "ensembles_compared.jsonl"))
    lines = []
    for dataset, own in rows.groupby("dataset", sort=False):
        teacher = own[(own["kind"] == "teacher") & (own["precision"] == "fp32")]
        lines.append([str(dataset), "teacher", spread(list(teacher["score"])), "", "", "1", ""])
        for (model, recipe), group in own[own["kind"] == "student"].groupby(["model", "recipe"], sort=False):
            against = compared[
                (compared["dataset"] == dataset) & (compared["model"] == model) & (compared["recipe"] == recipe)
            ]
            gaps = [_gap(row) for row in against.itertuples()]
            name = f"`{model}`{', mutual' if 'mutual' in recipe else ''}"
            first = group.iloc[0]
            cost = [f"{first['times_faster']:,.0f}", f"{first['size_bytes'] / 1e6:.2f}"]
            lines.append(["", name, spread(list(group["score"])), *(gaps or ["", ""]), *cost])
        for name, against in compared[compared["dataset"] == dataset].groupby("model"):
            if name not in set(own["model"]):  # not trained, but made of what was
                score = f"{100 * against['score'].iloc[0]:.1f}"
                lines.append(["", str(name), score, *(_gap(row) for row in against.itertuples()), "", ""])
    header = ["data", "model", "accuracy", "against the best member", "against the teacher", "times as fast", "MB"]
    return f"{table(header, lines)}\n\n{where(results.iloc[0])}."


def _gap(row: Any, seeds: float = np.inf) -> str:
    """The difference and its interval; bold beyond the interval and beyond the spread `seeds`."""
    text = f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
    certain = not row.low <= 0 <= row.high and abs(row.difference) > seeds
    return f"**{text}**" if certain else text


def sentence_vectors() -> str:
    """A student of sentence vectors: as an encoder, and where labels are few."""
    rows = pd.DataFrame(read_rows(RESULTS / "sentence_vectors.jsonl"))
    encoders = rows[rows["kind"] == "similarity"]
    base = encoders["sentences_per_second"].iloc[0]
    lines = [
        [row.encoder, f"{100 * row.spearman:.1f}", f"{row.dimensions:.0f}", f"{row.sentences_per_second / base:.1f}"]
        for row in encoders.itertuples()
    ]
    first = table(["encoder", "STS-B test, Spearman", "dimensions", "times the teacher's sentences a second"], lines)
    few = rows[rows["kind"] == "labels"]
    ways = list(dict.fromkeys(few["way"]))
    lines = []
    for (data, labels), group in few.groupby(["data", "labels"], sort=False):
        scores = [spread(list(group[group["way"] == way]["accuracy"])) for way in ways]
        lines.append([str(data), f"{labels:.0f}" if labels else "all", *scores, str(group["seed"].nunique())])
    names = {"scratch": "from scratch", "kd": "distilled", "sra": "SRA, fine-tuned", "sra+kd": "SRA, distilled"}
    second = table(["data", "labels", *(names[way] for way in ways), "seeds"], lines)
    about = few.iloc[0]
    read = f"The student read {about['lines']:,.0f} lines {about['epochs']:.0f} times"
    learned = f"{read}; {about['steps']:,.0f} steps after that"
    return f"{first}\n\n{second}\n\n{learned}. {where(rows.iloc[0])}."


def augmentation_speed() -> str:
    rows = read_rows(RESULTS / "augmentation_speed.jsonl")
    each = [f"`{row['method']}` makes {row['per_second']:,.0f} new texts a second" for row in rows if "texts" in row]
    masks = {row["method"]: row["per_second"] for row in rows if "texts" not in row}
    batched, single = masks["masked-lm, batched"], masks["masked-lm, one at a time"]
    filled = (
        f"`masked-lm` predicts {batched:,.0f} masks a second, {batched / single:.1f} times a loop over single masks"
    )
    return f"{', '.join([*each, filled])}, all on one core. {where(rows[0])}."


def serving() -> str:
    rows = read_rows(RESULTS / "serving.jsonl")
    lines = [[row["server"], f"{row['rate']:,.0f}", f"{row['start_seconds']:.2f}"] for row in rows if "rate" in row]
    half, double = (next(row for row in rows if row.get("load") == load) for load in ("half", "double"))
    refused = f"{double['refused'] / double['sent']:.0%} of {double['sent']:,} requests were rejected with 503"
    wrong = f"{double['other']} had another status, {double['wrong']} answers were wrong"
    memory = f"memory went from {double['rss_before'] / 1e6:.0f} to {double['rss_after'] / 1e6:.0f} MB"
    soon = f"{double['recovered_seconds']:.2f} s later an answer took less than 5 ms again"
    return (
        f"{table(['server', 'requests per second', 'seconds from start to first answer'], lines)}\n\n"
        f"At half of that rate, p50 is {np.median(half['p50_ms']):.2f} ms and p99 {np.median(half['p99_ms']):.2f} ms "
        f"(rounds: {', '.join(f'{value:.1f}' for value in half['p99_ms'])}), "
        f"{half['refused']} refused. At twice that rate, {refused}, {wrong}; {memory}, and {soon}. "
        f"At rest the process has {half['rest_bytes'] / 1e6:.0f} MB. {where(rows[0])}."
    )


def mixed() -> str:
    row = read_rows(RESULTS / "serving_mixed.jsonl")[0]
    counts = row["counts"]
    failed = sum(count for status, count in counts.items() if status.startswith("5") and status != "503")
    refused = sum(counts.get(status, 0) for status in ("400", "404", "405", "413", "415", "422"))
    memory = f"{row['rss_before'] / 1e6:.1f} to {row['rss_after'] / 1e6:.1f} MB"
    return (
        f"{row['requests']:,} requests of both protocols, valid and invalid, slow, cut off and abandoned: "
        f"{counts['200']:,} answered, {refused:,} refused with an error, {counts.get('503', 0):,} rejected with 503, "
        f"{failed} server errors, {sum(row['wrong'].values())} wrong answers; memory from "
        f"{memory}. {where(row)}."
    )


def engines() -> str:
    rows = pd.DataFrame(read_rows(RESULTS / "engines.jsonl"))
    wide = rows.pivot_table(index="student", columns="engine", values="microseconds", sort=False)
    names = ["ONNX Runtime int8", "ONNX Runtime fp32", "OpenVINO"]
    lines = [[f"`{student}`", *(f"{wide.loc[student, name]:,.0f}" for name in names)] for student in wide.index]
    return f"{table(['model', *(f'{name}, µs' for name in names)], lines)}\n\n{where(rows.iloc[0])}."


def recipe_cost() -> str:
    rows = read_rows(RESULTS / "recipe_cost.jsonl")
    lines = [[f"`{row['recipe']}`", f"{row['cost']:.2f}"] for row in rows]
    cost = {row["recipe"]: row["cost"] for row in rows}
    layers = (2 * cost["tinybert"] - cost["soft-targets"]) / cost["simkd"]
    costs = table(["recipe", "cost of a step, relative to hard-labels"], lines)
    return (
        f"{costs}\n\n{where(rows[0])}.\n\n`simkd` runs both models and compares one state. A step of TinyBERT's first "
        f"stage, with hidden states and attention, costs {layers:.2f} times that; its second counts as `soft-targets`."
    )


def tagging_speed() -> str:
    rows = read_rows(RESULTS / "tagging_speed.jsonl")
    lines = [
        [
            r["model"],
            f"{r['words_per_second']:,}",
            f"{r['times_teacher']:.1f}",
            f"{min(r['rounds']):.1f} to {max(r['rounds']):.1f}",
        ]
        for r in rows
    ]
    share = next(r["alignment_share"] for r in rows if r["alignment_share"] is not None)
    return (
        f"{table(['model', 'words per second', 'times the teacher', 'rounds'], lines)}\n\n"
        f"Alignment takes {share:.1%} of the int8 student's time. {where(rows[0])}."
    )


def _line(name: str, group: pd.DataFrame) -> list[str]:
    first = group.iloc[0]
    return [
        name,
        spread(list(group["accuracy"])),
        spread(list(group["retention"])),
        f"{first['latency_ms']:.3f}",
        f"{first['times_faster']:,.0f}" if first["times_faster"] >= 10 else f"{first['times_faster']:.1f}",
        f"{first['size_bytes'] / 1e6:.2f}",
    ]


def several_tasks() -> str:
    frame = pd.DataFrame(read_rows(RESULTS / "several_tasks.jsonl"))
    cells = {key: spread(list(rows["score"])) for key, rows in frame.groupby(["student", "task", "recipe", "trained"])}
    rows = []
    for (student, recipe), own in frame[frame["student"] != "teacher"].groupby(["student", "recipe"], sort=False):
        for task in frame["task"].unique():
            keys = [("teacher", task, "", "alone")] + [(student, task, recipe, one) for one in ("alone", "together")]
            rows.append(
                [f"`{student}`", f"`{recipe}`", str(own["seed"].nunique()), task, *(cells[key] for key in keys)]
            )
    header = ["student", "recipe", "seeds", "task", "teacher", "alone", "one for both"]
    return f"{table(header, rows)}\n\n{where(frame.iloc[-1].to_dict())}."


def teachers() -> str:
    frame = pd.DataFrame(read_rows(RESULTS / "teachers.jsonl"))
    own = frame[frame["taught"] == "teacher"]
    scores = ", ".join(f"{row.student} {100 * row.score:.1f}" for row in own.itertuples())
    rows = []
    for (dataset, student, taught), group in frame[frame["taught"] != "teacher"].groupby(
        ["dataset", "student", "taught"], sort=False
    ):
        rows.append([str(dataset), f"`{student}`", str(taught), str(len(group)), spread(list(group["score"]))])
    header = ["data", "student", "taught by", "seeds", "score"]
    about = f"The teachers' scores: {scores}. {where(frame.iloc[-1].to_dict())}."
    return f"{table(header, rows)}\n\n{about}"


def fields() -> str:
    frame = pd.DataFrame(read_rows(RESULTS / "fields.jsonl"))
    rows = []
    for (model, recipe), own in frame.groupby(["model", "recipe"], sort=False):
        each = ", ".join(f"{100 * auc:.1f}" for auc in own.sort_values("seed")["auc"])
        first = own.iloc[0]
        share = "" if first["share"] == 1 else f" ({first['share']:.1%})"
        cost = f"{first['multiply_adds']:,}{share}"
        rows.append([f"`{model}`", recipe, spread(list(own["auc"])), each, f"{own['log_loss'].mean():.3f}", cost])
    header = ["model", "recipe", "AUC", "of each seed", "log loss", "multiply-adds"]
    return f"{table(header, rows)}\n\n{where(frame.iloc[-1].to_dict())}."


def generation() -> str:
    frame = pd.DataFrame(read_rows(RESULTS / "generation.jsonl"))
    rows = []
    for (layers, model), own in frame.groupby(["teacher_layers", "model"], sort=False):
        scores = [_plain(own[name]) for name in ("greedy_bleu", "beam_bleu", "greedy_chrf")]
        length, size = own["epochs"].iloc[0], own["megabytes"].mean()
        times = f"{own['times_teacher'].mean():.1f}" if "times_teacher" in own else ""
        name = f"teacher, {layers} + {layers} layers" if model == "teacher" else f"`{model}`, 2 + 1 layers"
        rows.append([name, str(len(own)), str(length), *scores, times, f"{size:.1f}"])
    header = ["model", "seeds", "epochs", "BLEU, greedy", "BLEU, 4 beams", "chrF, greedy", "times the teacher", "MB"]
    return f"{table(header, rows)}\n\n{where(frame.iloc[-1].to_dict())}."


TAUGHT = {"encoder": "by the encoder", "self": "by its own size"}


def beyond_size() -> str:
    """Students of damaged labels, alone and taught by models that learned from them, and a picture of the scores."""
    frame = pd.DataFrame(read_rows(RESULTS / "beyond_size.jsonl"))
    frame = frame[(frame["kind"] == "student") | (frame["precision"] == "fp32")]
    frame = frame.sort_values("level", key=lambda levels: levels.map(DAMAGE.index), kind="stable")
    frame = frame.sort_values(
        "set", key=lambda sets: sets.map(["trec", "sst2-sentences", "clinc150"].index), kind="stable"
    )
    students, teachers = (frame[frame["kind"] == kind] for kind in ("student", "teacher"))
    alone = students[students["recipe"] == "hard-labels"].drop_duplicates(["set", "level", "seed"])
    taught = students[students["recipe"] != "hard-labels"].merge(
        alone, on=["set", "level", "seed"], suffixes=("", "_alone")
    )
    for column in BEYOND:
        taught[f"gain_{column}"] = taught[column] - taught[f"{column}_alone"]
    _picture(alone, taught, teachers[teachers["teacher"] == "encoder"])
    parts = []
    for name, own in taught.groupby("set", sort=False):
        first, lines = own.iloc[0], []
        for level, there in own.groupby("level", sort=False):
            base = alone[(alone["set"] == name) & (alone["level"] == level)]
            each = [there[there["teacher"] == teacher] for teacher in TAUGHT]
            scores = [_gains(group["gain_score"]) for group in each]
            others = [_gains(group[f"gain_{column}"]) for column in BEYOND[1:] for group in each]
            those = teachers[(teachers["set"] == name) & (teachers["level"] == level)].set_index("teacher")["score"]
            own_scores = [f"{100 * those[teacher]:.1f}" if teacher in those else "" for teacher in TAUGHT]
            agree = [f"{100 * group['agreement'].mean():.1f}" if len(group) else "" for group in each]
            lines.append([str(level), *own_scores, spread(list(base["score"])), *scores, *others, *agree])
        header = [
            f"{name}, {int(first['rows']):,} test texts",
            "accuracy of the encoder",
            "of the teacher of its own size",
        ]
        header += ["of the labels alone"]
        header += [
            f"{title}, {how}"
            for title in ("gain", "macro F1", "calibration error", "agreement")
            for how in TAUGHT.values()
        ]
        parts.append(table(header, lines))
        means = own.groupby(["recipe", "teacher", "level"], sort=False)["gain_score"].mean()
        levels, lines = list(own["level"].unique()), []
        for recipe in own["recipe"].unique():
            gains = [means.get((recipe, teacher, level)) for teacher in TAUGHT for level in levels]
            lines.append([f"`{recipe}`", *("" if gain is None else f"{100 * gain:+.1f}" for gain in gains)])
        header = [f"{name}: gain of", *(f"{level}, {how}" for how in TAUGHT.values() for level in levels)]
        parts.append(table(header, lines))
    seeds = students["seed"].nunique()
    about = f"`{students['model'].iloc[0]}`, {seeds} seed{'s' * (seeds > 1)}, fp32. {where(frame.iloc[-1].to_dict())}."
    return "\n\n".join([*parts, about])


# The damage, from none to the most.
DAMAGE = ["clean", "noise 10 %", "noise 20 %", "noise 40 %", "imbalance 10", "imbalance 50"]
BEYOND = ("score", "macro_f1", "calibration_error")


def _gains(values: pd.Series) -> str:
    """The mean gain in points, and the lowest and the highest."""
    if values.empty:
        return ""
    return f"{100 * values.mean():+.1f} ({100 * values.min():+.1f} to {100 * values.max():+.1f})"


def _picture(alone: pd.DataFrame, taught: pd.DataFrame, teachers: pd.DataFrame) -> None:
    """Accuracy against the damage: a student alone, the mean of the recipes with either teacher, the encoder."""
    lines = [alone.assign(model="labels alone"), teachers.assign(model="the encoder")]
    lines += [taught[taught["teacher"] == teacher].assign(model=f"taught {how}") for teacher, how in TAUGHT.items()]
    points = pd.concat(lines)[["set", "level", "model", "score"]]
    points["damage"] = points["level"].str.split().str[0]
    clean = points[points["level"] == "clean"]
    points = pd.concat(
        [points[points["level"] != "clean"], *(clean.assign(damage=kind) for kind in ("noise", "imbalance"))]
    )
    points["amount"] = points["level"].str.extract(r"(\d+)", expand=False).fillna("0").astype(int)
    points["amount"] = points["amount"].where((points["damage"] == "noise") | (points["amount"] > 0), 1)
    points = points.groupby(["set", "damage", "amount", "model"], as_index=False)["score"].mean()
    points = points.groupby(["set", "damage"]).filter(lambda part: part["amount"].nunique() > 1)  # not clean alone
    colors = alt.Scale(domain=list(dict.fromkeys(points["model"])), range=["#888888", "#c0392b", "#2f6f9f", "#3a9d5d"])
    row = []
    for kind, title in (("noise", "wrong labels, %"), ("imbalance", "largest class, in times the smallest")):
        chart = alt.Chart(points[points["damage"] == kind]).mark_line(point=True)
        scale = alt.Scale(type="log") if kind == "imbalance" else alt.Undefined
        chart = chart.encode(
            alt.X("amount:Q", title=title, scale=scale),
            alt.Y("score:Q", title="test accuracy", scale=alt.Scale(zero=False), axis=alt.Axis(format=".0%")),
            alt.Color("model:N", title=None, scale=colors),
        )
        facets = chart.properties(width=260, height=200).facet(row=alt.Row("set:N", title=None))
        row.append(facets.resolve_scale(y="independent"))
    alt.hconcat(*row, background="white").save(IMAGES / "beyond-size.svg")


def _plain(values: pd.Series) -> str:
    """Mean and spread as they are."""
    return spread([value / 100 for value in values])


def main() -> None:
    if (RESULTS / "which_student.jsonl").exists():
        text = (Path(__file__).parent / "which-student.template.md").read_text()
        TARGET.with_name("which-student.md").write_text(text.replace("{{ which student }}", which_student()))
    TARGET.with_name("papers.md").write_text(papers((Path(__file__).parent / "papers.template.md").read_text()))
    if (RESULTS / "beyond_size.jsonl").exists():
        text = (Path(__file__).parent / "beyond-size.template.md").read_text()
        TARGET.with_name("beyond-size.md").write_text(text.replace("{{ beyond size }}", beyond_size()))
    text = (Path(__file__).parent / "benchmarks.template.md").read_text()
    for name, make in (
        ("accuracy", accuracy),
        ("inference", inference),
        ("times", times),
        ("memory", memory),
        ("predict files", predict_files),
        ("labeling", labeling),
        ("cascades", cascades),
        ("compression", compression),
        ("few bits", few_bits),
        ("fields", fields),
        ("teachers", teachers),
        ("generation", generation),
        ("exam", exam),
        ("indonlu", lambda: exam_table("indonlu", "macro_f1")),
        ("taggers", lambda: exam_table("taggers")),
        ("pairs", lambda: exam_table("pairs")),
        ("snips", lambda: exam_table("snips")),
        ("several tasks", several_tasks),
        ("grid of students", lambda: layers("grid_students")),
        ("tagging speed", tagging_speed),
        ("transfer", transfer),
        ("hard labels", hard_labels),
        ("learning rates", learning_rates),
        ("layers", lambda: layers("layers")),
        ("authors", lambda: layers("authors")),
        ("methods", methods),
        ("grid", lambda: layers("grid")),
        ("grid at full size", lambda: layers("grid_full")),
        ("grid of pairs", lambda: layers("grid_pairs")),
        ("grid of tasks", lambda: layers("grid_tasks")),
        ("ensembles", ensembles),
        ("sentence vectors", sentence_vectors),
        ("serving", serving),
        ("augmentation speed", augmentation_speed),
        ("recipe cost", recipe_cost),
        ("mixed", mixed),
        ("engines", engines),
    ):
        if f"{{{{ {name} }}}}" in text:
            text = text.replace(f"{{{{ {name} }}}}", make())
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
