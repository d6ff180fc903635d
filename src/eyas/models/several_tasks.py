"""One student for several tasks: the same word vectors and encoder, and an output layer for each task."""

from typing import Any, cast

from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification, AutoModelForTokenClassification

from eyas.models.configuration import TasksConfig
from eyas.models.ensemble import MEMBERS
from eyas.models.family import TAGGERS
from eyas.models.student import Student


class Several(nn.Module):
    """Models that are trained together, each on the data set of its name, and that share some of their weights."""

    def student(self, task: str) -> Any:
        """The model of one data set."""
        raise NotImplementedError

    def stored_elsewhere(self) -> dict[str, str]:
        """{name of a shared weight: the first name of the same weight}, for `_tied_weights_keys`."""
        first: dict[int, str] = {}
        names = [(name, id(weight)) for name, weight in self.named_parameters(remove_duplicate=False)]
        return {name: first[weight] for name, weight in names if first.setdefault(weight, name) != name}


class TasksForSequenceClassification(Student, Several):
    """Students that share their word vectors, and those that read texts, or words, alike also their encoder.

    After MKD (Liu et al. 2019). `bilstm` and transformers read both alike; the others have one encoder of texts and one
    of words.
    """

    config_class = TasksConfig
    config: TasksConfig

    def __init__(self, config: TasksConfig) -> None:
        super().__init__(config)
        self.reads_alone = config.architecture in MEMBERS
        self.students = nn.ModuleDict()
        encoders: dict[type, nn.Module] = {}
        for name, own in (config.tasks or {}).items():
            tagging = own["eyas_task"] == "tagging"
            if not self.reads_alone:
                auto: Any = AutoModelForTokenClassification if tagging else AutoModelForSequenceClassification
                self.students[name] = auto.from_config(CONFIG_MAPPING[own["model_type"]].from_dict(own))
                continue
            kind: Any = (TAGGERS if tagging else MEMBERS)[config.architecture]
            student = kind(kind.config_class.from_dict(own))
            student.embeddings = self.embeddings
            student.encoder = encoders.setdefault(kind.encoder_class, student.encoder)
            self.students[name] = student
        if not self.reads_alone:
            self._share_body()
        self._tied_weights_keys = self.stored_elsewhere()
        self._keys_to_ignore_on_save = set(self._tied_weights_keys)
        self.post_init()  # type: ignore[no-untyped-call]

    def _share_body(self) -> None:
        """Give all transformers the same layers: those with a pooler, if a task has one."""
        bodies = [cast(Any, student).base_model for student in self.students.values()]
        body = max(bodies, key=lambda one: one.num_parameters())
        for student in self.students.values():
            setattr(student, cast(str, student.base_model_prefix), body)
        self.embeddings = body.get_input_embeddings()

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, *, task: str, **inputs: Any) -> Any:
        """The outputs of the student of `task`; the arguments are that student's."""
        return self.students[task](input_ids=input_ids, labels=labels, **inputs)

    def student(self, task: str) -> Any:
        """An ordinary student of one task; its word vectors and encoder are those of the others."""
        return self.students[task]


def student_of(model: Any, name: str) -> Any:
    """The student of the data set `name`, if `model` has several."""
    return model.student(name) if isinstance(model, Several) else model
