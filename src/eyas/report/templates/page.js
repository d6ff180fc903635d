const content = JSON.parse(document.getElementById("content").textContent);
const $ = (id) => document.getElementById(id);
const percent = (x, digits = 1) => (x == null ? "" : (100 * x).toFixed(digits));
const number = (x, digits = 0) =>
  x == null ? "" : x.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const scaled = (x, unit, digits = 0) => (x == null ? "" : number(x / unit, digits));
const points = (x) => (x > 0 ? "+" : x < 0 ? "−" : "") + percent(Math.abs(x));
const element = (tag, text = "", className = "") => {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
};

// [key, title, explanation]
const OTHER_SCORES = [
  ["accuracy", "accuracy", "share of correct texts, words, aspects or labels, percent"],
  ["macro_f1", "macro F1", "percent"],
  ["span_macro_f1", "span macro F1", "mean over the types of spans, percent"],
  ["spearman", "Spearman", "rank correlation, times 100"],
  ["chrf", "chrF", "of runs of characters, from 0 to 100"],
  ["rougeL", "ROUGE-L", "of the longest common words, from 0 to 100"],
];

const between = (x) => (x == null ? "" : ` (${percent(x[0])} to ${percent(x[1])})`);
const scoreText = (r) => percent(r.score) + (r.score_std == null ? "" : ` ± ${percent(r.score_std)}`);

// [title, value to sort by, text or node to show, explanation, shown on demand only]
const COLUMNS = [
  ["model", (r) => r.title, modelCell],
  ["score", (r) => r.score, scoreText, "percent; mean and standard deviation over seeds"],
  ["interval", (r) => r.interval[0], (r) => between(r.interval).slice(2, -1), "95 % interval of the score: a bootstrap over texts", true],
  ["retention", (r) => r.retention, (r) => percent(r.retention) + between(r.retention_interval), "share of the teacher's score, percent, and its 95 % interval"],
  ["gain", (r) => r.gain?.difference, gainCell, "over the same student trained on the labels alone, points"],
  ["latency, ms", (r) => r.latency_ms, (r) => number(r.latency_ms, 3), "median of one text"],
  ["speed", (r) => r.times_faster, (r) => (r.times_faster == null ? "" : number(r.times_faster, r.times_faster < 10 ? 1 : 0) + "×"), "times the speed of the fp32 teacher"],
  ["size, MB", (r) => r.size_bytes, (r) => scaled(r.size_bytes, 1e6, 2), "weights and tokenizer"],
  ["agreement", (r) => r.agreement, (r) => percent(r.agreement), "share of predictions, or of the words that are written, equal to the teacher's, percent", true],
  ...OTHER_SCORES.filter(([key]) => content.datasets.some((d) => d.rows.some((r) => r[key] != null && r.metric !== key))).map(
    ([key, title, what]) => [title, (r) => r[key], (r) => percent(r[key]), what, true],
  ),
  ["calibration error", (r) => r.calibration_error, (r) => percent(r.calibration_error), "expected calibration error, percent", true],
  ["before", (r) => r.uncalibrated_error, (r) => percent(r.uncalibrated_error), "calibration error without the temperature fitted on validation texts", true],
  ["p95", (r) => r.latency_p95_ms, (r) => number(r.latency_p95_ms, 3), "ms", true],
  ["texts/s", (r) => r.sentences_per_second, (r) => number(r.sentences_per_second), "in calls of 32 texts", true],
  ["parameters, k", (r) => (r.other_parameters == null ? null : r.embedding_parameters + r.other_parameters), (r) => (r.other_parameters == null ? "" : `${scaled(r.embedding_parameters, 1e3)} + ${scaled(r.other_parameters, 1e3)}`), "word vectors + the rest", true],
  ["memory, MB", (r) => r.added_rss_bytes, (r) => scaled(r.added_rss_bytes, 1e6), "added by loading and predicting", true],
  ["load, ms", (r) => r.load_ms, (r) => number(r.load_ms), "", true],
  ["seeds", (r) => r.seeds, (r) => number(r.seeds), "", true],
  ["notes", (r) => (r.winner ? 0 : r.front ? 1 : r.dominated ? 3 : 2), notesCell, ""],
];
if (content.datasets.some((d) => d.rows.some((r) => r.joules_per_1000 != null)))
  COLUMNS.splice(-1, 0, ["joules per 1,000", (r) => r.joules_per_1000, (r) => number(r.joules_per_1000, 2), "of the whole processor", true]);

