// An exported student in the browser: its tokenizer, and onnxruntime-web for the graph. Nothing is sent anywhere.
// The same answers as `eyas.serve.Predictor`; texts go through the model one at a time.

const CHARACTERS_PER_TOKEN = 16;
const ASPECT = "=";
// Words whose pieces are remembered.
const KNOWN_WORDS = 10_000;
// Of a window of a tagger, shared with the one before.
const OVERLAP = 0.25;
// What BERT's tokenizer calls a Chinese character.
const CHINESE = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;
// How GPT-2 cuts a text before its bytes are merged; a word keeps the space before it.
const GPT2 = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const SPACES = "\\p{White_Space}*";
const EDGES = new RegExp(`^${SPACES}|${SPACES}$`, "gu");
const PUNCTUATION = /[!-/:-@[-`{-~]|\p{P}/u;

export class Tokenizer {
  // state: what tokenizer.json holds, of a WordPiece, word-level or byte-level BPE model.
  constructor(state) {
    this.model = state.model;
    this.vocabulary = new Map(Object.entries(state.model.vocab));
    this.unknown = this.vocabulary.get(state.model.unk_token);
    this.normalizer = state.normalizer;
    this.special = new Map(state.added_tokens.map((token) => [token.content, token.id]));
    const longest = [...state.added_tokens].sort((a, b) => b.content.length - a.content.length);
    const mark = ({ content, lstrip, rstrip }) =>
      (lstrip ? SPACES : "") + content.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&") + (rstrip ? SPACES : "");
    this.marks = new RegExp(`(${longest.map(mark).join("|")})`, "u");
    this.template = state.post_processor.type === "RobertaProcessing" ? asTemplate(state.post_processor) : state.post_processor;
    this.truncation = state.truncation;
    if (state.model.type === "BPE") {
      const merges = state.model.merges.map((merge) => (typeof merge === "string" ? merge : merge.join(" ")));
      this.ranks = new Map(merges.map((merge, rank) => [merge, rank]));
      this.prefixed = state.pre_tokenizer.add_prefix_space;
      this.known = new Map();
    }
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
      const special = this.special.get(part) ?? this.special.get(part.replace(EDGES, ""));
      if (special !== undefined) ids.push(special);
      else for (const word of this.words(this.normalized(part))) ids.push(...this.split(word));
    }
    return ids;
  }

  normalized(text) {
    const normalizer = this.normalizer;
    if (!normalizer) return text;
    if (normalizer.type === "Lowercase") return lowered(text);
    if (normalizer.type === "NFC") return text.normalize("NFC");
    if (normalizer.clean_text) {
      text = text.replace(/[\t\n\r]/g, " ").replace(/[\0\ufffd]|[\p{Cc}\p{Cf}\p{Co}]/gu, "").replace(/\s/gu, " ");
    }
    if (normalizer.handle_chinese_chars) text = text.replace(CHINESE, " $& ");
    if (normalizer.strip_accents ?? normalizer.lowercase) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
    return normalizer.lowercase ? lowered(text) : text;
  }

  // Signs stand alone, white space separates; of a BPE the words of GPT-2, each byte a letter.
  words(text) {
    if (this.ranks) {
      const spaced = this.prefixed && text && !text.startsWith(" ") ? ` ${text}` : text;
      return (spaced.match(GPT2) ?? []).map((word) => Array.from(UTF8.encode(word), (byte) => BYTES[byte]).join(""));
    }
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

  // The words of a text that nobody has split: [start, end] in code points. What is left out belongs to no word.
  places(text) {
    const found = [];
    let place = 0;
    for (const part of text.split(this.marks)) {
      const length = Array.from(part).length;
      if (this.special.has(part)) found.push([place, place + length]);
      else for (const [start, end] of this.plainPlaces(part)) found.push([place + start, place + end]);
      place += length;
    }
    return found;
  }

  plainPlaces(text) {
    const found = [];
    let open = false;
    Array.from(text).forEach((character, place) => {
      const normal = this.normalized(character);
      if (normal === "") return;
      const words = this.words(normal);
      const alone = words.length !== 1 || words[0] !== normal || PUNCTUATION.test(normal);
      if (words.length && open && !alone) found[found.length - 1][1] = place + 1;
      else if (words.length) found.push([place, place + 1]);
      open = words.length > 0 && !alone;
    });
    return found;
  }

  // Special tokens before and behind a text.
  get sides() {
    const text = this.template.single.findIndex((part) => part.Sequence);
    const ids = (parts) => parts.flatMap((part) => this.template.special_tokens[part.SpecialToken.id].ids);
    return [ids(this.template.single.slice(0, text)), ids(this.template.single.slice(text + 1))];
  }

  // Tokens that go on with a word.
  get continuing() {
    const prefix = this.model.type === "WordPiece" ? this.model.continuing_subword_prefix : undefined;
    const names = prefix ? [...this.vocabulary.keys()].filter((name) => name.startsWith(prefix)) : [];
    return new Set(names.filter((name) => !this.special.has(name)).map((name) => this.vocabulary.get(name)));
  }

  // Longest pieces first, from the left.
  split(word) {
    if (this.ranks) return this.merged(word);
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

  // Of a BPE: the pair that was learned first becomes one, the leftmost of several, until none is known.
  merged(word) {
    if (this.known.has(word)) return this.known.get(word);
    const whole = this.model.ignore_merges ? this.vocabulary.get(word) : undefined;
    const parts = whole === undefined ? Array.from(word) : [word];
    const next = parts.map((_, place) => place + 1), last = parts.map((_, place) => place - 1);
    const queue = new Queue();
    const add = (place) => {
      const pair = `${parts[place]} ${parts[next[place]]}`, rank = this.ranks.get(pair);
      if (rank !== undefined) queue.push({ rank, place, pair });
    };
    for (let place = 0; place + 1 < parts.length; place += 1) add(place);
    for (let found = queue.pop(); found; found = queue.pop()) {
      const { place, pair } = found, behind = next[place];
      if (parts[place] === null || behind >= parts.length || `${parts[place]} ${parts[behind]}` !== pair) continue;
      parts[place] += parts[behind];
      parts[behind] = null;
      next[place] = next[behind];
      if (next[place] < parts.length) { last[next[place]] = place; add(place); }
      if (last[place] >= 0) add(last[place]);
    }
    const left = parts.filter((part) => part !== null);
    const ids = left.map((part) => this.vocabulary.get(part) ?? this.unknown).filter((id) => id !== undefined);
    if (this.known.size >= KNOWN_WORDS) this.known.clear();
    if (word.length < 50) this.known.set(word, ids);
    return ids;
  }
}

// How JavaScript writes the bytes of a word: GPT-2's letters, so that each is one visible character.
const UTF8 = new TextEncoder();
const BYTES = (() => {
  const visible = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(visible(byte) ? byte : 256 + others++));
})();

// <s> A </s>, and <s> A </s></s> B </s>, as a template.
function asTemplate({ cls, sep }) {
  const [first, last] = [{ SpecialToken: { id: cls[0], type_id: 0 } }, { SpecialToken: { id: sep[0], type_id: 0 } }];
  const [a, b] = ["A", "B"].map((id) => ({ Sequence: { id, type_id: 0 } }));
  const ids = { [cls[0]]: { ids: [cls[1]] }, [sep[0]]: { ids: [sep[1]] } };
  return { single: [first, a, last], pair: [first, a, last, last, b, last], special_tokens: ids };
}

// Pairs to merge, the lowest rank first and the leftmost of them: a binary heap.
class Queue {
  items = [];

  before(a, b) {
    return this.items[a].rank - this.items[b].rank || this.items[a].place - this.items[b].place;
  }

  swap(a, b) {
    [this.items[a], this.items[b]] = [this.items[b], this.items[a]];
  }

  push(item) {
    let at = this.items.push(item) - 1;
    for (let up = (at - 1) >> 1; at && this.before(at, up) < 0; at = up, up = (at - 1) >> 1) this.swap(at, up);
  }

  pop() {
    const first = this.items[0], end = this.items.pop();
    if (!this.items.length) return first;
    this.items[0] = end;
    for (let at = 0, down = 1; down < this.items.length; at = down, down = 2 * at + 1) {
      if (down + 1 < this.items.length && this.before(down + 1, down) < 0) down += 1;
      if (this.before(at, down) <= 0) break;
      this.swap(at, down);
    }
    return first;
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

// Parts of a sentence, each word read once and far from the edges: as WordEncoder in alignment.py cuts them.
function* windows(words, [before, after], most) {
  const ids = words.flat(), firsts = [];
  words.reduce((count, pieces) => { firsts.push(count); return count + pieces.length; }, 0);
  const room = Math.max(most - before.length - after.length, 1);
  const overlap = ids.length > room ? Math.floor(room * OVERLAP) : 0;
  const last = Math.max(ids.length - overlap, 1);
  for (let start = 0; start < last; start += room - overlap) {
    const end = start + room, half = Math.floor(overlap / 2);
    const left = start ? start + half : 0;
    const right = start + room - overlap < last ? end - (overlap - half) : ids.length;
    const read = words.map((_, word) => word).filter((word) => firsts[word] >= left && firsts[word] < right);
    if (!read.length) continue;
    const positions = read.map((word) => firsts[word] - start + before.length);
    yield { ids: [...before, ...ids.slice(start, end), ...after], words: read, positions };
  }
}

// Score of the best sequence of tags through each tag of each word, as crf.py has it.
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

// `B-PER` -> ["B", "PER"]; a tag without a prefix stands for its own word.
function splitTag(tag) {
  if (["O", "B", "I"].includes(tag)) return [tag, ""];
  const dash = tag.indexOf("-");
  return dash === 1 && "BI".includes(tag[0]) ? [tag[0], tag.slice(2)] : ["B", tag];
}

// [kind, first word, behind the last] of each span; an I- that continues nothing starts one.
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
    this.sides = tokenizer.sides;
    this.continuing = tokenizer.continuing;
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

  // Tags and spans of a text, or of a list of words: tokens, tags, scores, spans; places are code points, or words.
  async tag(input) {
    const { labels, crf, max_length } = this.manifest;
    const split = typeof input === "string", text = split ? Array.from(input.toWellFormed()) : [];
    const places = split ? this.tokenizer.places(input.toWellFormed()) : input.map((_, word) => [word, word + 1]);
    const tokens = split ? places.map(([start, end]) => text.slice(start, end).join("")) : input;
    const unknown = [this.tokenizer.special.get(this.manifest.unknown) ?? this.tokenizer.unknown ?? 0];
    const pieces = tokens.map((word) => this.tokenizer.pieces(word)).map((ids) => (ids.length ? ids : unknown));
    const chances = tokens.map(() => []);
    for (const window of windows(pieces, this.sides, max_length)) {
      const flat = await this.run(window.ids);
      let rows = window.ids.map((_, place) => flat.slice(place * labels.length, (place + 1) * labels.length));
      if (crf) {
        const starts = window.ids.flatMap((id, place) => (this.continuing.has(id) ? [] : [place]));
        const read = starts.slice(this.sides[0].length);
        maxMarginals(read.map((place) => rows[place]), crf).forEach((scores, at) => { rows[read[at]] = scores; });
      }
      window.words.forEach((word, at) => { chances[word] = softmax(rows[window.positions[at]]); });
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

  // As the server's POST /predict answers.
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
