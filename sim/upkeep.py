"""What the exchange does for the account at every whole second: it ends the orders whose time is over."""

from sim.venue import Venue


class Upkeep:
    """Looks after orders and positions."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def run(self, now_ms: int) -> None:
        """Do what is due at this second, after the mark prices have been set."""
        self._venue.desk.expire_overdue(now_ms)
