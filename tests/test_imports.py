"""What imports load and how long they take. import-linter checks which package may import which."""

import ast
import json
import resource
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

import eyas
from eyas import export_model

SOURCE = Path(__file__).parents[1] / "src" / "eyas"


def _modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    ["import eyas", "from eyas.serve import Predictor", "import eyas.cli"],
)
def test_runtime_imports_no_training_library(code: str) -> None:
    assert not _modules_after(code) & {"torch", "transformers", "datasets", "sklearn", "onnx"}


def test_page_of_an_exam_needs_no_torch(results: Path) -> None:
    code = f"from eyas.report import write_page\nwrite_page({str(results)!r})"
    assert not _modules_after(code) & {"torch", "transformers", "datasets"}


def test_predictor_imports_no_torch(exported: dict[tuple[str, bool, bool], Path]) -> None:
    folder = exported["cnn", False, True]
    loaded = _modules_after(f"from eyas.serve import Predictor\nPredictor({str(folder)!r})(['a great film'])")
    assert not loaded & {"torch", "transformers", "datasets", "pyarrow", "pandas"}


def test_predict_command_imports_no_torch_for_tagger(taggers: dict[str, Path], tmp_path: Path) -> None:
    export_model(taggers["bilstm-crf"], tmp_path / "shipped")
    line = json.dumps({"tokens": ["anna", "went"], "question": "who ?"})
    (tmp_path / "in.txt").write_text(f"anna went to rome\n{line}\n")
    arguments = ["predict", "--model", str(tmp_path / "shipped"), str(tmp_path / "in.txt"), "--quiet"]
    code = f"import sys\nfrom eyas.cli import app\napp({arguments!r}, standalone_mode=False)"
    loaded = _modules_after(code)
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "pyarrow", "pandas"}


def _seconds(*command: str) -> float:
    """Processor time of the fastest of five runs, minus bare Python, so that other load does not count."""
    times = []
    for arguments in [command, ("-c", "pass")] * 5:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times[::2]) - min(times[1::2])


def test_import_is_fast() -> None:
    assert _seconds("-c", "import eyas") < 0.3


def test_help_is_fast() -> None:
    assert _seconds("-m", "eyas", "--help") < 0.5


def test_public_names_exist() -> None:
    assert len(eyas.__all__) <= 60
    for name in eyas.__all__:
        assert getattr(eyas, name) is not None


def test_type_checking_imports_match_public_names() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    homes = {node.module: [name.name for name in node.names] for node in block.body if isinstance(node, ast.ImportFrom)}
    assert homes == eyas._HOMES
    assert {"__version__", *chain(*homes.values())} == set(eyas.__all__)


def test_public_names_are_not_module_names() -> None:
    """Importing `eyas.part` would replace the name by the module."""
    parts = {path.stem for path in SOURCE.iterdir()}
    assert not parts & set(eyas.__all__)
