"""A selector that learns which new texts help the student (L2A, Feng et al. 2021, section 3.3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F

from eyas.data.datasets import labeled_rows, labels_of, task_of
from eyas.models.classifier import Classifier
from eyas.models.objective import task_loss
from eyas.tasks import Task, softmax
from eyas.text import clean_texts


@dataclass(frozen=True)
class LearnedSelector:
    """Chooses with a logistic policy over features of a text, rewarded by the student's gain (REINFORCE).

    In each round the policy samples the texts of a batch to keep, and a copy of the student takes a step on them. The
    reward is the drop in its loss on a batch of validation texts, relative to a moving average of the earlier rewards.

    Args:
        rounds: number of steps of student and policy.
        batch_size: texts per round, before the policy chooses.
        student_rate, policy_rate: learning rates.
    """

    rounds: int = 200
    batch_size: int = 64
    student_rate: float = 1e-3
    policy_rate: float = 0.05

    def scores(
        self, dataset: Dataset, teacher_logits: np.ndarray, student: Classifier, validation: Dataset, seed: int = 0
    ) -> np.ndarray:
        """[rows] the policy's score for keeping each text; higher is likelier.

        Args:
            dataset: new texts.
            teacher_logits: [rows, labels] the teacher's logits, in the order of the student's labels.
            student: trained further, in memory only.
            validation: labeled texts.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self._scores(dataset, teacher_logits, student, validation, np.random.default_rng(seed))

    def _scores(
        self,
        dataset: Dataset,
        teacher_logits: np.ndarray,
        student: Classifier,
        validation: Dataset,
        random: np.random.Generator,
    ) -> np.ndarray:
        task = task_of(dataset)
        features = torch.from_numpy(_features(dataset, teacher_logits, _logits(student, dataset)))
        weights = torch.zeros(features.shape[1], requires_grad=True)
        policy = torch.optim.Adam([weights], lr=self.policy_rate)
        learner = torch.optim.Adam(student.model.parameters(), lr=self.student_rate)
        held_out = labeled_rows(validation)
        checks = self._checks(held_out, random)
        usual: float | None = None
        for _ in range(self.rounds):
            places = random.integers(0, len(dataset), min(self.batch_size, len(dataset)))
            chances = torch.sigmoid(features[places] @ weights)
            kept = torch.bernoulli(chances.detach())
            check = next(checks)
            before = self._loss(task, student, check)
            self._learn(student, learner, dataset, places[kept.bool().numpy()], teacher_logits)
            reward = before - self._loss(task, student, check)
            usual = reward if usual is None else usual
            taken = torch.where(kept > 0, chances, 1 - chances).clamp(min=1e-6).log()
            policy.zero_grad()
            (-(reward - usual) / max(abs(usual), 1e-3) * taken.mean()).backward()
            policy.step()
            usual = 0.9 * usual + 0.1 * reward
        return np.asarray((features @ weights.detach()).numpy())

    def _checks(self, validation: Dataset, random: np.random.Generator) -> Iterator[Dataset]:
        while True:
            yield validation.select(random.integers(0, len(validation), min(4 * self.batch_size, len(validation))))

    @staticmethod
    @torch.no_grad()
    def _loss(task: Task, student: Classifier, dataset: Dataset) -> float:
        return float(task_loss(task, torch.from_numpy(_logits(student, dataset)), torch.from_numpy(labels_of(dataset))))

    @staticmethod
    def _learn(
        student: Classifier,
        optimizer: torch.optim.Optimizer,
        dataset: Dataset,
        places: np.ndarray,
        teacher_logits: np.ndarray,
    ) -> None:
        if not len(places):
            return
        student.model.train()
        logits = _forward(student, dataset.select(places))
        loss = F.mse_loss(logits, torch.from_numpy(teacher_logits[places]).to(logits.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        student.model.eval()


def _forward(student: Classifier, dataset: Dataset) -> Tensor:
    columns = [
        clean_texts(dataset[name], student.max_length) for name in ("text", "text_pair") if name in dataset.features
    ]
    inputs: Any = student.tokenizer(
        *columns, padding=True, truncation=True, max_length=student.max_length, return_tensors="pt"
    )
    logits: Tensor = student.model(**inputs.to(student.model.device)).logits
    return logits


def _logits(student: Classifier, dataset: Dataset) -> np.ndarray:
    return student.logits(dataset["text"], dataset["text_pair"] if "text_pair" in dataset.features else None)


def _features(dataset: Dataset, teacher_logits: np.ndarray, student_logits: np.ndarray) -> np.ndarray:
    """[rows, features] float32, each with mean 0 and standard deviation 1, and a constant.

    The teacher's highest probability and its entropy, the student's distance, the text length, and the method.
    """
    teacher, student = softmax(teacher_logits), softmax(student_logits)
    methods = sorted(set(dataset["method"]))
    made = np.array([[method == name for name in methods] for method in dataset["method"]], dtype=np.float32)
    lengths = np.log([len(text) + 1 for text in dataset["text"]])
    entropy = -(teacher * np.log(teacher + 1e-12)).sum(1)
    columns = [teacher.max(1), entropy, np.abs(teacher - student).sum(1), lengths, *made.T]
    table = np.stack(columns, 1)
    table = (table - table.mean(0)) / np.maximum(table.std(0), 1e-6)
    return np.concatenate([table, np.ones((len(table), 1))], 1).astype(np.float32)
