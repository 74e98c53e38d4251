"""How often the daemon ended badly of late, on disk: it waits longer each time, and at last for an operator.

A supervisor starts again whatever fails; without a memory of its own the daemon would then hammer the exchange. A run
that has quoted and is killed does not count: that it can start is proven, and the next one finds what it has left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from utils.durable import write_whole

WINDOW_MS = 3_600_000
"""What lies an hour back is forgotten."""
FREE = 2
"""So many of them cost nothing: something may go wrong once, and once again."""
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 300.0
KEPT = 1000


@dataclass(frozen=True, slots=True)
class Ends:
    """When runs ended badly, in epoch ms, oldest first; and since when one runs that has not ended yet, 0 if none does.

    ``unreachable`` are starts that found no exchange: they wait like all others, but never make a halt.
    """

    crashed: list[int] = field(default_factory=list)
    unreachable: list[int] = field(default_factory=list)
    running_since: int = 0


def wait_s(ends: Ends, now_ms: int) -> float:
    """Return how long a start has to wait: nothing twice, then 5 s, doubled each time, at most five minutes."""
    recent = bad_ends(ends, now_ms)
    if recent <= FREE:
        return 0.0
    wait = FIRST_WAIT_S * 2.0 ** min(recent - FREE - 1, 20)
    return float(min(wait, LONGEST_WAIT_S))


def bad_ends(ends: Ends, now_ms: int) -> int:
    """Return how many runs ended badly within the hour, whatever the cause."""
    return sum(1 for each in (*ends.crashed, *ends.unreachable) if 0 <= now_ms - each < WINDOW_MS)


def crashes(ends: Ends, now_ms: int) -> int:
    """Return how often it crashed within the hour."""
    return sum(1 for each in ends.crashed if 0 <= now_ms - each < WINDOW_MS)


class CrashCount:
    """The file of one account and its symbols. A file that cannot be read counts as none: it holds nobody up."""

    def __init__(self, directory: Path, account: str, symbols: Sequence[str]) -> None:
        self.path = directory / f"ends-{account}-{'-'.join(symbols)}.json"

    def read(self) -> Ends:
        """Return what the disk holds."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Ends)
        except (OSError, msgspec.MsgspecError):
            return Ends()

    def begin(self, now_ms: int) -> Ends:
        """Note that a run begins; return the ends so far, that of a run that never noted its own included.

        Raises OSError.
        """
        before = self.read()
        crashed = [*before.crashed, now_ms] if before.running_since else before.crashed
        self._write(Ends(crashed, before.unreachable, now_ms))
        return Ends(crashed, before.unreachable)

    def has_worked(self) -> None:
        """Note that the run has come as far as quoting: if it is killed, it was not the start. Raises OSError."""
        before = self.read()
        self._write(Ends(before.crashed, before.unreachable))

    def end_well(self) -> None:
        """Note that the run has ended in order: all is forgiven. Raises OSError."""
        self._write(Ends())

    def end_without_count(self) -> None:
        """Note that the run has ended for a reason that starting again does not touch. Raises OSError."""
        before = self.read()
        self._write(Ends(before.crashed, before.unreachable))

    def end_badly(self, now_ms: int, *, unreachable: bool = False) -> None:
        """Note that the run has failed; ``unreachable`` says that it found no exchange. Raises OSError."""
        before = self.read()
        if unreachable:
            self._write(Ends(before.crashed, [*before.unreachable, now_ms]))
        else:
            self._write(Ends([*before.crashed, now_ms], before.unreachable))

    def clear(self) -> bool:
        """Have nothing counted; return whether there was anything."""
        had = bool(self.read().crashed)
        self.path.unlink(missing_ok=True)
        return had

    def _write(self, ends: Ends) -> None:
        kept = Ends(ends.crashed[-KEPT:], ends.unreachable[-KEPT:], ends.running_since)
        write_whole(self.path, msgspec.json.encode(kept))
