"""The same distillation with TextBrewer: its own trainer, loop and caching option; runs in its own environment.

    python -m venv tb && tb/bin/pip install torch==2.13.0 textbrewer 'transformers>=5.20,<6'
    tb/bin/python benchmarks/textbrewer_live.py --teacher TEACHER --rows FILE --epochs 2

TextBrewer has no BiLSTM of its own, so its student is the plain torch one of the same sizes that its users write.
`benchmarks/training_time.py` calls this.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from textbrewer import BasicDistiller, DistillationConfig, GeneralDistiller, TrainingConfig
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class Student(nn.Module):
    """Embeddings, one bidirectional LSTM, maximum over time, a linear head."""

    def __init__(self, vocabulary: int, size: int, hidden: int, labels: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, size, padding_idx=0)
        self.lstm = nn.LSTM(size, hidden, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * hidden, labels)

    def forward(self, input_ids, attention_mask, token_type_ids=None, labels=None):
        states = self.lstm(self.embeddings(input_ids))[0]
        states = states.masked_fill(attention_mask.unsqueeze(-1) == 0, -1.0)
        return self.classifier(states.amax(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--rows", required=True, help="JSON lines with text and label (an integer)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--cache", action="store_true", help="TextBrewer's is_caching_logits (in memory)")
    arguments = parser.parse_args()
    started = time.perf_counter()
    rows = [json.loads(line) for line in Path(arguments.rows).read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(arguments.teacher)
    teacher = AutoModelForSequenceClassification.from_pretrained(arguments.teacher, dtype=torch.float32).eval()
    student = Student(len(tokenizer), 128, 150, teacher.config.num_labels)

    def collate(batch):
        texts = [row["text"] for row in batch]
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        return {**inputs, "labels": torch.tensor([row["label"] for row in batch])}

    # caching needs batches in a fixed order
    loader = DataLoader(rows, arguments.batch_size, shuffle=not arguments.cache, collate_fn=collate)
    # its cache is BasicDistiller's alone
    distiller = (BasicDistiller if arguments.cache else GeneralDistiller)(
        train_config=TrainingConfig(output_dir=tempfile.mkdtemp(), device="cpu", ckpt_frequency=1, log_dir=None),
        distill_config=DistillationConfig(kd_loss_type="mse", temperature=1, hard_label_weight=0,
                                          is_caching_logits=arguments.cache),
        model_T=teacher,
        model_S=student,
        adaptor_T=lambda batch, outputs: {"logits": outputs.logits},
        adaptor_S=lambda batch, outputs: {"logits": outputs},
    )  # fmt: skip
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3)
    distiller.save_and_callback = lambda *_, **__: None
    with distiller:
        distiller.train(optimizer, loader, num_epochs=arguments.epochs, scheduler_class=None)
    print(json.dumps({"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
