// An exported student in the browser: its tokenizer, and onnxruntime-web for the graph. Nothing is sent anywhere.
// The same answers as `understudy.serve.Predictor`; texts go through the model one at a time.

const CHARACTERS_PER_TOKEN = 16;
const ASPECT = "=";
// What BERT's tokenizer calls a Chinese character.
const CHINESE = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;
const PUNCTUATION = /[!-/:-@[-`{-~]|\p{P}/u;

export class Tokenizer {
  // state: what tokenizer.json holds, of a WordPiece or word-level model.
  constructor(state) {
    this.model = state.model;
    this.vocabulary = new Map(Object.entries(state.model.vocab));
    this.unknown = this.vocabulary.get(state.model.unk_token);
    this.normalizer = state.normalizer;
    this.special = new Map(state.added_tokens.map((token) => [token.content, token.id]));
    const names = [...this.special.keys()].sort((a, b) => b.length - a.length);
    this.marks = new RegExp(`(${names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`);
    this.template = state.post_processor;
    this.truncation = state.truncation;
  }

  // {ids, types} of a text, or of two.
  encode(text, pair) {
    const sides = { A: this.pieces(text), B: pair === undefined ? [] : this.pieces(pair) };
    const template = pair === undefined ? this.template.single : this.template.pair;
    const added = template.filter((part) => part.SpecialToken).length;
    if (this.truncation && pair === undefined) sides.A = sides.A.slice(0, this.truncation.max_length - added);
    const ids = [], types = [];
    for (const part of template) {
      const found = part.SpecialToken
        ? this.template.special_tokens[part.SpecialToken.id].ids : sides[part.Sequence.id];
      for (const id of found) { ids.push(id); types.push((part.SpecialToken ?? part.Sequence).type_id); }
    }
    return { ids, types };
  }

  pieces(text) {
    const ids = [];
    for (const part of text.split(this.marks)) {
      if (this.special.has(part)) ids.push(this.special.get(part));
      else for (const word of this.words(this.normalized(part))) ids.push(...this.split(word));
    }
    return ids;
  }

  normalized(text) {
    const normalizer = this.normalizer;
    if (!normalizer) return text;
    if (normalizer.type === "Lowercase") return lowered(text);
    if (normalizer.clean_text) {
      text = text.replace(/[\t\n\r]/g, " ").replace(/[\0\ufffd]|[\p{Cc}\p{Cf}\p{Co}]/gu, "").replace(/\s/gu, " ");
    }
    if (normalizer.handle_chinese_chars) text = text.replace(CHINESE, " $& ");
    if (normalizer.strip_accents ?? normalizer.lowercase) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
    return normalizer.lowercase ? lowered(text) : text;
  }

  // Signs stand alone, white space separates.
  words(text) {
    const found = [];
    let word = "";
    for (const character of text) {
      const sign = PUNCTUATION.test(character);
      if (sign || /\s/u.test(character)) {
        if (word) found.push(word);
        if (sign) found.push(character);
        word = "";
      } else word += character;
    }
    if (word) found.push(word);
    return found;
  }

  // Longest pieces first, from the left.
  split(word) {
    if (this.model.type === "WordLevel") return [this.vocabulary.get(word) ?? this.unknown];
    const characters = Array.from(word);
    if (characters.length > this.model.max_input_chars_per_word) return [this.unknown];
    const ids = [];
    let start = 0;
    while (start < characters.length) {
      const prefix = start ? this.model.continuing_subword_prefix : "";
      let end = characters.length, id;
      for (; end > start; end -= 1) {
        id = this.vocabulary.get(prefix + characters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (end === start) return [this.unknown];
      ids.push(id);
      start = end;
    }
    return ids;
  }
}

// Character by character: a string's own lower case depends on what stands beside.
function lowered(text) {
  return Array.from(text, (character) => character.toLowerCase()).join("");
}

function softmax(values) {
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

export class Predictor {
  constructor(ort, session, tokenizer, manifest) {
    Object.assign(this, { ort, session, tokenizer, manifest });
  }

  // What the page wants to know.
  get about() {
    const { task, labels, pair, precision, max_length } = this.manifest;
    return { name: this.manifest.name ?? "student", version: "1", task, labels, pair, precision, max_length, exam: {} };
  }

  async logits(text, pair) {
    const most = CHARACTERS_PER_TOKEN * this.manifest.max_length;
    const clean = (value) => Array.from(value.toWellFormed()).slice(0, most).join("");
    const { ids, types } = this.tokenizer.encode(clean(text), pair === undefined ? undefined : clean(pair));
    const columns = { input_ids: ids, token_type_ids: types, attention_mask: ids.map(() => 1) };
    const feeds = {};
    for (const name of this.session.inputNames) {
      feeds[name] = new this.ort.Tensor("int64", BigInt64Array.from(columns[name], BigInt), [1, ids.length]);
    }
    const outputs = await this.session.run(feeds);
    return Array.from(outputs[this.session.outputNames[0]].data);
  }

  // As the server's POST /predict answers.
  async predict(inputs) {
    const answers = [];
    for (const input of inputs) {
      const [text, pair] = typeof input === "string" ? [input] : [input.text, input.text_pair];
      answers.push(this.answer(await this.logits(text, pair)));
    }
    return answers;
  }

  answer(logits) {
    const { task, labels } = this.manifest;
    if (task === "regression") return { score: logits[0] };
    if (task === "vectors") return { vector: logits };
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