const FIRST_FLIPS = 10;
// A slice of fewer rows says little, and is grey.
const FEW = 20;
const state = { dataset: content.datasets[0], recipe: "all", sort: 1, descending: true, allFlips: false, allColumns: false, views: [] };

function modelCell(row) {
  if (!content.details[row.id]) return row.title;
  const button = element("button", row.title);
  button.type = "button";
  button.addEventListener("click", () => {
    $("detail").value = row.id;
    showDetails();
    $("lost-title").scrollIntoView({ behavior: "smooth" });
  });
  return button;
}

function gainCell(row) {
  if (!row.gain) return "";
  const { difference, low, high } = row.gain;
  const made = element("span", `${points(difference)} (${points(low)} to ${points(high)})`);
  made.title = `not better in ${percent(row.gain.p)} % of the samples`;
  if (low > 0) made.className = "up";
  if (high < 0) made.className = "down";
  return made;
}

function notesCell(row) {
  const cell = document.createDocumentFragment();
  const tag = (text, className, title) => {
    const made = element("span", text, `tag ${className}`);
    made.title = title;
    cell.append(made, " ");
  };
  if (row.winner) tag(state.dataset.good ? "ship" : "closest", "good", "chosen by validation scores");
  if (row.front) tag("front", "", "no other candidate is as fast and more accurate");
  if (row.dominated) tag("dominated", "bad", "a baseline without a teacher is at least as accurate and as fast");
  const against = row.against_winner;
  if (against && against.low > 0) tag("better than the winner", "", "the 95 % interval of the difference is above zero");
  else if (against && row.kind === "student" && against.high >= 0) tag("not clearly worse", "", "the 95 % interval of the difference contains zero");
  if (row.failed) tag(`${row.failed} failed`, "bad", "seeds that failed");
  return cell;
}

function shownRows() {
  const rows = state.dataset.rows.filter((r) => state.recipe === "all" || r.kind !== "student" || r.recipe === state.recipe);
  const value = COLUMNS[state.sort][1];
  const sign = state.descending ? -1 : 1;
  return rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x == null || y == null) return (x == null) - (y == null);
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
}

function showTable() {
  const head = $("candidates").tHead.rows[0];
  const shown = COLUMNS.filter(([, , , , onDemand]) => state.allColumns || !onDemand);
  head.replaceChildren(
    ...shown.map((column) => {
      const [title, , , explanation] = column, index = COLUMNS.indexOf(column);
      const cell = element("th", "", title === "notes" ? "note" : "");
      const button = element("button", title);
      cell.scope = "col";
      button.type = "button";
      button.title = explanation || "";
      button.addEventListener("click", () => {
        state.descending = state.sort === index ? !state.descending : typeof COLUMNS[index][1](state.dataset.rows[0]) !== "string";
        state.sort = index;
        showTable();
        $("candidates").tHead.rows[0].cells[shown.indexOf(column)].firstChild.focus();
      });
      if (state.sort === index) cell.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      cell.append(button);
      return cell;
    }),
  );
  $("candidates").tBodies[0].replaceChildren(
    ...shownRows().map((row) => {
      const line = element("tr", "", row.winner ? "winner" : "");
      for (const [title, , show] of shown) {
        const cell = element(title === "model" ? "th" : "td", "", title === "notes" ? "note" : "");
        if (title === "model") cell.scope = "row";
        cell.append(show(row));
        line.append(cell);
      }
      return line;
    }),
  );
}

function showDetailChoice() {
  const rows = state.dataset.rows.filter((r) => content.details[r.id]);
  rows.sort((a, b) => b.winner - a.winner || b.score - a.score);
  $("detail").replaceChildren(...rows.map((r) => new Option(r.title, r.id)));
  showDetails();
}

