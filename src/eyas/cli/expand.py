"""Command-line options made from settings classes."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_type_hints

from eyas.settings import options_of

# The value for an empty list.
NONE = "none"


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with an option for each field of its settings.

    A parameter annotated with a settings class becomes one option per field. The parameter's default, if any, provides
    the defaults of the options. The command receives the settings made from them. A parameter of a field's name
    replaces the field's option.
    """
    parameters = inspect.signature(command, eval_str=True).parameters
    kinds = {name: parameter.annotation for name, parameter in parameters.items()}
    groups = {name: kind for name, kind in kinds.items() if is_dataclass(kind)}
    expanded: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        options = _options(groups[name], parameter.default) if name in groups else [parameter]
        options = [option for option in options if option.name == name or option.name not in parameters]
        expanded += [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        own = {name: value for name, value in given.items() if name not in parameters}
        made = {name: _made(kind, own) for name, kind in groups.items()}
        command(**{name: made[name] if name in made else given[name] for name in parameters})

    run.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in expanded}
    return run


def _options(kind: Any, usual: Any) -> list[inspect.Parameter]:
    """An option for each field; if `usual` is an instance, it has the defaults."""
    hints = get_type_hints(kind)
    defaults = {field.name: getattr(usual, field.name, field.default) for field in fields(kind)}
    parameters = []
    for name, option in options_of(kind).items():
        many = "tuple" in str(hints[name])
        hint: Any = list[str] | None if many else hints[name]
        default = None if many else defaults[name]
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, option])
        )
    return parameters


def _made(kind: Any, given: dict[str, Any]) -> Any:
    values = {name: given[name] for name in options_of(kind) if given.get(name) is not None}
    lists = {name: tuple(v for v in value if v != NONE) for name, value in values.items() if isinstance(value, list)}
    return kind(**{**values, **lists})
