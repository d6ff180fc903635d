"""A model folder on the Hugging Face Hub, with its card."""

import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from understudy.errors import ExportError
from understudy.export.model_card import CARD, student_card
from understudy.outputs import RUN_FILE
from understudy.runtime.manifest import MANIFEST
from understudy.training.folders import SAMPLE_FILE

# Real texts of the validation split, and paths on this machine.
KEPT_HERE = (SAMPLE_FILE, RUN_FILE)


def push(
    folder: str | Path,
    repository: str,
    licence: str | None = None,
    private: bool = False,
    endpoint: str | None = None,
) -> str:
    """Upload an exported folder, or a student or teacher that transformers reads; make the repository if need be.

    The sample of validation texts and the settings of the run stay here. An exported folder's `manifest.json` has eight
    short texts to test itself with.

    Args:
        repository: USER/NAME.
        licence: for the card, as the Hub spells it ("apache-2.0").
        private: of a new repository.
        endpoint: of the Hub; by default the one that huggingface_hub is set to.

    Returns:
        The address of the upload.

    Raises:
        ExportError: no model folder, a name that the Hub does not take, or the Hub refuses; says why.
    """
    source, name = Path(folder), repository.rpartition("/")[2]
    exported = (source / MANIFEST).is_file()
    if not exported and not (source / "config.json").is_file():
        raise ExportError(f"{source} is no model: expected an exported folder, or one with a config.json.")
    _check_name(repository)
    api = HfApi(endpoint=endpoint)
    with tempfile.TemporaryDirectory() as made:
        staged = Path(shutil.copytree(source, Path(made) / name, ignore=shutil.ignore_patterns(*KEPT_HERE)))
        text = (source / CARD).read_text(encoding="utf-8") if exported else student_card(source, name)
        card = ModelCard(text)
        card.data.__dict__.update({"license": licence} if licence else {})
        card.save(staged / CARD)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=staged, commit_message="Add the model"))
        except Exception as error:  # also those of its HTTP client, which changes from version to version
            reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
            raise ExportError(
                f"The Hub did not take {repository}: {reason} Log in with: hf auth login (or set HF_TOKEN), with a "
                "token that may write there."
            ) from None


def _check_name(repository: str) -> None:
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ExportError(f"{repository!r} is no name of a repository: {error}") from None
    if repository.count("/") != 1:
        raise ExportError(f"{repository!r} is no name of a repository, expected USER/NAME.")
