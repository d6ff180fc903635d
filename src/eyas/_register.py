"""Make the students known to transformers' Auto classes, without importing transformers first.

`import eyas` must stay fast, yet `pipeline(..., model="student/")` must work after it. So the students are
registered when transformers loads its Auto classes.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its import takes longer than all of `import eyas`
    from importlib.abc import Loader, MetaPathFinder
else:
    Loader = MetaPathFinder = object

AUTO_CLASSES = "transformers.models.auto.modeling_auto"


class _RegisterAfter(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        importlib.import_module("eyas.models")


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != AUTO_CLASSES:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisterAfter(spec.loader)
        return spec


def register_students() -> None:
    """Register now where transformers is loaded, else as soon as it is."""
    if AUTO_CLASSES in sys.modules:
        importlib.import_module("eyas.models")
    else:
        sys.meta_path.insert(0, _Finder())