function showDetails() {
  const details = content.details[$("detail").value];
  $("slices").replaceChildren();
  if (details) {
    const table = element("table");
    const head = table.createTHead().insertRow();
    for (const title of ["slice", "rows", "student", "", "teacher", "difference", "agreement"]) head.append(element("th", title));
    const body = table.createTBody();
    for (const slice of details.slices) {
      const line = body.insertRow();
      const lost = slice.student_accuracy == null ? null : slice.student_accuracy - slice.teacher_accuracy;
      const meter = element("span", "", lost == null ? "" : "meter");
      const bar = element("i");
      bar.style.width = percent(slice.student_accuracy) + "%";
      meter.append(bar);
      if (slice.rows < FEW) line.className = "quiet few";
      const name = slice.group === "label" ? `label ${slice.name}` : slice.name;
      const cells = [name, number(slice.rows), percent(slice.student_accuracy), meter, percent(slice.teacher_accuracy)];
      cells.push(element("span", lost == null ? "" : points(lost), lost == null || slice.rows < FEW ? "" : lost < -0.02 ? "down" : lost > 0.02 ? "up" : ""), percent(slice.agreement));
      for (const value of cells) line.insertCell().append(value);
    }
    $("slices").append(table);
  }
  showFlips();
}

function showFlips() {
  const flips = content.details[$("detail").value]?.flips ?? [];
  const [kind, text] = [$("flip-kind").value, $("flip-text").value.toLowerCase()];
  const kindOf = (f) => f.kind ?? (f.teacher === f.label ? "lost" : f.student === f.label ? "won" : "both");
  const shown = flips.filter((f) => (kind === "all" || kindOf(f) === kind) && f.text.toLowerCase().includes(text));
  const visible = state.allFlips ? shown : shown.slice(0, FIRST_FLIPS);
  const most = flips.some((f) => f.student_score != null) ? "most confident" : "widest";
  $("flips-title").textContent = `The ${most} disagreements`;
  $("flip-count").textContent = `${visible.length} of the ${flips.length} ${most} disagreements`;
  $("more-flips").hidden = visible.length === shown.length;
  $("flips").replaceChildren(
    ...visible.map((flip) => {
      const item = element("li", "", kindOf(flip));
      const says = (who, score) => (score == null ? who : `${who} (${percent(score, 0)} % sure)`);
      item.append(element("p", flip.text));
      if (flip.kind) {
        for (const who of ["target", "student", "teacher"]) item.append(element("p", `${who}: ${flip[who] ?? flip.label}`, "quiet"));
        return item;
      }
      const line = `label ${flip.label}; student says ${says(flip.student, flip.student_score)}, teacher ${says(flip.teacher, flip.teacher_score)}`;
      item.append(element("p", line, "quiet"));
      return item;
    }),
  );
}

function sparkline(points, [first, last], best) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const values = points.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (step) => 2 + (96 * (step - first)) / (last - first || 1);
  const y = (value) => (high > low ? 18 - (16 * (value - low)) / (high - low) : 10);
  const add = (tag, attributes) => {
    const made = document.createElementNS(svg.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    svg.append(made);
  };
  svg.setAttribute("viewBox", "0 0 100 20");
  svg.setAttribute("aria-hidden", "true");
  add("polyline", { points: points.map(([step, value]) => `${x(step)},${y(value)}`).join(" ") });
  if (best || points.length === 1) {
    const [step, value] = points[values.indexOf(high)];
    add("circle", { cx: x(step), cy: y(value), r: 2 });
  }
  return svg;
}

