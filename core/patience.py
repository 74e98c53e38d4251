"""How long quotes may be away from their targets before they follow: until deviation times time is used up. Pure.

A fixed tolerance alone either follows every flicker of the mid or lets a small deviation stand for minutes. What a
deviation costs grows with its size and with how long it lasts, so that is what is counted: a quote that is one basis
point off is amended after as many seconds as the patience has, one that is ten off in a tenth of that.
"""

from core.decision import UNTIL_THE_INTERVAL, QuietBand


class Patience:
    """Counts by how much, and for how long, the mid has been out of the band in which nothing has to be changed.

    ``limit_bps_s`` is in basis points times seconds; 0 has every move out of the band followed at once. Times are
    monotonic nanoseconds.
    """

    def __init__(self, limit_bps_s: float) -> None:
        self._limit = limit_bps_s
        self._band = UNTIL_THE_INTERVAL
        self._used = 0.0
        self._deviation_bps = 0.0
        self._since_ns = 0
        self._mid_half_ticks = 0
        self.due_ns: int | None = None
        """When it is used up if the mid stays where it is; None while nothing is out of its place."""

    def renew(self, band: QuietBand, now_ns: int) -> None:
        """Begin anew: the quotes have followed, and are quiet within this band."""
        self._used = 0.0
        self.watch(band, now_ns)

    def watch(self, band: QuietBand, now_ns: int) -> None:
        """Go on with another band, since orders have come or gone; what is used up stays so."""
        self._pass(now_ns)
        self._band = band
        self._look(now_ns)

    def see(self, mid_half_ticks: int, now_ns: int) -> None:
        """Note the mid of this moment."""
        self._pass(now_ns)
        self._mid_half_ticks = mid_half_ticks
        self._look(now_ns)

    def is_used_up(self, now_ns: int) -> bool:
        """Tell whether the quotes have to follow now."""
        return self.due_ns is not None and now_ns >= self.due_ns

    def _pass(self, now_ns: int) -> None:
        self._used += self._deviation_bps * (now_ns - self._since_ns) / 1e9
        self._since_ns = now_ns

    def _look(self, now_ns: int) -> None:
        mid, band = self._mid_half_ticks, self._band
        self._deviation_bps = 0.0 if not mid or band.holds(mid) else band.deviation_bps(mid)
        if self._deviation_bps <= 0:
            self.due_ns = None
            return
        left_s = max(self._limit - self._used, 0.0) / self._deviation_bps
        self.due_ns = now_ns + int(left_s * 1e9)
