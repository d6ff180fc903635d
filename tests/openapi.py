"""Requests that schemathesis generates from an OpenAPI document, valid and invalid; the answers must match it."""

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings


def check_answers(schema: Any, examples: int) -> None:
    """Send up to `examples` requests to every operation of a schema of `schemathesis.openapi`."""
    from schemathesis.checks import CHECKS

    # A schema cannot require that a tensor's shape matches its data.
    (of_good_data,) = CHECKS.get_by_names(["positive_data_acceptance"])
    thorough = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for operation in (found.ok() for found in schema.get_all_operations()):
        excluded = [of_good_data] if operation.path.endswith("infer") else []
        thorough(given(case=operation.as_strategy())(_valid(excluded)))()


def _valid(excluded: list[Any]) -> Any:
    def check(case: Any) -> None:
        case.call_and_validate(excluded_checks=excluded)

    return check
