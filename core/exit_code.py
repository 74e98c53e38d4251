"""What the end of the daemon means to whoever started it."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the end of the daemon means."""

    STOPPED = 0
    FAULT = 1
    REFUSED = 2
    NOT_VERIFIED = 3
    HALTED = 4
