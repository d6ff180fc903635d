"""Create a student for a teacher and a transfer set: its vocabulary, word vectors and labels."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel

from eyas.compression import layers_left, parse_methods
from eyas.data.datasets import fields_of, is_pair, task_of
from eyas.data.embeddings import SCALE, read_vectors, scaled, teacher_embeddings
from eyas.data.labels import match_by_name
from eyas.data.subwords import teacher_rows
from eyas.data.tokenization import (
    SPECIAL_TOKENS,
    added_tokens,
    cut_tokenizer,
    field_tokenizer,
    token_frequencies,
    word_counts,
    word_tokenizer,
    wrap_tokenizer,
)
from eyas.errors import ModelError
from eyas.models import (
    FIELD_MODELS,
    STUDENTS,
    TAGGERS,
    EnsembleForSequenceClassification,
    FamilyForSequenceClassification,
)
from eyas.models.characters import spell
from eyas.models.loading import PROBLEMS, load_encoder, task_of_config
from eyas.models.positions import check_padding
from eyas.models.projection import check_projection, project_layers
from eyas.models.transformer import (
    FEED_FORWARD,
    check_family,
    chosen_layers,
    copy_layers,
    new_transformer,
    smaller_config,
)
from eyas.runtime.alignment import continuing
from eyas.settings import MIXED, NO_START, TRANSFORMERS, VECTORS, StudentSettings, is_folder
from eyas.tasks import COMPRESSION, Task
from eyas.teachers import AlignedTeacher, Teacher
from eyas.teachers.aligned import AnyTeacher, live
from eyas.text import CHARACTERS_PER_TOKEN, LONGEST_VALUE
from eyas.training.starts import read_start, rows_of_tokens
from eyas.training.student_checks import check_student
from eyas.training.vocabulary import Words, mixed_words, words_of

logger = logging.getLogger("eyas")

# Texts on which a narrower student is fitted to its teacher.
SAMPLE_TEXTS = 256
# Standard deviation of the elements of a transformer's word vectors; its position vectors have 0.02.
TRANSFORMER_SCALE = 0.05


def create_student(
    settings: StudentSettings | str,
    teacher: AnyTeacher | None,
    dataset: Dataset,
    label_names: list[str] | None = None,
    tokens: bool = False,
) -> tuple[PreTrainedModel, Any]:
    """Create a student and its tokenizer.

    Args:
        settings: the student's settings, or only its architecture.
        teacher: provides the tokenizer and the word vectors. A transformer that starts from the teacher's layers also
            gets its output layer, if the teacher is aligned or its label names match the student's. None for a new
            model of rows of fields.
        dataset: the transfer set; determines the vocabulary and, by its feature `label`, the labels.
        label_names: the student's label names, in the order of the data's labels; by default the data's names.
        tokens: if the labels are sentence vectors, whether the student also encodes words, for taggers to start from.

    Raises:
        ModelError: unknown architecture, or sizes that do not fit.
    """
    if isinstance(settings, str):
        settings = StudentSettings(settings)
    task = task_of(dataset)
    check_student(settings, task)
    names = label_names or list(task.labels)
    common = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "data_labels": list(task.labels),
        "eyas_task": task.kind,
        "problem_type": PROBLEMS.get(task.kind),
    }
    if task.reads_fields or teacher is None:
        model, tokenizer = _of_fields(settings, None if teacher is None else live(teacher), dataset, common)
    elif settings.architecture in TRANSFORMERS:
        model, tokenizer = _transformer(settings, live(teacher), dataset, task, common, head_order(teacher, names))
    else:
        model, tokenizer = _student(settings, live(teacher), dataset, task, common, tokens)
    table = cast(nn.Embedding, model.get_input_embeddings()).weight
    table.requires_grad_(not settings.freeze_embeddings)
    logger.info(
        "%s: %s words x %d, %s other parameters.",
        settings.architecture,
        f"{table.shape[0]:,}",
        table.shape[1],
        f"{model.num_parameters() - table.numel():,}",
    )
    return model, tokenizer


def head_order(teacher: AnyTeacher, names: list[str]) -> Sequence[int] | None:
    """For each student label, the index of its output in the head of the teacher's model.

    None if there is none: a model of entailment answers of other labels, joined teachers of more than the first knows.
    """
    if list(task_of_config(live(teacher).model.config).labels) != list(live(teacher).label_names):
        return None
    return teacher.order if isinstance(teacher, AlignedTeacher) else match_by_name(names, teacher.label_names)


def _student(
    settings: StudentSettings, teacher: Teacher, dataset: Dataset, task: Task, common: dict[str, Any], tokens: bool
) -> tuple[Any, Any]:
    """A student of one of our own architectures."""
    model_class: Any = (TAGGERS if task.is_tagging else STUDENTS).get(settings.architecture)
    several: dict[str, Any] = {}
    if task.kind == "vectors":
        model_class = FamilyForSequenceClassification
        several = {"members": settings.members, "tokens": tokens}
    elif settings.is_ensemble:
        model_class = EnsembleForSequenceClassification
        several = {"members": settings.members, "combination": settings.combination}
    start = None if settings.init in (None, NO_START) else read_start(settings, dataset, task)
    table: np.ndarray | None = None
    size = settings.embedding_size or min(model_class.config_class.embedding_size, _width(teacher.model))
    if start is not None:
        tokenizer = cut_tokenizer(
            start.with_added(teacher.tokenizer),
            dataset,
            settings.max_length,
            settings.vocab_size,
            words=task.is_tagging,
            whole=start.keeps_tokens,
        )
        table = start.vectors(tokenizer)
        size = table.shape[1]
    elif settings.embeddings in VECTORS:
        words, most = _words(teacher, dataset, settings)
        tokenizer = cut_tokenizer(words.tokenizer, dataset, settings.max_length, most, words=task.is_tagging)
        if settings.embeddings != "random":
            table = _table(words, tokenizer, dataset, settings, size)
    else:
        tokenizer, table = _words_and_vectors(settings, dataset, teacher.tokenizer)
        size = table.shape[1]
    wrapped = wrap_tokenizer(tokenizer, settings.max_length, is_pair(dataset))
    spelling, characters = spell(wrapped.convert_ids_to_tokens(list(range(len(wrapped)))))
    chosen = ("hidden_size", "dropout")
    own = {
        "vocab_size": len(wrapped),
        "embedding_size": size,
        "max_length": settings.max_length,
        "pair": is_pair(dataset),
        "pad_token_id": wrapped.pad_token_id,
        "char_vocab_size": characters,
        "crf": settings.crf,
        **{name: getattr(settings, name) for name in chosen if getattr(settings, name) is not None},
    }
    if settings.char_embedding_size:
        own["char_embedding_size"] = settings.char_embedding_size
    sizes = {} if start is None else {name: size for name, size in start.sizes.items() if name != COMPRESSION}
    config = model_class.config_class.from_dict({**sizes, **own, **several, **common})
    model = model_class(config)
    if start is not None:
        start.load(model)
    if table is not None:
        _set_embeddings(model, table)
    if task.is_tagging:
        model.continues.copy_(torch.from_numpy(continuing(tokenizer)))
    if config.char_embedding_size:
        model.characters.spelling.copy_(torch.from_numpy(spelling))
    return model, wrapped


def _of_fields(
    settings: StudentSettings, teacher: Teacher | None, dataset: Dataset, common: dict[str, Any]
) -> tuple[Any, Any]:
    """A model of rows of fields; with the vectors of a teacher that reads the same fields, if the sizes are equal."""
    model_class, fields = FIELD_MODELS[settings.architecture], fields_of(dataset)
    asked = settings.embeddings == "teacher" and settings.vocab_size is None
    known = teacher is not None and list(getattr(teacher.model.config, "fields", ())) == fields
    of: Any = teacher if asked and known else None
    tokenizer = of.tokenizer.backend_tokenizer if of else field_tokenizer(dataset, fields, settings.vocab_size)
    default = of.model.config.embedding_size if of else model_class.config_class.embedding_size
    characters = sum(len(name) + LONGEST_VALUE + 2 for name in fields)
    length = max(math.ceil(characters / CHARACTERS_PER_TOKEN), len(fields) + 1)
    wrapped = wrap_tokenizer(tokenizer, length, pair=False)
    given = {"layers": settings.layers, "dropout": settings.dropout}
    own = {
        "fields": fields,
        "vocab_size": len(wrapped),
        "embedding_size": settings.embedding_size or default,
        "max_length": length,
        "pad_token_id": wrapped.pad_token_id,
        **({"interaction": "outer"} if settings.architecture == "dagfm-outer" else {}),
        **{name: value for name, value in given.items() if value is not None},
    }
    model = model_class(model_class.config_class.from_dict({**own, **common}))
    if of and _width(model) == _width(of.model):
        _set_embeddings(model, of.model.get_input_embeddings().weight.detach().float().cpu().numpy())
    return model, wrapped


def _transformer(
    settings: StudentSettings,
    teacher: Teacher,
    dataset: Dataset,
    task: Task,
    common: dict[str, Any],
    order: Sequence[int] | None,
) -> tuple[Any, Any]:
    """A transformer of the teacher's family, with the subwords of `dataset`, at the teacher's positions."""
    pretrained = is_folder(settings.init)
    origin: Any = load_encoder(str(settings.init), task) if pretrained else (teacher.model, teacher.tokenizer)
    original, original_tokenizer = origin
    size = settings.size
    if pretrained:  # its sizes are fixed
        own_sizes = {"heads": settings.heads, "feed_forward": settings.feed_forward}
        _check_sizes(str(settings.init), original.config, own_sizes)
        size = replace(size, **own_sizes)
    # The teacher's subwords, even if it starts from another model: both must read the same tokens.
    words, most = _words(teacher, dataset, settings)
    tokenizer = cut_tokenizer(
        words.tokenizer,
        dataset,
        settings.max_length,
        most,
        words=task.is_tagging,
        same_places=True,
        # A copied model knows the other subwords, too, and names are new in every text.
        whole=task.is_tagging and most is None and _starting_layers(settings, original) is not None,
    )
    wrapped = wrap_tokenizer(tokenizer, settings.max_length, is_pair(dataset))
    wrapped.model_max_length = settings.max_length  # counts both texts of a pair, as the teacher does
    own: dict[str, Any] = {
        "vocab_size": len(wrapped),
        "pad_token_id": wrapped.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    kinds = getattr(original.config, "type_vocab_size", 0)  # DeBERTa needs none
    types = max(wrapped("a", "a")["token_type_ids"]) if is_pair(dataset) else 0
    if 0 < kinds <= types:
        own["type_vocab_size"] = types + 1
    layers = _starting_layers(settings, original)
    model = new_transformer(original, size, task.is_tagging, layers, settings.dropout, **own, **common)
    check_padding(model)
    if layers is not None:
        rows = rows_of_tokens(original_tokenizer, tokenizer)
        if pretrained or settings.is_as_wide(original.config.hidden_size):
            copy_layers(model, original, layers, rows, None if pretrained else order)
        else:
            pairs = dataset["text_pair"][:SAMPLE_TEXTS] if is_pair(dataset) else None
            sample = teacher.tokenize(dataset["text"][:SAMPLE_TEXTS], pairs).to(teacher.model.device)
            project_layers(model, teacher.model, layers, rows, order, sample)
        if settings.embeddings == MIXED and _width(model) == words.table.shape[1]:
            places = rows_of_tokens(words.tokenizer, tokenizer)
            _set_embeddings(
                model, np.stack([words.table[row].mean(0) if row else words.table.mean(0) for row in places])
            )
        whose = settings.init if pretrained else "the teacher"
        logger.info("The student starts from layers %s of %s.", ", ".join(map(str, layers)), whose)
    elif settings.embeddings != "random" and _width(model) <= _width(teacher.model):
        table = _table(words, tokenizer, dataset, settings, _width(model))
        _set_embeddings(model, table * np.float32(TRANSFORMER_SCALE / SCALE))
    return model, wrapped


def planned_config(settings: StudentSettings, teacher: PreTrainedModel) -> Any:
    """The configuration of a transformer student, without the parts that depend on texts.

    Raises:
        ModelError: sizes do not fit, or the teacher lacks the layers to start from.
    """
    layers = _starting_layers(settings, teacher)
    config = smaller_config(teacher, settings.size, layers, settings.dropout)
    if layers is not None and not settings.is_as_wide(teacher.config.hidden_size):
        check_projection(config.hidden_size, teacher)
        if settings.embeddings == MIXED:
            raise ModelError(
                "embeddings (--embeddings) is mixed, whose vectors are as wide as the teacher's, but this student "
                "starts from narrowed layers of the teacher. Leave out init (--init), or embeddings."
            )
    for method in parse_methods(settings.compress):
        if method.name == "layers":
            config.num_hidden_layers = layers_left(config.num_hidden_layers, method.share)
    return config


def _starting_layers(settings: StudentSettings, original: PreTrainedModel) -> list[int] | None:
    """The layers of `original` that a transformer starts from, counted from 1; None = random weights."""
    check_family(original)
    start, depth = settings.start(original.config.hidden_size), original.config.num_hidden_layers
    if start == "random":
        return None
    return chosen_layers("first" if is_folder(start) else start, settings.size.layers or depth, depth)


def _check_sizes(folder: str, config: Any, wanted: dict[str, int | None]) -> None:
    feed_forward = next((getattr(config, name) for name in FEED_FORWARD if hasattr(config, name)), None)
    found = {"heads": config.num_attention_heads, "feed_forward": feed_forward}
    for name, size in wanted.items():
        if size not in (None, found[name]):
            raise ModelError(
                f"{folder} has {name} {found[name]}, got {size}. Leave --heads and --feed-forward out: a pretrained "
                "model keeps its own."
            )


def _width(model: PreTrainedModel) -> int:
    """The size of the word vectors."""
    return cast(nn.Embedding, model.get_input_embeddings()).embedding_dim


def _set_embeddings(model: Any, table: np.ndarray) -> None:
    weight = model.get_input_embeddings().weight
    with torch.no_grad():  # after construction: post_init would overwrite it
        weight.copy_(torch.from_numpy(table))
        weight[model.config.pad_token_id].zero_()


def _words(teacher: Teacher, dataset: Dataset, settings: StudentSettings) -> tuple[Words, int | None]:
    """The words that a student takes, and how many of them at most."""
    if settings.embeddings == MIXED:
        return mixed_words(teacher, dataset, settings.vocab_size), None
    return words_of(teacher), settings.vocab_size


def _table(words: Words, tokenizer: Any, dataset: Dataset, settings: StudentSettings, size: int) -> np.ndarray:
    frequencies = token_frequencies(tokenizer, dataset, settings.max_length)
    return teacher_embeddings(words.table, teacher_rows(tokenizer, words.tokenizer), frequencies, size)


def _words_and_vectors(settings: StudentSettings, dataset: Dataset, teacher: Any) -> tuple[Any, np.ndarray]:
    """A tokenizer and vectors for the words of `dataset` found in the file, most frequent first.

    The teacher's added tokens that occur have the file's vectors, or else random ones.
    """
    counts = word_counts(dataset, word_tokenizer([], lowercase=True, added=added_tokens(teacher)))
    words, vectors = read_vectors(settings.embeddings, counts.keys() - set(SPECIAL_TOKENS))
    if settings.embedding_size not in (None, vectors.shape[1]):
        raise ModelError(
            f"{settings.embeddings} has {vectors.shape[1]} dimensions, got embedding_size (--embedding-size) "
            f"{settings.embedding_size}. Leave it out."
        )
    found = dict(zip(words, vectors, strict=True))
    added = added_tokens(teacher, counts, settings.vocab_size)
    marks = [token.content for token in added]
    chosen = [word for word, _ in counts.most_common() if word in found and word not in marks]
    special = len(SPECIAL_TOKENS)
    if settings.vocab_size is not None:
        chosen = chosen[: max(settings.vocab_size - special - len(marks), 1)]
    covered = sum(counts[word] for word in chosen + marks) / max(sum(counts.values()), 1)
    logger.info("%s: vectors for %.1f %% of all word occurrences.", settings.embeddings, 100 * covered)
    known = [word for word in chosen + marks if word in found]
    table = np.stack([found[word] for word in known])
    centered = dict(zip(known, table - table.mean(axis=0), strict=True))
    random, spread = np.random.default_rng(0), table.std()
    rows = [centered[w] if w in centered else random.normal(0, spread, table.shape[1]) for w in chosen + marks]
    tokenizer = word_tokenizer(chosen, lowercase=True, added=added)
    return tokenizer, np.pad(scaled(np.stack(rows)), ((special, 0), (0, 0)))
