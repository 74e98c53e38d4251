"""For the few places where nothing that is said or recorded may stop what is done: a halt, a close, a gate."""

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


def quietly(work: Callable[[], object]) -> bool:
    """Do the work; return whether it was done. What it raises is logged if that can be done, and goes no further."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller has something more important to do
        _try_to_log(error)
        return False
    return True


def _try_to_log(error: Exception) -> None:
    try:
        log.error("this failed, and what it was part of goes on: %s", error, exc_info=error)
    except Exception:  # noqa: BLE001, S110 - there is nowhere left to say it
        pass
