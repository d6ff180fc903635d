"""The exam: many students, one teacher, one set of questions; which one to ship.

Reading results never imports torch.
"""

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load`, imported when it is used: pandas would count in the memory of every model that is measured."""
    if name != "load":
        raise AttributeError(f"module 'eyas.exam' has no attribute {name!r}")
    from eyas.exam.results import load

    return load
