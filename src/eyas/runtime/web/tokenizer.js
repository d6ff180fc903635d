// Reads tokenizer.json with the npm package @huggingface/tokenizers, and splits texts into words for taggers.

import { SequencePreTokenizer, Tokenizer as Library } from "./tokenizers.min.mjs";

// Chinese characters, as BERT's tokenizer defines them.
const CHINESE = "[\\u4e00-\\u9fff\\u3400-\\u4dbf\\u{20000}-\\u{2a6df}\\u{2a700}-\\u{2b73f}\\u{2b740}-\\u{2b81f}\\u{2b920}-\\u{2ceaf}\\uf900-\\ufaff\\u{2f800}-\\u{2fa1f}]";
// How GPT-2 splits a text before it merges bytes; a word keeps the space before it.
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const SIGNS = "[!-/:-@\\[-`{-~\\p{P}]";
// Separates a question from its sentence.
const SEPARATOR = "[SEP]";
// Neighboring windows of a tagger overlap by this share of their length.
const OVERLAP = 0.25;

const replace = (Regex, content) => ({ type: "Replace", pattern: { Regex }, content });
const split = (Regex, behavior) => ({ type: "Split", pattern: { Regex }, behavior });
const sequence = (steps) => ({ type: "Sequence", normalizers: steps, pretokenizers: steps });

// Steps that the library lacks, or reads differently from Python's, replaced by steps on which both agree. In Python, white
// space is Unicode's, a letter is lowercased without its context (Greek has a final sigma), and some Chinese characters are
// beyond U+FFFF.
const STEPS = {
  BertNormalizer: ({ clean_text, handle_chinese_chars, strip_accents, lowercase }) => [
    clean_text && { type: "BertNormalizer", clean_text },
    handle_chinese_chars && replace(CHINESE, " $& "),
    ...((strip_accents ?? lowercase) ? [{ type: "NFD" }, replace("\\p{Mn}", "")] : []),
    ...(lowercase ? STEPS.Lowercase() : []),
  ],
  Lowercase: () => [replace("Σ", "σ"), { type: "Lowercase" }],
  Nmt: () => [
    replace("[\\u0001-\\u0008\\u000b\\u000e-\\u001f\\u007f\\u008f\\u009f]", ""),
    replace("[\\t\\n\\f\\r\\u1680\\u200b-\\u200f\\u2028\\u2029\\u2581\\ufeff\\ufffd]", " "),
  ],
  Strip: ({ strip_left, strip_right }) => [strip_left && replace("\\A\\s+", ""), strip_right && replace("\\s+\\z", "")],
  BertPreTokenizer: () => [...STEPS.WhitespaceSplit(), split(SIGNS, "Isolated")],
  ByteLevel: ({ add_prefix_space, use_regex }) => [
    add_prefix_space && replace("\\A[^ ]", " $&"),
    (use_regex ?? true) && split(GPT2, "Isolated"),
    { type: "ByteLevel", use_regex: false },
  ],
  WhitespaceSplit: () => [split("\\s+", "Removed")],
};

const stepsOf = (part) => part.normalizers ?? part.pretokenizers ?? part.processors ?? [part];

function readable(part) {
  const steps = part?.type === "Sequence" ? stepsOf(part).map(readable) : STEPS[part?.type]?.(part);
  return steps ? sequence(steps.filter(Boolean)) : part;
}

