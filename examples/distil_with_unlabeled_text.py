"""Few labels, much text: the teacher labels the rest.

python examples/distil_with_unlabeled_text.py TEACHER DATA UNLABELED.txt OUT
"""

import sys

import eyas


def main(teacher: str, data: str, unlabeled: str, out: str, **arguments: object) -> dict[str, float]:
    loaded = eyas.load_data(data)
    lead = eyas.Teacher(teacher)
    settings = eyas.DistillSettings(recipe="logit-mse", arguments=dict(arguments))
    student = eyas.distill(lead, loaded, out, "bilstm", settings=settings, unlabeled=unlabeled)
    return student.evaluate(loaded, lead)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
