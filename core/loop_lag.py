"""How late the event loop is, and what that means: over a bound no quote may leave, after a jump everything is stale.

Pure: the times come from whoever beats.
"""

from enum import Enum


class Lag(Enum):
    """What a beat has shown."""

    NONE = "none"
    LATE = "late"
    """Later than the bound: what was decided meanwhile was decided on an old picture."""
    JUMP = "jump"
    """So late that the process must have stood still: nothing that was known before is."""


class LoopLag:
    """Judges beats that ought to come every ``every_ns``.

    ``bound_ns`` is how late one may be. From a late beat on, the loop counts as late until ``CLEAN_NS`` have passed
    without another.
    """

    JUMP_NS = 2_000_000_000
    CLEAN_NS = 5_000_000_000

    def __init__(self, every_ns: int, bound_ns: int) -> None:
        self.longest_ns = 0
        self._every_ns = every_ns
        self._bound_ns = bound_ns
        self._beat_ns: int | None = None
        self._late_ns: int | None = None

    def beat(self, now_ns: int) -> tuple[Lag, int]:
        """Take a beat; return what it shows, and by how many ns it was late."""
        late_ns = self._late_by(now_ns)
        self._beat_ns = now_ns
        self.longest_ns = max(self.longest_ns, late_ns)
        if late_ns > self._bound_ns or late_ns > self.JUMP_NS:
            self._late_ns = now_ns
            return (Lag.JUMP if late_ns > self.JUMP_NS else Lag.LATE), late_ns
        return Lag.NONE, late_ns

    def is_clean(self, now_ns: int) -> bool:
        """Tell whether the loop has been in time for long enough."""
        return self._late_ns is None or now_ns - self._late_ns >= self.CLEAN_NS

    def objection(self, now_ns: int) -> str:
        """Return why nothing may leave at this moment: a beat is missing, though no task may have noticed yet."""
        if self._beat_ns is None:
            return ""
        late_ns = now_ns - self._beat_ns - self._every_ns
        return f"the event loop stood still for {late_ns / 1e9:.1f} s" if late_ns > self._bound_ns else ""

    def _late_by(self, now_ns: int) -> int:
        if self._beat_ns is None:
            return 0
        return max(now_ns - self._beat_ns - self._every_ns, 0)
