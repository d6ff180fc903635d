// An exported student in the browser: its tokenizer, and onnxruntime-web for the graph. Nothing is sent anywhere.
// Gives the same answers as `eyas.serve.Predictor`; texts run through the model one at a time.

import { Tokenizer } from "./tokenizer.js";

const CHARACTERS_PER_TOKEN = 16;
const ASPECT = "=";

function softmax(values) {
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

// Score of the best tag sequence through each tag of each word, as in crf.py.
function maxMarginals(emissions, { start, end, transitions }) {
  const tags = start.map((_, tag) => tag), last = emissions.length - 1;
  const forwards = [tags.map((tag) => start[tag] + emissions[0][tag])], backwards = [];
  backwards[last] = end;
  for (let place = 1; place <= last; place += 1) {
    const before = forwards[place - 1];
    forwards[place] = tags.map((tag) => Math.max(...tags.map((from) => transitions[from][tag] + before[from])) + emissions[place][tag]);
  }
  for (let place = last; place > 0; place -= 1) {
    const next = tags.map((tag) => emissions[place][tag] + backwards[place][tag]);
    backwards[place - 1] = tags.map((tag) => Math.max(...tags.map((to) => transitions[tag][to] + next[to])));
  }
  return emissions.map((_, place) => tags.map((tag) => forwards[place][tag] + backwards[place][tag]));
}

// `B-PER` -> ["B", "PER"]; a tag without a prefix is a span of one word.
function splitTag(tag) {
  if (["O", "B", "I"].includes(tag)) return [tag, ""];
  const dash = tag.indexOf("-");
  return dash === 1 && "BI".includes(tag[0]) ? [tag[0], tag.slice(2)] : ["B", tag];
}

// [kind, first word, end] of each span; an I- with nothing to continue starts one.
function spansOf(tags) {
  const spans = [];
  let open = null;
  tags.forEach((tag, place) => {
    const [prefix, kind] = splitTag(tag);
    if (prefix === "I" && open && open[0] === kind) open[2] = place + 1;
    else if (prefix === "O") open = null;
    else spans.push(open = [kind, place, place + 1]);
  });
  return spans;
}

export class Predictor {
  constructor(ort, session, tokenizer, manifest) {
    Object.assign(this, { ort, session, tokenizer, manifest });
    this.continuing = tokenizer.continuing;
  }

  // Logits divided by the temperature, whose softmax or sigmoid are probabilities.
  calibrated(logits) {
    const { temperature } = this.manifest.calibration ?? { temperature: 1 };
    return logits.map((value) => value / temperature);
  }

  // Metadata for the page.
  get about() {
    const { task, labels, pair, precision, max_length, abstain_below, examples } = this.manifest;
    return { name: this.manifest.name ?? "student", version: "1", task, labels, pair, precision, max_length, abstain_below, examples, exam: {} };
  }

  async logits(text, pair) {
    const most = CHARACTERS_PER_TOKEN * this.manifest.max_length;
    const clean = (value) => Array.from(value.toWellFormed()).slice(0, most).join("");
    const { ids, types } = this.tokenizer.encode(clean(text), pair === undefined ? undefined : clean(pair));
    return this.run(ids, types);
  }

  async run(ids, types = ids.map(() => 0)) {
    const columns = { input_ids: ids, token_type_ids: types, attention_mask: ids.map(() => 1) };
    const feeds = {};
    for (const name of this.session.inputNames) {
      feeds[name] = new this.ort.Tensor("int64", BigInt64Array.from(columns[name], BigInt), [1, ids.length]);
    }
    const outputs = await this.session.run(feeds);
    return Array.from(outputs[this.session.outputNames[0]].data);
  }

  // Tags and spans of a text, or of a list of words: tokens, tags, scores, spans; offsets count code points, or words.
  async tag(input) {
    const { labels, crf, max_length, unknown } = this.manifest;
    const split = typeof input === "string", text = split ? Array.from(input.toWellFormed()) : [];
    const places = split ? this.tokenizer.places(input.toWellFormed()) : input.map((_, word) => [word, word + 1]);
    const tokens = split ? places.map(([start, end]) => text.slice(start, end).join("")) : input;
    const chances = tokens.map(() => []);
    for (const window of this.tokenizer.windows(tokens, unknown, max_length)) {
      const flat = await this.run(window.ids);
      let rows = window.ids.map((_, place) => flat.slice(place * labels.length, (place + 1) * labels.length));
      if (crf) {
        const starts = window.ids.flatMap((id, place) => (this.continuing.has(id) ? [] : [place]));
        const read = starts.slice(this.tokenizer.sides[0].length);
        maxMarginals(read.map((place) => rows[place]), crf).forEach((scores, at) => { rows[read[at]] = scores; });
      }
      window.words.forEach((word, at) => { chances[word] = softmax(this.calibrated(rows[window.positions[at]])); });
    }
    const best = chances.map((row) => row.indexOf(Math.max(...row)));
    const tags = best.map((column) => labels[column]), scores = best.map((column, word) => chances[word][column]);
    const spans = spansOf(tags).map(([kind, first, behind]) => ({
      entity_group: kind,
      score: scores.slice(first, behind).reduce((sum, score) => sum + score, 0) / (behind - first),
      word: tokens.slice(first, behind).join(" "),
      start: places[first][0],
      end: places[behind - 1][1],
    }));
    return { tokens, tags, scores, spans };
  }

  // Answers as the server's POST /predict does.
  async predict(inputs) {
    const answers = [];
    for (const input of inputs) {
      if (this.manifest.task === "tagging") {
        answers.push((await this.tag(typeof input === "string" ? input : input.tokens ?? input.text)).spans);
        continue;
      }
      const [text, pair] = typeof input === "string" ? [input] : [input.text, input.text_pair];
      answers.push(this.answer(await this.logits(text, pair)));
    }
    return answers;
  }

  answer(logits) {
    const { task, labels } = this.manifest;
    if (task === "regression") return { score: logits[0] };
    if (task === "vectors") return { vector: logits };
    logits = this.calibrated(logits);
    if (task === "aspects") {
      const aspects = [...new Set(labels.map((label) => label.split(ASPECT, 1)[0]))];
      return aspects.map((aspect) => {
        const columns = labels.flatMap((label, column) => (label.split(ASPECT, 1)[0] === aspect ? [column] : []));
        const chances = softmax(columns.map((column) => logits[column]));
        const best = chances.indexOf(Math.max(...chances));
        return { aspect, label: labels[columns[best]].slice(aspect.length + 1), score: chances[best] };
      });
    }
    const chances = task === "multi-label" ? logits.map((value) => 1 / (1 + Math.exp(-value))) : softmax(logits);
    return labels.map((label, column) => ({ label, score: chances[column] })).sort((a, b) => b.score - a.score);
  }
}

// The student in `folder`, with onnxruntime-web in `folder`/ort.
export async function load(folder = ".") {
  const base = new URL(`${folder}/`, document.baseURI).href;
  const fetched = async (name) => {
    const response = await fetch(base + name);
    if (!response.ok) throw new Error(`${name} is missing (${response.status})`);
    return response;
  };
  const ort = await import(`${base}ort/ort.wasm.min.mjs`).catch(() => {
    throw new Error("onnxruntime-web is missing in the folder ort: see README.md");
  });
  ort.env.wasm.wasmPaths = `${base}ort/`;
  ort.env.wasm.numThreads = 1;
  const manifest = await fetched("manifest.json").then((response) => response.json());
  const [state, model] = await Promise.all([
    fetched("tokenizer.json").then((response) => response.json()),
    fetched(manifest.graph).then((response) => response.arrayBuffer()),
  ]);
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return new Predictor(ort, session, new Tokenizer(state), manifest);
}
