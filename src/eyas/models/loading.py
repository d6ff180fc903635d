"""Load models from a folder or the Hub, and check them early."""

import json
import logging
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from eyas.data.labels import ordered_names
from eyas.data.tokenization import separating_words, wrap_tokenizer
from eyas.encoders import find_encoder, is_hub_name
from eyas.errors import ModelError
from eyas.models.configuration import FamilyConfig, TasksConfig
from eyas.models.positions import position_count
from eyas.models.student import is_student
from eyas.runtime.alignment import continuing
from eyas.settings import MAX_LENGTH
from eyas.tasks import COMPRESSION, Task, task_of_model
from eyas.verbosity import without_bars

logger = logging.getLogger("eyas")

# In the configuration of a folder in that of a student of several tasks: the name of its task.
PART = "eyas_part"
# Tokenizers without a limit report 1e30.
UNSET = 100_000

# Of a language model without an encoder.
DECODER_ONLY = "is a decoder alone: for those use TRL (its GKDTrainer distills them)"
# The `problem_type` of our tasks in transformers.
PROBLEMS = {
    "classification": "single_label_classification",
    "regression": "regression",
    "multi-label": "multi_label_classification",
}


def load_classifier(source: str | Path) -> tuple[PreTrainedModel, Any]:
    """A trained classifier of texts or words and its tokenizer, in float32 and eval mode.

    Raises:
        ModelError: no such folder, no weights, another head, or another model's tokenizer.
    """
    name, config = str(source), _config(source)
    if folders := task_folders(source):
        raise ModelError(f"{name} is a student of several tasks: name one, {' or '.join(map(str, folders.values()))}.")
    if task := getattr(config, PART, None):
        whole = Path(source).resolve().parent
        if not (whole / "config.json").is_file() or _config(whole).model_type != TasksConfig.model_type:
            raise ModelError(f"{name} is one task of a student of several: it needs that student's folder around it.")
        model = load_tasks(whole).student(task)
        return model.eval(), load_tokenizer(source, model)
    architectures = config.architectures or []
    heads = ("SequenceClassification", "TokenClassification")
    if architectures and not any(head in architectures[0] for head in heads):
        raise ModelError(
            f"{name} is a {architectures[0]}, expected a model for sequence or token classification. "
            "Fine-tune it with: eyas finetune --model ... --data ... --out ..."
        )
    auto = AutoModelForTokenClassification if task_of_config(config).is_tagging else AutoModelForSequenceClassification
    model, info = _from_pretrained(auto, source, output_loading_info=True)
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{name} has no weights for {', '.join(missing[:4])}: it is not a trained classifier. "
            "Fine-tune it with: eyas finetune --model ... --data ... --out ..."
        )
    return model.eval(), load_tokenizer(source, model)


def load_tasks(source: str | Path) -> Any:
    """A student of several tasks, in eval mode."""
    model, info = _from_pretrained(AutoModelForSequenceClassification, source, output_loading_info=True)
    if info["missing_keys"]:
        raise ModelError(f"{source} has no weights for {', '.join(sorted(info['missing_keys'])[:4])}: train it again.")
    return model.eval()


def task_folders(source: str | Path) -> dict[str, Path]:
    """The folder of each task, if `source` is that of a student of several."""
    config = _config(source)
    several = config.model_type == TasksConfig.model_type
    return {name: Path(source) / name for name in config.tasks or {}} if several else {}


def is_part(source: str | Path) -> bool:
    """Whether `source` is the folder of one task of a student of several."""
    return Path(source).is_dir() and bool(getattr(_config(source), PART, None))


def load_body(source: str | Path) -> tuple[PreTrainedModel, Any]:
    """A pretrained encoder without a head, and its tokenizer, in eval mode.

    Raises:
        ModelError: no such model, no weights, or one of our students.
    """
    source = find_encoder(str(source))
    if is_student_folder(source):
        raise ModelError(
            f"{source} is a student ({_config(source).model_type}), expected a pretrained encoder such as BERT. The "
            "encoders on this machine: eyas encoders."
        )
    model, info = _from_pretrained(AutoModel, source, output_loading_info=True)
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise ModelError(f"{source} has no weights for {', '.join(missing[:4])}: it is not a pretrained encoder.")
    return model.eval(), load_tokenizer(source, model)