// A pattern for the contents of added tokens, the longest first; null if there are none.
function anyOf(tokens) {
  const names = tokens.map(({ content }) => content.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
  return names.length ? new RegExp(names.sort((a, b) => b.length - a.length).join("|"), "gu") : null;
}

export class Tokenizer {
  // state: the content of tokenizer.json.
  constructor(state) {
    const parts = { normalizer: readable(state.normalizer), pre_tokenizer: readable(state.pre_tokenizer) };
    this.library = new Library({ ...state, ...parts }, { unk_token: state.model.unk_token });
    this.model = state.model;
    this.added = new Map(state.added_tokens.map(({ content, id }) => [content, id]));
    this.raw = anyOf(state.added_tokens.filter(({ normalized }) => !normalized));
    this.normalized = anyOf(state.added_tokens.filter(({ normalized }) => normalized));
    const { tokens } = this.library.post_processor([""], null), text = tokens.indexOf("");
    // Special tokens before and after a text.
    this.sides = [this.ids(tokens.slice(0, text)), this.ids(tokens.slice(text + 1))];
    const most = state.truncation?.max_length ?? Infinity;
    // Tokens of a text, and of a pair.
    this.room = most - tokens.length + 1;
    this.together = most - this.library.post_processor([""], [""]).tokens.length + 2;
    // RoBERTa's second text has the type of the first; the library gives it another.
    this.typed = stepsOf(state.post_processor).every(({ type }) => type !== "RobertaProcessing");
    const steps = stepsOf(state.pre_tokenizer);
    // A byte-level tokenizer marks words by the space before them.
    this.space = steps.some((step) => step.type === "ByteLevel" && !step.add_prefix_space) ? " " : "";
    // Texts are split into words as in BERT; if the tokenizer does so too, after normalization.
    this.split = new SequencePreTokenizer(sequence(STEPS.BertPreTokenizer()));
    this.normalizer = steps.some(({ type }) => type === "BertPreTokenizer") ? this.library.normalizer : null;
  }

  // {ids, types} of a text, or of a pair.
  encode(text, pair) {
    const texts = [text, pair].filter((one) => one !== undefined).map((one) => this.library.tokenize(one));
    const { tokens, token_type_ids } = this.library.post_processor(...this.cut(texts));
    return { ids: this.ids(tokens), types: this.typed ? token_type_ids : tokens.map(() => 0) };
  }

  // A text, or a pair of which the longer text is cut first, both then to the same length.
  cut([first, second]) {
    if (second === undefined) return [first.slice(0, this.room), null];
    const shorter = Math.min(first.length, second.length, Math.floor(this.together / 2)), longer = this.together - shorter;
    const [one, other] = first.length > second.length ? [longer, shorter] : [shorter, longer];
    return [first.slice(0, one), second.slice(0, other)];
  }

  ids(tokens) {
    return tokens.map((token) => this.library.token_to_id(token) ?? this.library.model.unk_token_id);
  }

  // Subword ids of a word; `unknown` is the token for words for which the tokenizer returns no token.
  pieces(word, unknown) {
    if (this.added.has(word)) return [this.added.get(word)]; // a space before it would be another token
    const separator = this.library.token_to_id(SEPARATOR);
    const last = separator === undefined ? this.sides[1].slice(-1) : [separator];
    const ids = word === SEPARATOR ? last : this.ids(this.library.tokenize(this.space + word));
    return ids.length ? ids : [this.library.token_to_id(unknown) ?? 0];
  }

  // Tokens that continue a word and never start one; empty if the tokenizer marks neither.
  get continuing() {
    const { type, continuing_subword_prefix: prefix } = this.model;
    if (type === "WordLevel") return new Set();
    const starts = ([name]) => (type === "WordPiece" ? !name.startsWith(prefix) : /^[\u0120\u2581]/.test(name));
    const names = [...this.library.get_vocab(false)];
    return new Set(names.some(starts) ? names.filter((name) => !starts(name)).map(([, id]) => id) : []);
  }

  // Splits a raw text into words: [start, end] in code points. Characters left out belong to no word.
  places(text) {
    const found = [], edges = this.normalizer ? this.edges(text) : new Set();
    let open = false;
    Array.from(text).forEach((character, place) => {
      const normal = this.normalizer?.(character) ?? character;
      open &&= !edges.has(place);
      if (normal === "") return;
      // After a letter, white space vanishes, punctuation becomes a second word, and another letter joins.
      const words = this.split(`a${normal}`), joins = words.length === 1 && words[0] !== "a";
      if (joins && open) found.at(-1)[1] = place + 1;
      else if (joins || words.length > 1) found.push([place, place + 1]);
      open = joins;
    });
    return found;
  }

  // Where an added token starts or ends in a text, in code points. Some are found after normalization.
  edges(text) {
    const count = (part) => Array.from(part).length, found = new Set();
    const normal = Array.from(text, (one) => (count(this.normalizer(one)) === 1 ? this.normalizer(one) : one)).join("");
    for (const [searched, pattern] of [[text, this.raw], [normal, this.normalized]]) {
      for (const { 0: name, index } of pattern ? searched.matchAll(pattern) : []) {
        const start = count(searched.slice(0, index));
        found.add(start).add(start + count(name));
      }
    }
    return found;
  }

  // Windows of a sentence, as in WordEncoder of alignment.py: each word is read once and far from the edges, and each
  // window starts with the question.
  *windows(words, unknown, most) {
    const [before, after] = this.sides, pieces = words.map((word) => this.pieces(word, unknown)), firsts = [];
    pieces.reduce((count, ids) => { firsts.push(count); return count + ids.length; }, 0);
    const ids = pieces.flat(), whole = Math.max(most - before.length - after.length, 1);
    const question = words.includes(SEPARATOR) ? firsts[words.indexOf(SEPARATOR)] + 1 : 0;
    const asked = ids.length > whole && whole >= 2 * question ? question : 0;
    const room = whole - asked, length = ids.length - asked;
    const overlap = length > room ? Math.floor(room * OVERLAP) : 0, half = Math.floor(overlap / 2);
    const last = Math.max(length - overlap, 1);
    for (let start = 0; start < last; start += room - overlap) {
      const end = start + room;
      const left = start ? start + half : -asked; // the first window reads the question too
      const right = end - overlap < last ? end - (overlap - half) : length;
      const read = [...words.keys()].filter((word) => firsts[word] - asked >= left && firsts[word] - asked < right);
      if (!read.length) continue;
      const positions = read.map((word) => firsts[word] - start + before.length);
      const inside = [...ids.slice(0, asked), ...ids.slice(asked + start, asked + end)];
      yield { ids: [...before, ...inside, ...after], words: read, positions };
    }
  }
}
