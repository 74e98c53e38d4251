"""Doubts that come back as soon as they are settled: each time they are settled a little later. Pure."""


class Relapses:
    """Says how long to wait before the exchange is asked again because something is in doubt.

    A doubt now and then is settled at once. Where one follows another, quotes go in and out as fast as the exchange
    answers, and use up the limits that cancels need: from the third in a row on each waits twice as long as the one
    before, up to ``LONGEST_S``. Calm for ``CALM_S`` makes the next one the first.
    """

    CALM_S = 10.0
    AT_ONCE = 2
    FIRST_S = 0.25
    LONGEST_S = 4.0

    def __init__(self) -> None:
        self._settled_ns: int | None = None
        self._in_a_row = 0

    def settled(self, now_ns: int) -> None:
        """Note that nothing is in doubt any more; times are monotonic ns."""
        self._settled_ns = now_ns

    def pause_s(self, now_ns: int) -> float:
        """Return how long to wait with settling a doubt that has come up; 0 for not at all.

        One that comes before the one before it is settled is no other one.
        """
        if self._settled_ns is None:
            return 0.0
        is_calm = now_ns - self._settled_ns >= self.CALM_S * 1e9
        self._in_a_row = 1 if is_calm else self._in_a_row + 1
        self._settled_ns = None
        more = self._in_a_row - self.AT_ONCE
        return min(self.FIRST_S * 2.0 ** min(more - 1, 10), self.LONGEST_S) if more > 0 else 0.0