function showTraining() {
  const rows = shownRows().filter((r) => content.training[r.id]);
  rows.sort((a, b) => b.winner - a.winner || b.score - a.score);
  $("training").replaceChildren(
    ...rows.map((row) => {
      const curves = content.training[row.id];
      const steps = curves.flatMap((curve) => curve.points.map(([step]) => step));
      const range = [Math.min(...steps), Math.max(...steps)];
      const table = element("table");
      table.createCaption().textContent = row.title;
      const head = table.createTHead().insertRow();
      for (const title of ["", "first", "last", ""]) head.append(element(title ? "th" : "td", title));
      const body = table.createTBody();
      for (const { name, stage, points } of curves) {
        const score = name === "validation score";
        const say = score ? (x) => percent(x) : (x) => x.toLocaleString("en", { maximumSignificantDigits: 3 });
        const line = body.insertRow();
        const title = element("th", stage ? `${stage}.\u00a0` : "");
        title.scope = "row";
        for (const word of name.split(/(?=[A-Z][a-z])/)) title.append(word, element("wbr"));
        line.append(title);
        for (const [, value] of [points[0], points.at(-1)]) line.insertCell().append(say(value));
        line.insertCell().append(sparkline(points, range, score));
        line.title = points.map(([step, value]) => `step ${step}: ${say(value)}`).join("\n");
      }
      return table;
    }),
  );
}

async function drawCharts() {
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = [style.getPropertyValue("--ink").trim(), style.getPropertyValue("--line").trim()];
  const text = { labelColor: ink, titleColor: ink };
  const narrow = window.innerWidth < 640;
  const config = {
    background: "transparent",
    view: { stroke: line },
    axis: { ...text, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12 },
    legend: { ...text, orient: narrow ? "bottom" : "right", columns: narrow ? 2 : 1, layout: { bottom: { direction: "vertical" } }, labelFontSize: 12, symbolBaseFillColor: ink, symbolBaseStrokeColor: ink },
    rule: { color: ink },
    text: { color: ink },
  };
  for (const view of state.views) view.finalize();
  state.views = [];
  for (const [name, spec] of Object.entries(content.charts)) {
    const own = spec.config?.view?.continuousWidth ? { ...spec, config: undefined } : spec;
    const made = await vegaEmbed(`#${name}`, own, { config, renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } });
    state.views.push(made.view);
  }
  filterCharts();
}

function filterCharts() {
  for (const view of state.views)
    view.signal("dataset", state.dataset.name).signal("recipe", state.recipe).runAsync();
}

function showRecipeChoice() {
  const recipes = [...new Set(state.dataset.rows.map((r) => r.recipe).filter(Boolean))];
  if (!recipes.includes(state.recipe)) state.recipe = "all";
  $("recipe").replaceChildren(...["all", ...recipes].map((r) => new Option(r)));
  $("recipe").value = state.recipe;
}

function show() {
  $("verdict").textContent = state.dataset.verdict;
  $("loses").textContent = state.dataset.loses;
  $("doubt").textContent = state.dataset.doubt;
  $("together").textContent = state.dataset.together;
  $("starts").textContent = state.dataset.starts;
  const [better, right] = state.dataset.writes ? ["closer to the target", "less close"] : ["right", "wrong"];
  $("flip-kind").options[1].text = `teacher ${better}, student ${right}`;
  $("flip-kind").options[2].text = `student ${better}, teacher ${right}`;
  $("changed").hidden = state.dataset.writes;
  $("scored").textContent = `Scored by ${state.dataset.scored_on}.`;
  showRecipeChoice();
  showTable();
  showDetailChoice();
  showTraining();
  filterCharts();
}

$("dataset").replaceChildren(...content.datasets.map((d) => new Option(d.name)));
$("dataset-filter").hidden = content.datasets.length < 2;
$("dataset").addEventListener("change", () => {
  state.dataset = content.datasets[$("dataset").selectedIndex];
  show();
});
$("recipe").addEventListener("change", () => {
  state.recipe = $("recipe").value;
  showTable();
  showTraining();
  filterCharts();
});
$("all-columns").addEventListener("change", () => {
  state.allColumns = $("all-columns").checked;
  showTable();
});
$("detail").addEventListener("change", showDetails);
$("flip-kind").addEventListener("change", showFlips);
$("flip-text").addEventListener("input", showFlips);
$("more-flips").addEventListener("click", () => {
  state.allFlips = true;
  showFlips();
});
$("curves").hidden = !content.charts.curves;
$("training-details").open = !content.charts.curves;
$("curves-section").hidden = !Object.keys(content.training).length;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
show();
drawCharts();
