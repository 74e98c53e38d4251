"""Does somebody else trade our position? One order may be a person, several in a minute are another program. Pure."""

from collections import OrderedDict


class ForeignTrades:
    """Notes orders that have traded on a symbol and are not ours.

    ``MANY`` of them within ``WINDOW_S`` mean that somebody trades beside us; that goes on until there was none for
    ``CALM_S``.
    """

    MANY = 5
    """What a person in a hurry does by hand is less."""
    WINDOW_S = 60.0
    CALM_S = 20.0

    def __init__(self) -> None:
        self._orders: OrderedDict[int, int] = OrderedDict()
        self._until_ns = 0

    def add(self, order_id: int, now_ns: int) -> bool:
        """Note a trade of this order; return whether somebody trades beside us now."""
        self._orders[order_id] = now_ns
        self._orders.move_to_end(order_id)
        before_ns = now_ns - int(self.WINDOW_S * 1e9)
        while next(iter(self._orders.values())) < before_ns:
            self._orders.popitem(last=False)
        if len(self._orders) >= self.MANY:
            self._until_ns = now_ns + int(self.CALM_S * 1e9)
            while len(self._orders) > self.MANY:
                self._orders.popitem(last=False)
        return self.is_going_on(now_ns)

    def is_going_on(self, now_ns: int) -> bool:
        """Tell whether somebody trades beside us."""
        return now_ns < self._until_ns
