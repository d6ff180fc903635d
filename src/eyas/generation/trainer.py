"""The training loop of models that write: transformers' trainer with our recipes and atomic checkpoints."""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn
from transformers import DataCollatorForSeq2Seq, TrainerCallback

from eyas.generation.data import EncodedPairs
from eyas.generation.losses import cross_entropy
from eyas.generation.recipes import Recipe
from eyas.generation.teachers import TeacherCache
from eyas.training.arguments import DistillationArguments
from eyas.training.batches import LengthGroupedBatchSampler
from eyas.training.callbacks import ProgressCallback
from eyas.training.checkpoints import ResumableTrainer

# Where a recipe with parameters is in the model while it is trained.
RECIPE = "eyas_recipe"


class GenerationTrainer(ResumableTrainer):
    """Trains an encoder-decoder by a recipe; the cross-entropy of the validation targets chooses the checkpoint.

    Args:
        teacher: the model, or what is cached of it, as the recipe needs.
    """

    def __init__(
        self,
        model: Any,
        args: DistillationArguments,
        train: EncodedPairs,
        validation: EncodedPairs,
        tokenizer: Any,
        recipe: Recipe,
        teacher: Any = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.recipe, self.teacher = recipe, teacher
        recipe.smoothing = args.label_smoothing_factor
        if list(recipe.parameters()):  # optimized and checkpointed with the student
            model.add_module(RECIPE, recipe)
        super().__init__(
            model=model,
            args=args,
            data_collator=DataCollatorForSeq2Seq(tokenizer, model),
            train_dataset=train,
            eval_dataset=validation,
            processing_class=tokenizer,
            callbacks=[*callbacks, ProgressCallback({})],
        )
        if isinstance(teacher, nn.Module):
            teacher.to(self.args.device)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """In training the recipe's loss, in evaluation the cross-entropy of the targets."""
        examples, labels = inputs["example_id"], inputs["labels"]
        if model.training:
            teacher = self.teacher
            if isinstance(teacher, TeacherCache):
                teacher = teacher.distributions(examples, labels)
            progress = self.state.global_step / max(self.state.max_steps, 1)
            seed = (self.args.seed << 32) + self.state.global_step
            return self.recipe(model, inputs, teacher, progress, seed)
        given = {name: value for name, value in inputs.items() if name not in ("example_id", "labels")}
        outputs = model(**given)
        loss = cross_entropy(outputs.logits, labels)
        return (loss, {"loss": loss, "logits": outputs.logits}) if return_outputs else loss

    def train_batches(self) -> Any:
        pairs = cast(EncodedPairs, self.train_dataset)
        return LengthGroupedBatchSampler(pairs.lengths, self.args.train_batch_size, self.args.seed)

    def train(self, *args: Any, **options: Any) -> Any:
        try:
            return super().train(*args, **options)
        finally:
            if hasattr(self.model, RECIPE):
                delattr(self.model, RECIPE)