def load_encoder(source: str | Path, task: Task, pair: bool = False) -> tuple[PreTrainedModel, Any]:
    """A pretrained encoder with a new head for `task`, and its tokenizer, for fine-tuning.

    Args:
        pair: whether the texts are pairs.

    Raises:
        ModelError: no such model, weights that are missing or of other shapes than its configuration has, or a student
            for whole texts if the task is tagging.
    """
    source = find_encoder(str(source))
    config = _config(source)
    if config.model_type == TasksConfig.model_type:
        load_classifier(source)  # says to name a task
    student, family = config.model_type.startswith("eyas-"), config.model_type == FamilyConfig.model_type
    if student and not family and task.is_tagging and not task_of_config(config).is_tagging:
        raise ModelError(f"{source} is a student for whole texts: it cannot be fine-tuned for tagging.")
    auto: Any = AutoModelForTokenClassification if task.is_tagging else AutoModelForSequenceClassification
    settings: dict[str, Any] = {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {name: index for index, name in enumerate(task.labels)},
        "problem_type": PROBLEMS.get(task.kind),
        **({"pair": pair, "data_labels": list(task.labels), "eyas_task": task.kind} if student else {}),
    }
    if family:
        pretrained, tokenizer = load_classifier(source)
        model, backend = cast(Any, pretrained).student(task.is_tagging, **settings), tokenizer.backend_tokenizer
        if task.is_tagging:
            backend = separating_words(backend)
            model.continues.copy_(torch.from_numpy(continuing(backend)))
        return model, wrap_tokenizer(backend, model.config.max_length, pair)
    if getattr(config, PART, None):  # one task of several becomes a student of its own
        part, tokenizer = load_classifier(source)
        model = auto.from_config(type(part.config).from_dict({**part.config.to_dict(), **settings}))
        shapes = {name: weight.shape for name, weight in model.state_dict().items()}
        known = {name: weight for name, weight in part.state_dict().items() if shapes.get(name) == weight.shape}
        model.load_state_dict(known, strict=False)
    else:
        model, info = _from_pretrained(auto, source, ignore_mismatched_sizes=True, output_loading_info=True, **settings)
        new = [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]
        body = sorted(key for key in new if key.startswith(f"{model.base_model_prefix}.") and "pooler" not in key)
        if body:
            raise ModelError(f"{source} has no weights for {', '.join(body[:4])}: it is not a pretrained encoder.")
        tokenizer = load_tokenizer(source, model)
    vars(model.config).pop(COMPRESSION, None)  # of the weights that will be trained
    model.config.eyas_task = task.kind
    return model, wrap_tokenizer(tokenizer.backend_tokenizer, model.config.max_length, pair) if student else tokenizer


def load_seq2seq(source: str | Path) -> tuple[PreTrainedModel, Any]:
    """An encoder-decoder that writes texts, and its tokenizer, in float32 and eval mode.

    Raises:
        ModelError: no such folder, no weights, a model without a decoder, or without an encoder.
    """
    config = _config(source)
    kind = (config.architectures or [config.model_type])[0]
    if "Classification" in kind:
        raise ModelError(f"{source} is a {kind}, expected a model that writes texts.")
    if not config.is_encoder_decoder:
        alone = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and "CausalLM" in kind + "CausalLM" * ("LMHead" in kind)
        raise ModelError(
            f"{source} is a {kind}, which {DECODER_ONLY if alone else 'has no decoder'}. Expected an encoder-decoder "
            "such as T5, BART or Marian."
        )
    model, info = _from_pretrained(AutoModelForSeq2SeqLM, source, output_loading_info=True)
    if info["missing_keys"]:
        raise ModelError(f"{source} has no weights for {', '.join(sorted(info['missing_keys'])[:4])}.")
    tokenizer = load_tokenizer(source, model)
    tokenizer.clean_up_tokenization_spaces = False  # exported models and targets keep their spaces too
    return model.eval(), tokenizer


def is_seq2seq_folder(source: str | Path) -> bool:
    """Whether a folder on this machine holds an encoder-decoder that writes texts."""
    try:
        config = json.loads((Path(source) / "config.json").read_text())
        return bool(config.get("is_encoder_decoder")) and "Classification" not in str(config.get("architectures"))
    except (OSError, ValueError, AttributeError):
        return False


def load_masked_lm(source: str | Path) -> tuple[PreTrainedModel, Any]:
    """A masked language model and its tokenizer.

    Raises:
        ModelError: no masked-LM head, no mask token, or another model's tokenizer.
    """
    source = find_encoder(str(source))
    name, architectures = str(source), _config(source).architectures or ["model without a head"]
    wrong = (
        f"{name} is a {architectures[0]}, expected a masked language model (BertForMaskedLM, RobertaForMaskedLM ...)"
    )
    if "MaskedLM" not in architectures[0] and "ForPreTraining" not in architectures[0]:
        raise ModelError(f"{wrong}. Without one, use --augment neighbors.")
    model, info = _from_pretrained(AutoModelForMaskedLM, source, output_loading_info=True)
    if info["missing_keys"]:
        raise ModelError(f"{wrong}: it has no weights for {', '.join(sorted(info['missing_keys'])[:4])}.")
    tokenizer = load_tokenizer(source, model)
    if tokenizer.mask_token_id is None or not tokenizer.is_fast:
        raise ModelError(f"{name}: expected a fast tokenizer with a mask token. Put the model's own into the folder.")
    model.requires_grad_(False)
    return model.eval(), tokenizer


