"""The training loop of models that write: transformers' trainer with our recipes and atomic checkpoints."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq, PrinterCallback, TrainerCallback, TrainerState

from eyas.generation.data import EncodedPairs
from eyas.generation.losses import cross_entropy
from eyas.generation.recipes import Recipe
from eyas.generation.teachers import TeacherCache
from eyas.training.arguments import DistillationArguments
from eyas.training.batches import LengthGroupedBatchSampler
from eyas.training.callbacks import ProgressCallback
from eyas.training.checkpoints import TRAINER_STATE, AtomicCheckpoints, has_stopped_early, newest_whole

logger = logging.getLogger("eyas")

# Where a recipe with parameters is in the model while it is trained.
RECIPE = "eyas_recipe"


class GenerationTrainer(AtomicCheckpoints):
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
        self.remove_callback(PrinterCallback)
        if isinstance(teacher, nn.Module):
            teacher.to(self.args.device)
        self.model_accepts_loss_kwargs = False  # losses are means over the batch

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

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        metrics: dict[str, float] = super().evaluate(*args, **options)
        logger.info("epoch %.3g: validation loss %.4f", self.state.epoch or 0, metrics["eval_loss"])
        return metrics

    def get_train_dataloader(self) -> DataLoader[Any]:
        pairs = cast(EncodedPairs, self.train_dataset)
        sampler = LengthGroupedBatchSampler(pairs.lengths, self.args.train_batch_size, self.args.seed)
        loader: DataLoader[Any] = DataLoader(pairs, batch_sampler=sampler, collate_fn=cast(Any, self.data_collator))
        return cast(DataLoader[Any], self.accelerator.prepare(loader))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # transformers would walk over all parameters in every step

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **options: Any) -> Any:
        """Train, from the newest intact checkpoint on, if there is one."""
        found = newest_whole(Path(str(self.args.output_dir)))
        model = cast(nn.Module, self.model)
        try:
            if found is not None:
                logger.info("Resuming from %s.", found.name)
                if has_stopped_early(found):
                    self.state = TrainerState.load_from_json(str(found / TRAINER_STATE))
                    return self._load_best_model()
            return super().train(None if found is None else str(found), *args, **options)
        finally:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, ProgressCallback):
                    callback.close()
            if hasattr(model, RECIPE):
                delattr(model, RECIPE)
