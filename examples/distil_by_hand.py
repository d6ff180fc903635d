"""The losses without the trainer: distillation in plain torch.

python examples/distil_by_hand.py TEACHER DATA
"""

import sys

import torch

import eyas
from eyas.losses import DKDLoss

BATCH_SIZE = 16
EPOCHS = 12


def main(teacher_folder: str, data_folder: str, epochs: int = EPOCHS) -> dict[str, float]:
    torch.manual_seed(0)
    data = eyas.load_data(data_folder)
    train = data["train"]

    # The teacher runs once over all texts. Its outputs come in the order of the data's labels.
    teacher = eyas.Teacher(teacher_folder)
    order = [teacher.label_names.index(name) for name in data.labels]
    labeled = eyas.AlignedTeacher(teacher, order).label(train)

    # An ordinary Hugging Face model and tokenizer; the student cuts long texts itself.
    student, tokenizer = eyas.create_student("cnn", teacher, train)
    inputs = tokenizer(train["text"][:], padding=True, return_tensors="pt")
    ids, labels = torch.tensor(train["example_id"][:]), torch.tensor(train["label"][:])

    # A loss is a module: (student's outputs, teacher's outputs, batch, progress) -> a scalar.
    losses = [DKDLoss(), eyas.HardLabelLoss(weight=0.1)]
    for loss in losses:
        loss.check(data.task)  # raises where a loss can't teach this task
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-3)
    steps, step = epochs * len(range(0, len(train), BATCH_SIZE)), 0

    student.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(train)).split(BATCH_SIZE):
            batch = {name: values[rows] for name, values in inputs.items()}
            theirs = labeled.outputs({"example_id": ids[rows]})  # {"logits": [batch, labels]}
            ours = {"logits": student(**batch).logits}
            batch |= {"labels": labels[rows], "task": data.task}
            progress = step / steps  # 0 to 1, for losses and weights that change on the way
            total = sum(loss.weight * loss(ours, theirs, batch, progress) for loss in losses)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            step += 1

    return eyas.evaluate(eyas.Classifier(student, tokenizer), data["test"], teacher)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