def task_of_folder(source: str | Path) -> Task:
    """The task of the model in a folder or on the Hub."""
    return task_of_config(_config(source))


def is_student_folder(source: str | Path) -> bool:
    """Whether a folder or Hub name holds one of our own models."""
    return str(_config(find_encoder(str(source))).model_type).startswith("eyas-")


def task_of_config(config: Any) -> Task:
    """The task of a model with this configuration."""
    return task_of_model(config, ordered_names(config.id2label or {}))


def load_tokenizer(source: str | Path, model: PreTrainedModel) -> Any:
    """The tokenizer of `model`, checked against the size of its embedding table."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:
        raise ModelError(f"{source}: its tokenizer could not be loaded: {error}") from error
    rows, tokens = embedding_rows(model), len(tokenizer)
    if tokens > rows:
        raise ModelError(
            f"{source}: the tokenizer has {tokens:,} tokens, the model embeds {rows:,}. They belong to "
            "different models; put the model's own tokenizer files into the folder."
        )
    if rows - tokens > 1000:
        logger.warning(
            "%s: the tokenizer has %d tokens, the model embeds %d. Is it the model's own?",
            source,
            tokens,
            rows,
        )
    return tokenizer


def embedding_rows(model: PreTrainedModel) -> int:
    """The number of tokens in the model's embedding table."""
    return int(cast(nn.Embedding, model.get_input_embeddings()).num_embeddings)


def input_length(model: PreTrainedModel, tokenizer: Any, wanted: int | None = None) -> int:
    """`wanted`, limited by the positions of the model and its tokenizer; for a student its own `max_length`.

    `wanted` is by default the tokenizer's limit, or `MAX_LENGTH` where it has no limit.
    """
    if is_student(model):
        return int(model.config.max_length)
    own = tokenizer.model_max_length
    wanted = wanted or (own if own < UNSET else MAX_LENGTH)
    limits = [wanted, own]
    return int(min([*limits, position_count(model) or wanted]))


def check_model(source: str | Path) -> None:
    """Raises ModelError if `source` is neither a model folder nor a package, and cannot be had from the Hub."""
    _config(find_encoder(str(source)))


def _config(source: str | Path) -> Any:
    path = Path(source)
    looks_local = path.exists() or not is_hub_name(str(source))
    if not path.exists() and looks_local:
        raise ModelError(
            f"{source}: no such model folder or package, and no name on the Hub. The encoders on this machine: eyas "
            "encoders."
        )
    if looks_local and not (path / "config.json").is_file():
        raise ModelError(f"{source}: expected a model folder with a config.json, found none.")
    if looks_local:
        _refuse_old_name(path)
    try:
        return AutoConfig.from_pretrained(source)
    except Exception as error:
        raise ModelError(
            f"{source}: no such model folder or package, and loading from the Hub failed: {error} The encoders on this "
            "machine: eyas encoders."
        ) from error


def _refuse_old_name(folder: Path) -> None:
    """Raises ModelError for a model from before eyas got its name."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return  # transformers reports it
    if str(config.get("model_type")).startswith("understudy-") or "understudy_task" in config:
        raise ModelError(
            f"{folder} was written by an earlier version of eyas, under its old name (understudy). This version does "
            "not read it: train the model again."
        )


@without_bars()
def _from_pretrained(auto: Any, source: str | Path, **options: Any) -> Any:
    config = _config(source)  # there is a model
    if type(config) not in auto._model_mapping:
        raise ModelError(f"{source} is a {config.model_type}, for which transformers has no {auto.__name__}.")
    path = Path(source)
    if path.is_dir() and not any(path.glob("*.safetensors")):
        pickled = next((p.name for p in path.glob("*.bin")), None)
        found = f"only {pickled}, a pickle, which can run code when loaded" if pickled else "no weights"
        raise ModelError(f"{source}: expected weights in model.safetensors, found {found}.")
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # what is missing is checked, and a new head is always reported
    try:
        return auto.from_pretrained(source, dtype=torch.float32, use_safetensors=True, **options)
    except Exception as error:
        raise ModelError(f"{source}: the model could not be loaded: {error}") from error
    finally:
        transformers_logging.set_verbosity(level)
