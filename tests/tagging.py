"""A small tagging set with names of people and places, which tiny models can learn."""

from pathlib import Path

PEOPLE = ["anna", "bo lee", "mr. k", "o'hara"]
PLACES = ["rome", "new york", "st. ives"]
FRAMES = ["{p} went to {l} .", "in {l} , {p} was seen", "{p} and {q} live in {l}", "nobody lives in {l} now"]


def sentences(count: int, start: int = 0) -> list[list[tuple[str, str]]]:
    """(word, tag) of each sentence; equal arguments give equal sentences."""
    found = []
    for number in range(start, start + count):
        names = {
            "{p}": (PEOPLE[number % 4], "PER"),
            "{q}": (PEOPLE[number // 4 % 4], "PER"),
            "{l}": (PLACES[number // 3 % 3], "LOC"),
        }
        sentence = []
        for part in FRAMES[number % len(FRAMES)].split():
            if part in names:
                text, kind = names[part]
                words = text.split()
                sentence += [(word, f"{'I' if place else 'B'}-{kind}") for place, word in enumerate(words)]
            else:
                sentence.append((part, "O"))
        found.append([*sentence, (str(number), "O")])
    return found


def write_conll(path: Path, rows: list[list[tuple[str, str]]]) -> Path:
    path.write_text("\n\n".join("\n".join("\t".join(pair) for pair in row) for row in rows) + "\n")
    return path
