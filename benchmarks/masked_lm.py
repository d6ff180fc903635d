"""A small masked language model for augmentation, trained from the demo's encoder, which has no such head.

Where a Hub can be reached, any published one is better.

    python benchmarks/masked_lm.py --text 'SHARED/data/text-en/*.txt' --out FOLDER [--steps 3000]
"""

import argparse
from typing import Any

import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

from eyas import load_unlabeled
from eyas.demo import encoder_folder
from eyas.teachers.live import has_fast_bfloat16


class _Lines(torch.utils.data.Dataset[Any]):
    """Texts as token ids, made when they are asked for."""

    def __init__(self, texts: Any, tokenizer: Any, max_length: int) -> None:
        self.texts, self.tokenizer, self.max_length = texts, tokenizer, max_length

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> Any:
        return self.tokenizer(self.texts[row]["text"], truncation=True, max_length=self.max_length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", required=True, help="files of lines, or patterns")
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=3000, help="32 texts each")
    parser.add_argument("--max-length", type=int, default=48)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder())
    model = AutoModelForMaskedLM.from_pretrained(encoder_folder(), dtype=torch.float32)
    texts = _Lines(load_unlabeled(arguments.text), tokenizer, arguments.max_length)
    settings = TrainingArguments(
        output_dir=f"{arguments.out}.work",
        max_steps=arguments.steps,
        per_device_train_batch_size=32,
        learning_rate=5e-4,
        warmup_steps=0.05,
        bf16=has_fast_bfloat16(model.device),
        use_cpu=not torch.accelerator.is_available(),
        save_strategy="no",
        logging_steps=50,
        report_to="none",
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model, settings, DataCollatorForLanguageModeling(tokenizer), texts)
    trainer.train()
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
