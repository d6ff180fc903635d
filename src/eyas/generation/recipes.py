"""What students that write learn from: one class per published method."""

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from eyas.errors import ModelError
from eyas.generation.losses import ANNEALING, cross_entropy, divergence, imitation
from eyas.losses.hidden_states import squared_error
from eyas.losses.layer_mapping import uniform

# The longest text that the student writes for itself, in tokens of the longest target of its batch.
LONGEST = 1.5
# The parts of an encoder-decoder that have layers, with the mask of their queries.
STATES = {"encoder_hidden_states": "source", "decoder_hidden_states": "target"}
ATTENTIONS = {"encoder_attentions": "source", "decoder_attentions": "target", "cross_attentions": "target"}


class Recipe(nn.Module):
    """One method: the loss of a batch.

    `needs` is what it reads of the teacher: nothing, its cached "distributions" at the tokens of the targets, its
    "outputs" as targets, or the "live" model.
    """

    needs: ClassVar[str] = ""
    smoothing = 0.0

    def prepare(self, student: Any, teacher: Any) -> None:
        """Called once with both models."""

    def forward(self, student: Any, batch: dict[str, Tensor], teacher: Any, progress: float, seed: int) -> Tensor:
        """The loss.

        Args:
            batch: what the decoders read, and `labels` [batch, tokens] int64, -100 at padding.
            teacher: a `TopK` for `distributions`, the model for `live`.
            progress: of the training, from 0 to 1.
            seed: of the random numbers of this step, the same after an interruption.
        """
        return cross_entropy(student(**_inputs(batch)).logits, batch["labels"], self.smoothing)


class HardLabels(Recipe):
    """Cross-entropy with the data's targets; the baseline without a teacher."""


class WordKD(Recipe):
    """Word-level distillation, Kim & Rush 2016, 3.1: the teacher's distribution at each token, and the labels.

    Args:
        weight: of the divergence; the labels have the rest.
        top_k: words of each distribution that are kept, with the probability of all others together.
    """

    needs = "distributions"

    def __init__(self, weight: float = 0.5, top_k: int = 16) -> None:
        super().__init__()
        self.weight, self.top_k = weight, top_k

    def forward(self, student: Any, batch: dict[str, Tensor], teacher: Any, progress: float, seed: int) -> Tensor:
        logits, labels = student(**_inputs(batch)).logits, batch["labels"]
        found = divergence(logits, teacher, labels >= 0)
        return self.weight * found + (1 - self.weight) * cross_entropy(logits, labels, self.smoothing)


class SequenceKD(Recipe):
    """Sequence-level distillation, Kim & Rush 2016, 3.2: the texts that the teacher writes are the targets.

    Args:
        beams: of the teacher's beam search.
    """

    needs = "outputs"

    def __init__(self, beams: int = 5) -> None:
        super().__init__()
        self.beams = beams


class ImitKD(Recipe):
    """ImitKD, Lin et al. 2020: after prefixes of the data and more and more of its own, what the teacher would write.

    Args:
        loss: "full" is the teacher's distribution (ImitKD*), "hard" its likeliest word (algorithm 1).
        schedule: of the share of the data's prefixes: exponential, linear or sigmoid.
    """

    needs = "live"

    def __init__(self, loss: str = "full", schedule: str = "exponential") -> None:
        super().__init__()
        for name, value, known in (("loss", loss, ("full", "hard")), ("schedule", schedule, tuple(ANNEALING))):
            if value not in known:
                raise ModelError(f"The recipe imitkd: {name}={value!r}, expected one of {', '.join(known)}.")
        self.full, self.schedule = loss == "full", ANNEALING[schedule]

    def forward(self, student: Any, batch: dict[str, Tensor], teacher: Any, progress: float, seed: int) -> Tensor:
        inputs, gold = _inputs(batch), batch["labels"]
        config, context = student.config, inputs["decoder_input_ids"]
        drawn = torch.rand(len(gold), generator=torch.Generator().manual_seed(seed))
        decoded = (drawn >= self.schedule(progress)).to(gold.device)
        if decoded.any():
            written = _written(
                student, {name: batch[name][decoded] for name in ("input_ids", "attention_mask")}, context
            )
            width = max(context.shape[1], written.shape[1])
            context = nn.functional.pad(context, (0, width - context.shape[1]), value=config.pad_token_id)
            gold = nn.functional.pad(gold, (0, width - gold.shape[1]), value=-100)
            context[decoded] = nn.functional.pad(written, (0, width - written.shape[1]), value=config.pad_token_id)
        inputs["decoder_input_ids"] = context
        with torch.no_grad():
            theirs = teacher(**inputs).logits
        special = (config.pad_token_id, config.eos_token_id)
        return imitation(student(**inputs).logits, theirs, context, gold, decoded, special, self.full)


