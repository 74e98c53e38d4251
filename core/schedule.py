"""When a symbol's orders are looked at again: at the interval, on a move, for a reset. Pure; times are monotonic ns."""

from core.decision import UNTIL_THE_INTERVAL, QuietBand
from core.settings import QuoteSettings


class Schedule:
    """The next refresh and the next reset of one symbol.

    Between two refreshes the mid may move within the quiet band; a mid outside of it asks for a refresh at once, but
    not sooner than ``min_requote_interval_ms`` after the one before.
    """

    def __init__(self, settings: QuoteSettings, reset_interval_s: float) -> None:
        self._interval_ns = int(settings.refresh_interval_s * 1e9)
        self._requote_ns = settings.min_requote_interval_ms * 1_000_000
        self._follows_moves = settings.on_move and settings.refresh_mode == "amend"
        self._reset_every_ns = int(reset_interval_s * 1e9)
        self._due_ns = 0
        self._refreshed_ns = 0
        self._band = UNTIL_THE_INTERVAL
        self._has_moved = False
        self.reset_due_ns = 0
        """When the next reset is due; 0 while none is planned."""

    def close(self) -> None:
        """Note that quoting is closed: the first moment after it is due, and a reset has nothing to add."""
        self._due_ns = self.reset_due_ns = 0
        self._has_moved = False

    def moved_to(self, mid_half_ticks: int) -> bool:
        """Note the mid of a new book; return whether it has just given a reason to look at the orders."""
        if self._has_moved or not self._follows_moves or self._band.holds(mid_half_ticks):
            return False
        self._has_moved = True
        return True

    def hurry(self) -> None:
        """Have the next refresh be due now: what is wanted has changed."""
        self._due_ns = 0

    def refresh_is_due(self, now_ns: int) -> bool:
        """Tell whether it is time to compare what rests with what is wanted."""
        return now_ns >= self._next_refresh_ns()

    def reset_is_due(self, now_ns: int) -> bool:
        """Tell whether it is time to take everything out, verify, and begin anew."""
        return 0 < self.reset_due_ns <= now_ns

    def refreshed(self, now_ns: int, band: QuietBand) -> None:
        """Note a refresh that began at ``now_ns`` and left orders that are quiet within ``band``.

        The interval keeps its rhythm; a refresh on a move is one besides.
        """
        if now_ns >= self._due_ns:
            on_time = self._due_ns and now_ns - self._due_ns < self._interval_ns
            self._due_ns = (self._due_ns if on_time else now_ns) + self._interval_ns
        self._refreshed_ns = now_ns
        self._band = band
        self._has_moved = False
        if self._reset_every_ns and not self.reset_due_ns:
            self.reset_due_ns = now_ns + self._reset_every_ns

    def was_reset(self, now_ns: int) -> None:
        """Note that everything was taken out; the next refresh brings it back."""
        self._due_ns = 0
        self.reset_due_ns = now_ns + self._reset_every_ns if self._reset_every_ns else 0

    def wait_ns(self, now_ns: int) -> int:
        """Return how long nothing is due, 0 if something is."""
        next_ns = self._next_refresh_ns()
        if self.reset_due_ns:
            next_ns = min(next_ns, self.reset_due_ns)
        return max(next_ns - now_ns, 0)

    def _next_refresh_ns(self) -> int:
        if not self._has_moved:
            return self._due_ns
        return min(self._due_ns, self._refreshed_ns + self._requote_ns)
