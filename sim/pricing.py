"""Price match: the price that an order takes from the book at its arrival, instead of one of its own.

Source: facts section 3.3 (priceMatch of POST and PUT order; OPPONENT_10 and OPPONENT_20 disabled since 2025-10-23), 9.
"""

from itertools import islice

from sim.errors import refusal
from sim.instrument import Instrument
from sim.orders import PriceMatch, Side
from sim.params import Params

_LEVELS = {
    PriceMatch.OPPONENT: 1,
    PriceMatch.OPPONENT_5: 5,
    PriceMatch.QUEUE: 1,
    PriceMatch.QUEUE_5: 5,
    PriceMatch.QUEUE_10: 10,
    PriceMatch.QUEUE_20: 20,
}


def read_price_match(params: Params) -> PriceMatch:
    """Return ``priceMatch``, NONE without it; raises -5037 for what is unknown or disabled."""
    if "priceMatch" not in params:
        return PriceMatch.NONE
    mode = params.choice("priceMatch", PriceMatch, -5037)
    if mode is not PriceMatch.NONE and mode not in _LEVELS:
        raise refusal(-5037)
    return mode


def matched_price(instrument: Instrument, side: Side, mode: PriceMatch) -> int:
    """Return the price in ticks that ``mode`` stands for; raises -5041 if the book has no such level."""
    own = mode.name.startswith("QUEUE")
    matcher = instrument.matcher
    book = matcher.bids if (side is Side.BUY) is own else matcher.asks
    level = _LEVELS[mode]
    price_ticks = next((ticks for ticks, _ in islice(book.levels(level), level - 1, None)), 0)
    if not price_ticks:
        raise refusal(-5041)
    return price_ticks
