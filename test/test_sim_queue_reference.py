"""Orders in the quote and behind it are filled no earlier than the recorded trades allow.

The reference reads the raw capture by itself, keeps no queue, and says of each moment by its definition whether an
order could have been filled. It is slow and obvious.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sim.market import BookTicker, DepthChange, MarketEvent, Trade
from sim.matching import Matcher
from sim.recording import RecordedMarket
from sim.rules import MAINNET

from .test_sim_recording import played

pytestmark = pytest.mark.no_cover

TRADE, QUOTE, DEPTH = range(3)


@dataclass(frozen=True)
class Probe:
    """An order of the smallest size that comes right after the quote with this update id."""

    update_id: int
    price_ticks: int
    is_buy: bool


class Reference:
    """The capture as a list of facts, and the definition of what may be filled."""

    def __init__(self, path: Path, symbol: str) -> None:
        self.tick = MAINNET[symbol].tick_size
        self.step = MAINNET[symbol].step_size
        facts: list[tuple[int, int, dict[str, Any]]] = []
        snapshot = None
        with gzip.open(path, "rt") as lines:
            for line in lines:
                message = json.loads(line.partition(" ")[2])
                payload = message.get("data", message)
                if "lastUpdateId" in payload:
                    snapshot = payload
                    facts.append((payload["T"], DEPTH, payload))
                kind = {"trade": TRADE, "bookTicker": QUOTE, "depthUpdate": DEPTH}.get(payload.get("e"))
                if kind is not None and payload.get("X", "MARKET") == "MARKET":
                    facts.append((payload["T"], kind, payload))
        assert snapshot is not None
        begin = snapshot["lastUpdateId"]
        facts = [fact for fact in facts if fact[1] != DEPTH or fact[2].get("u", begin) >= begin]
        self.facts = sorted(facts, key=lambda fact: fact[:2])

    def ticks(self, text: str) -> int:
        """A price in ticks."""
        return int(Decimal(text) / self.tick)

    def lots(self, text: str) -> int:
        """A quantity in lots."""
        return int(Decimal(text) / self.step)

    def first_fill_ms(self, probe: Probe) -> int | None:  # noqa: C901 - one definition, read from top to bottom
        """When the probe could first be filled, None if never.

        Either somebody traded at a worse price for it or the opposite quote reached it; or, since some moment at
        which so much was shown at its price, more than that has been traded there by takers of its side.
        """
        best, opposite, key = ("b", "a", "B") if probe.is_buy else ("a", "b", "A")
        toward = 1 if probe.is_buy else -1
        price = probe.price_ticks
        placed, traded, touch, level = False, 0, 0, 0
        moments: list[tuple[int, int]] = []  # (traded so far, shown at that moment)
        for time_ms, kind, fact in self.facts:
            if kind == TRADE:
                at, taker_comes = self.ticks(fact["p"]), fact["m"] == probe.is_buy
                if placed and toward * at < toward * price:
                    return time_ms
                if placed and at == price and taker_comes:
                    traded += self.lots(fact["q"])
                    if any(traded - before > shown for before, shown in moments):
                        return time_ms
                continue
            if kind == QUOTE:
                touch = self.ticks(fact[best])
                if placed and toward * self.ticks(fact[opposite]) <= toward * price:
                    return time_ms
                if touch == price:
                    level = self.lots(fact[key])
                placed = placed or fact["u"] == probe.update_id
            else:
                rows = {
                    self.ticks(row[0]): self.lots(row[1])
                    for row in fact.get("bids" if probe.is_buy else "asks", fact.get(best, ()))
                }
                if price in rows and toward * touch > toward * price:
                    level = rows[price]
            if placed:
                moments.append((traded, 0 if toward * price > toward * touch else level))
        return None


def model_fill_ms(events: list[MarketEvent], probe: Probe) -> int | None:
    """When the exchange's book fills the probe, None if never."""
    matcher, placed = Matcher(), False
    for event in events:
        if isinstance(event, BookTicker):
            fills = matcher.on_quote(event.bid_ticks, event.bid_lots, event.ask_ticks, event.ask_lots)
            if not placed and event.update_id == probe.update_id:
                matcher.rest(1, probe.price_ticks, 1, is_buy=probe.is_buy)
                placed = True
        elif isinstance(event, Trade):
            fills = matcher.on_trade(event.price_ticks, event.lots, buyer_is_maker=event.buyer_is_maker)
        elif isinstance(event, DepthChange):
            fills = ()
            matcher.on_depth(event.bids, event.asks, snapshot=event.snapshot)
        else:
            continue
        if fills:
            return event.time_ms
    return None


def probes(events: list[MarketEvent]) -> Iterator[Probe]:
    """Orders at the touch, one tick better where there is room, and behind it, all along the capture."""
    quotes = [event for event in events if isinstance(event, BookTicker)]
    for number, quote in enumerate(quotes[600 :: len(quotes) // 24]):
        behind = (0, 0, 1, 0, 4, 15)[number % 6]
        yield Probe(quote.update_id, quote.bid_ticks - behind, is_buy=True)
        yield Probe(quote.update_id, quote.ask_ticks + behind, is_buy=False)


CAPTURES = [
    ("usdm-btcusdt-2023-04-04", "BTCUSDT"),
    ("usdm-btcusdt-2024-07-18", "BTCUSDT"),
    ("usdm-ethusdt-2024-07-18", "ETHUSDT"),
]


@pytest.mark.parametrize(("name", "symbol"), CAPTURES)
def test_order_is_filled_no_earlier_than_the_recorded_trades_allow(
    data_dir: Path, name: str, symbol: str
) -> None:
    """Design section 6: behind the size shown; trades eat the queue, a trade or quote through the level fills."""
    path = data_dir / "raw" / f"{name}.jsonl.gz"
    reference = Reference(path, symbol)
    begins_ms = reference.facts[0][0]
    market = RecordedMarket(path, {symbol: MAINNET[symbol]}, begins_ms, speed=Fraction(1), loop=False)
    events = played(market, 100_000)
    filled = alike = 0
    tried = list(probes(events))
    for probe in tried:
        allowed_ms, filled_ms = reference.first_fill_ms(probe), model_fill_ms(events, probe)
        if filled_ms is not None:
            assert allowed_ms is not None, probe
            assert filled_ms >= allowed_ms, probe
            filled += 1
        alike += filled_ms == allowed_ms
    assert filled >= 20
    assert alike >= 0.95 * len(tried)
