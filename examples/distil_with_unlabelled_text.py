"""Few labels, much text: the teacher labels the rest.

python examples/distil_with_unlabelled_text.py TEACHER DATA UNLABELLED.txt OUT
"""

import sys

import understudy as us


def main(teacher: str, data: str, unlabelled: str, out: str, **arguments: object) -> dict[str, float]:
    loaded = us.load_data(data)
    lead = us.Teacher(teacher)
    settings = us.DistillSettings(us.StudentSettings("bilstm"), recipe="logit-mse", arguments=dict(arguments))
    student = us.distill(lead, loaded, out, settings, unlabelled=us.load_unlabelled([unlabelled]))
    return us.evaluate(us.Classifier.load(student), loaded["test"], lead)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