class FeatureAlignment(Recipe):
    """After feature-alignment distillation (arXiv 2412.19449): labels, divergence, hidden states and attention.

    Args:
        weight: of the divergence; the labels have weight 1.
        hidden_weight: of the squared error of mapped layers' states, through a linear map if the sizes differ.
        attention_weight: of the squared error of mapped layers' attention, the means of the heads.
    """

    needs = "live"

    def __init__(self, weight: float = 1.0, hidden_weight: float = 1.0, attention_weight: float = 1.0) -> None:
        super().__init__()
        self.weight, self.hidden_weight, self.attention_weight = weight, hidden_weight, attention_weight
        self.maps = nn.ModuleDict()

    def prepare(self, student: Any, teacher: Any) -> None:
        for model in (student, teacher):
            model.set_attn_implementation("eager")  # others do not return their attention
        ours, theirs = (int(model.config.hidden_size) for model in (student, teacher))
        self.maps.update({part: nn.Identity() if ours == theirs else nn.Linear(ours, theirs) for part in STATES})

    def forward(self, student: Any, batch: dict[str, Tensor], teacher: Any, progress: float, seed: int) -> Tensor:
        inputs = {**_inputs(batch), "output_hidden_states": True, "output_attentions": True}
        ours = student(**inputs)
        with torch.no_grad():
            theirs = teacher(**inputs)
        masks = {"source": batch["attention_mask"].bool(), "target": batch["labels"] >= 0}
        loss = cross_entropy(ours.logits, batch["labels"], self.smoothing)
        loss = loss + self.weight * divergence(ours.logits, theirs.logits, masks["target"])
        hidden = [
            squared_error(self.maps[part](state), their, masks[mask])
            for part, mask in STATES.items()
            for state, their in _mapped(ours[part][1:], theirs[part][1:])
        ]
        attention = [
            squared_error(state.mean(1), their.mean(1), masks[mask])
            for part, mask in ATTENTIONS.items()
            for state, their in _mapped(ours[part], theirs[part])
        ]
        for weight, terms in ((self.hidden_weight, hidden), (self.attention_weight, attention)):
            loss = loss + weight * torch.stack(terms).mean()
        return loss


RECIPES: dict[str, type[Recipe]] = {
    "hard-labels": HardLabels,
    "word-kd": WordKD,
    "sequence-kd": SequenceKD,
    "imitkd": ImitKD,
    "feature-alignment": FeatureAlignment,
}
"""Recipes of students that write, by name."""


def make_recipe(name: str, options: dict[str, Any] | None = None) -> Recipe:
    """The recipe of that name with options of its own.

    Raises:
        ModelError: unknown recipe, unknown option or invalid value.
    """
    if name not in RECIPES:
        raise ModelError(f"Unknown recipe {name!r} for students that write. Expected one of {', '.join(RECIPES)}.")
    known = {} if RECIPES[name].__init__ is Recipe.__init__ else inspect.signature(RECIPES[name]).parameters
    for option, value in (options or {}).items():
        if option not in known:
            raise ModelError(f"The recipe {name} has no option {option!r}. Expected {', '.join(known) or 'none'}.")
        default = known[option].default
        number = isinstance(value, int) or (isinstance(value, float) and isinstance(default, float))
        most = 1 if (name, option) == ("word-kd", "weight") else float("inf")
        if not isinstance(default, str) and not (number and (1 if isinstance(default, int) else 0) <= value <= most):
            raise ModelError(f"The recipe {name}: {option}={value!r}, expected a number such as {default}.")
    return RECIPES[name](**(options or {}))


def _inputs(batch: dict[str, Tensor]) -> dict[str, Any]:
    """What both models read."""
    return {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}


def _written(student: Any, sources: dict[str, Tensor], context: Tensor) -> Tensor:
    """[texts, tokens] what the student writes now, word by word its likeliest, from the start token on."""
    longest = min(int(LONGEST * context.shape[1]) + 1, student.generation_config.max_length - 1)  # its positions
    student.eval()
    with torch.no_grad():
        found: Tensor = student.generate(**sources, do_sample=False, num_beams=1, max_length=longest)
    student.train()
    return found


def _mapped(ours: Any, theirs: Any) -> list[tuple[Tensor, Tensor]]:
    """Each of the student's layers with one of the teacher's, up to the last."""
    return [(ours[one - 1], theirs[other - 1]) for one, other in uniform(len(ours), len(theirs))]
