"""A model folder on the Hugging Face Hub, with its card."""

import os
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from eyas.errors import ExportError
from eyas.export.model_card import model_card
from eyas.models.loading import is_part, is_seq2seq_folder, task_folders
from eyas.runtime.manifest import CARD, MANIFEST, TASKS, kind_of, renamed_card, stage_folders

# The files of a model. Everything else in the folder stays local: checkpoints, the run's settings with their paths,
# the sample of validation texts.
UPLOADED = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.*"),
    *("merges.txt", "spiece.model", "sentencepiece*.model", "modules.json", "sentence_bert_config.json"),
    *(
        "1_Pooling/config.json",
        "manifest.json",
        "model.onnx",
        "encoder.onnx",
        "decoder.onnx",
        "exam.json",
        "exam.svg",
        "exam-plan.yaml",
    ),
    *("web/*", "openvino/*", "stage-*/model.onnx", "stage-*/tokenizer.json", "stage-*/manifest.json", "cascade.json"),
)
FORBIDDEN = (401, 403)


def push_to_hub(
    folder: str | os.PathLike[str],
    repo_id: str,
    license: str | None = None,
    private: bool = False,
    endpoint: str | None = None,
) -> str:
    """Upload an exported folder, or a student or teacher in the format of transformers.

    The repository is created if it does not exist. Only the model's files are uploaded, see `UPLOADED`. The
    `manifest.json` of an exported folder has eight short texts for its self-test.

    Args:
        folder: what `export_model`, `distill` or `finetune` wrote.
        repo_id: USER/NAME.
        license: for the card, as the Hub spells it ("apache-2.0").
        private: make a new repository private.
        endpoint: URL of the Hub; by default that of huggingface_hub.

    Returns:
        The URL of the commit.

    Raises:
        ExportError: not a model folder, an invalid repository name, or an error from the Hub.
        ModelError: the folder has a config.json, but no classifier, tagger or sentence encoder.
    """
    source = Path(folder)
    card = ModelCard(_card(source, repo_id))
    _check_name(repo_id)
    if license:
        card.data.license = license  # type: ignore[attr-defined]
    patterns = [*UPLOADED]
    if kind_of(source) == TASKS:
        patterns += [f"{task}/{name}" for task in stage_folders(source) for name in (MANIFEST, CARD)]
    names = (file.relative_to(source).as_posix() for file in sorted(source.rglob("*")) if file.is_file())
    operations = [
        CommitOperationAdd(name, source / name)
        for name in names
        if any(_matches(name, pattern) for pattern in patterns)
    ]
    operations.append(CommitOperationAdd(CARD, str(card).encode()))
    api = HfApi(endpoint=endpoint)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.create_commit(repo_id, operations, commit_message="Add the model").commit_url)
    except Exception as error:  # also those of its HTTP client, which varies by version
        response = getattr(error, "response", None)
        advice = (
            " Log in with: hf auth login (or set HF_TOKEN), with a token that has write access."
            if getattr(response, "status_code", None) in FORBIDDEN
            else ""
        )
        raise ExportError(f"The upload to {repo_id} failed: {str(error).strip()}{advice}") from None


def _matches(name: str, pattern: str) -> bool:
    """As `fnmatch`, by folders: * is one name, so no pattern of a file finds it in a checkpoint."""
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch, parts, patterns))


def _card(source: Path, repository: str) -> str:
    if kind_of(source) == "task" or ((source / "config.json").is_file() and (is_part(source) or task_folders(source))):
        raise ExportError(
            f"{source} is of a student of several tasks. Export the student, eyas export --model STUDENT, and push "
            "that folder; or export one task alone."
        )
    if (source / MANIFEST).is_file():
        if not (source / CARD).is_file():
            raise ExportError(f"{source} has no {CARD}. Export the model again.")
        card = renamed_card((source / CARD).read_text(encoding="utf-8"), source.name, repository)
        # Into a folder of its own: the cache has links, which `Predictor` refuses.
        name = repository.partition("/")[2]
        fetched = f'snapshot_download("{repository}", local_dir="{name}")'
        return card.replace(f'Predictor("{repository}")', f"Predictor({fetched})").replace(
            "from eyas.serve import",
            "from huggingface_hub import snapshot_download\nfrom eyas.serve import",
        )
    if is_seq2seq_folder(source):
        raise ExportError(f"{source} writes texts: export it, and push the exported folder.")
    if not (source / "config.json").is_file():
        raise ExportError(f"{source} is not a model: expected an exported folder, or one with a config.json.")
    return model_card(source, repository)


def _check_name(repository: str) -> None:
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ExportError(f"{repository!r} is not a repository name: {error}") from None
    if repository.count("/") != 1:
        raise ExportError(f"{repository!r} is not a repository name, expected USER/NAME.")
