"""Ray clusters."""

import logging
from collections.abc import Callable
from typing import Any

from eyas.errors import EyasError, MissingExtraError, install_hint


def connect(address: str) -> tuple[Any, Callable[[], None]]:
    """The module `ray`, connected to the cluster at `address`, and what ends the connection if it was made here.

    Args:
        address: "auto" = the cluster of this machine.

    Raises:
        EyasError: there is no such cluster.
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtraError(f"--ray needs Ray. {install_hint('train,ray')}") from None
    if ray.is_initialized():
        return ray, lambda: None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except (ConnectionError, ValueError) as error:
        raise EyasError(
            f"No Ray cluster at {address!r}: {error}. Start one with: ray start --head. If one runs there, this "
            "machine lacks its token: copy ~/.ray/auth_token from it, or set RAY_AUTH_TOKEN."
        ) from None
    return ray, ray.shutdown
