"""Depth over REST and on streams: one book under one id, and a chain that a client can follow."""

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.depth import changes
from sim.market import DepthChange
from sim.matching import MODEL_LEVELS
from test.sim_factory import START_MS, Rig

Levels = dict[int, int]


def snapshot(rig: Rig, limit: int = 1000) -> Any:
    """Return the reply of GET depth."""
    return rig.send("GET", "/fapi/v1/depth", f"symbol=BTCUSDT&limit={limit}").body


def depth_change(rig: Rig, last_id: int, bids: dict[int, int], *, whole: bool = False) -> None:
    """Let the market show levels of its bids, prices in ticks."""
    event = DepthChange(rig.now_ms + 1, "BTCUSDT", last_id, tuple(bids.items()), (), whole)
    rig.market.events.append(event)
    rig.wait(1)


@dataclass
class LocalBook:
    """A client's book in cents and lots, kept by the documented procedure (facts 6, local book)."""

    update_id: int = 0
    bids: Levels = field(default_factory=dict)
    asks: Levels = field(default_factory=dict)
    valid: bool = False
    first: bool = True

    def load(self, reply: Any) -> None:
        """Start from a snapshot."""
        self.update_id = reply["lastUpdateId"]
        self.bids, self.asks = {}, {}
        _put(self.bids, reply["bids"])
        _put(self.asks, reply["asks"])
        self.valid = self.first = True

    def apply(self, event: Any) -> None:
        """Follow one event; the book is no longer valid if it does not fit."""
        if not self.valid or (self.first and event["u"] < self.update_id):
            return
        if self.first:
            self.valid = event["U"] <= self.update_id <= event["u"]
        else:
            self.valid = event["pu"] == self.update_id
        if self.valid:
            self.first, self.update_id = False, event["u"]
            _put(self.bids, event["b"])
            _put(self.asks, event["a"])


def _put(side: Levels, levels: list[list[str]]) -> None:
    for price, quantity in levels:
        cents, lots = int(price.replace(".", "")), int(quantity.replace(".", ""))
        if lots:
            side[cents] = lots
        else:
            side.pop(cents, None)


def test_snapshot_carries_the_id_of_the_quote() -> None:
    """lastUpdateId is on the counter of bookTicker's u (facts 6, 12)."""
    rig = Rig()
    ticker = rig.send("GET", "/fapi/v1/ticker/bookTicker", "symbol=BTCUSDT").body
    assert snapshot(rig)["lastUpdateId"] == ticker["lastUpdateId"] == 1


def test_depth_before_the_first_quote_is_empty() -> None:
    """Nothing is known of the book yet."""
    rig = Rig(quoted=False)
    _, heard = rig.listen("/public/ws/btcusdt@depth@100ms/btcusdt@depth5@100ms")
    rig.wait(1000)
    assert snapshot(rig) == {
        "lastUpdateId": 0,
        "E": rig.now_ms,
        "T": rig.now_ms,
        "bids": [],
        "asks": [],
    }
    assert heard == []


def test_diff_event_has_the_documented_fields() -> None:
    """depthUpdate as in facts 6: ids and times ints, levels as texts, "0" where one is gone."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@depth@100ms")
    rig.quote("50000.00", "50000.20", "10", "7")
    rig.quote("50000.00", "50000.20", "4", "7")
    rig.wait(200)
    event = heard[0]
    assert event["b"][0] == ["50000.00", "4.000"]
    assert event["a"][:2] == [["50000.10", "0.000"], ["50000.20", "7.000"]]
    del event["a"], event["b"]
    assert event == {
        "e": "depthUpdate",
        "E": START_MS + 100,
        "T": START_MS + 3,
        "s": "BTCUSDT",
        "ps": "BTCUSDT",
        "U": 2,
        "u": 3,
        "pu": 1,
        "st": 1,
    }
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("stream", "period_ms"),
    [
        ("depth", 250),
        ("depth@100ms", 100),
        ("depth@500ms", 500),
        ("depth5", 250),
        ("depth5@100ms", 100),
        ("depth10@500ms", 500),
        ("depth20", 250),
        ("depth20@100ms", 100),
        ("rpiDepth@500ms", 500),
    ],
)
def test_depth_speaks_at_its_speed(stream: str, period_ms: int) -> None:
    """250 ms by default, 100 ms and 500 ms on request (facts 6)."""
    rig = Rig()
    _, heard = rig.listen(f"/public/ws/btcusdt@{stream}")
    for second in range(100):
        rig.quote("50000.00", "50000.10", str(second + 1))
        rig.wait(19)
    assert [event["E"] % period_ms for event in heard] == [0] * (2000 // period_ms)
    assert [event["pu"] for event in heard[1:]] == [event["u"] for event in heard[:-1]]


@pytest.mark.parametrize("stream", ["depth@250ms", "depth5@0ms", "depth7", "Depth", "depth50"])
def test_depth_of_another_kind_is_silent(stream: str) -> None:
    """A misspelt stream is acknowledged and never speaks (facts 6)."""
    rig = Rig()
    _, heard = rig.listen(f"/public/ws/btcusdt@{stream}")
    rig.quote("50000.00", "50000.20")
    rig.wait(1000)
    assert heard == []


@pytest.mark.parametrize("route", ["/market", "/private"])
def test_depth_belongs_to_the_public_route(route: str) -> None:
    """depth and depth<levels> are streams of /public (facts 1)."""
    rig = Rig()
    _, heard = rig.listen(f"{route}/ws/btcusdt@depth/btcusdt@depth5")
    rig.quote("50000.00", "50000.20")
    rig.wait(1000)
    assert heard == []


@pytest.mark.parametrize("levels", [5, 10, 20])
def test_partial_depth_is_the_top_in_full(levels: int) -> None:
    """The first payload comes without a change; then each shows the best levels of GET depth (facts 6)."""
    rig = Rig()
    _, heard = rig.listen(f"/public/ws/btcusdt@depth{levels}@100ms")
    rig.wait(300)
    rig.quote("50000.00", "50000.20", "3", "2")
    rig.wait(100)
    assert len(heard) == 2
    expected = snapshot(rig, levels)
    assert (heard[-1]["b"], heard[-1]["a"]) == (expected["bids"], expected["asks"])
    assert len(heard[-1]["b"]) == levels
    assert heard[-1]["u"] == expected["lastUpdateId"]


def test_quiet_book_says_nothing() -> None:
    """A diff without a change is not sent, and a change that was taken back is none."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@depth@100ms")
    rig.wait(500)
    rig.quote("50000.00", "50000.10", "3")
    rig.quote("50000.00", "50000.10", "10")
    rig.wait(100)
    assert heard == []
    rig.quote("50000.00", "50000.10", "5")
    rig.wait(100)
    assert [(event["U"], event["u"], event["pu"]) for event in heard] == [(2, 4, 1)]


def test_own_taking_is_a_change_with_an_id_of_its_own() -> None:
    """What we take from the book is gone from it until the next quote, under a new id; later ids are raised."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@depth@100ms/btcusdt@bookTicker")
    before = snapshot(rig)
    rig.take("BUY", "1")
    after = snapshot(rig)
    assert (before["asks"][0], after["asks"][0]) == (["50000.10", "10.000"], ["50000.10", "9.000"])
    assert after["lastUpdateId"] == before["lastUpdateId"] + 1 == 2
    rig.wait(100)
    assert [(event["U"], event["u"], event["a"]) for event in heard] == [(2, 2, [["50000.10", "9.000"]])]
    rig.quote("50000.00", "50000.20")
    assert heard[-1]["e"] == "bookTicker"
    assert heard[-1]["u"] == 3
    assert rig.send("GET", "/fapi/v1/ticker/bookTicker", "symbol=BTCUSDT").body["lastUpdateId"] == 3


def test_book_after_own_taking_has_another_id_than_its_quote_though_nobody_looked_before() -> None:
    """The quote of id 2 shows 10, and the book that is first looked at after a buy of 3 shows 7."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@bookTicker")
    rig.quote("50000.00", "50000.10", "10")
    rig.take("BUY", "3")
    reply = snapshot(rig)
    assert (heard[-1]["u"], heard[-1]["A"]) == (2, "10.000")
    assert (reply["lastUpdateId"], reply["asks"][0]) == (3, ["50000.10", "7.000"])


def test_best_bid_and_ask_over_rest_have_the_id_that_the_stream_gave_them() -> None:
    """Until the next quote both tell of the book before the taking, and neither under an id of the book after it."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@bookTicker")
    rig.quote("50000.00", "50000.10", "10")
    snapshot(rig)
    rig.take("BUY", "3")
    assert snapshot(rig)["lastUpdateId"] == 3
    reply = rig.send("GET", "/fapi/v1/ticker/bookTicker", "symbol=BTCUSDT").body
    assert (reply["lastUpdateId"], reply["askQty"]) == (heard[-1]["u"], heard[-1]["A"]) == (2, "10.000")


def test_recorded_levels_are_shown_where_the_market_has_them() -> None:
    """Depth that the market brings replaces the modelled levels, under its own update ids (facts 12)."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@depth@100ms")
    depth_change(rig, 40, {499_990: 70, 499_900: 5}, whole=True)
    assert snapshot(rig, 5)["bids"][:3] == [
        ["50000.00", "10.000"],
        ["49999.00", "0.070"],
        ["49990.00", "0.005"],
    ]
    rig.wait(100)
    assert (heard[-1]["U"], heard[-1]["u"], heard[-1]["pu"]) == (40, 40, 1)
    depth_change(rig, 44, {499_990: 0})
    rig.wait(100)
    assert heard[-1]["b"][0] == ["49999.00", "0.000"]
    assert (heard[-1]["U"], heard[-1]["u"], heard[-1]["pu"]) == (44, 44, 40)


@pytest.mark.parametrize("fault", ["halt", "symbol-missing"])
def test_levels_whose_changes_were_not_heard_are_forgotten(fault: str) -> None:
    """The market's book goes on while a symbol does not trade; what it was before is no level to stand behind."""
    rig = Rig()
    depth_change(rig, 40, {499_990: 70, 499_900: 5}, whole=True)
    rig.send("POST", "/sim/fault", f"fault={fault}&for_s=2")
    depth_change(rig, 44, {499_990: 0})
    rig.wait(2_000)
    depth_change(rig, 48, {499_900: 6})
    rig.quote("50000.00", "50000.10", "8")
    bids = dict(snapshot(rig, 1000)["bids"])
    assert (bids["49999.90"], bids["49999.00"], bids["49990.00"]) == ("10.000", "10.000", "0.006")


def test_modelled_levels_follow_the_usual_size_of_the_touch() -> None:
    """Behind the touch the size is settled at whole seconds, and only when the usual one is half as much again."""
    rig = Rig()
    deeper = []
    for size in ["10"] * 3 + ["14"] * 30 + ["40"] * 2 + ["1"] * 60:
        rig.quote("50000.00", "50000.10", size)
        rig.wait(1000)
        deeper.append(snapshot(rig, 5)["bids"][1:])
    sizes = [float(levels[0][1]) for levels in deeper]
    assert all(len({quantity for _, quantity in levels}) == 1 for levels in deeper)
    assert set(sizes[:33]) == {10.0}
    assert sizes[34] > 15
    assert sizes == sorted(sizes[:35]) + sorted(sizes[35:], reverse=True)
    assert 1 <= sizes[-1] < 2
    assert len(set(sizes)) < 12


def test_taker_meets_the_levels_that_are_shown() -> None:
    """What GET depth shows behind the touch is what a taker gets there."""
    rig = Rig(wallet="100000000")
    rig.wait(2000)
    rig.quote("50000.00", "50000.10", "10", "1")
    shown = snapshot(rig, 5)["asks"][:3]
    assert shown == [["50000.10", "1.000"], ["50000.20", "10.000"], ["50000.30", "10.000"]]
    rig.take("BUY", "12")
    fills = rig.record()["fills"]
    assert [(fill["price"], fill["qty"]) for fill in fills] == [*map(tuple, shown[:2]), ("50000.30", "1.000")]


def test_client_that_missed_the_snapshot_id_must_ask_again() -> None:
    """Step 3 of the procedure: an event that begins after the snapshot does not connect to it (facts 6)."""
    rig = Rig()
    book = LocalBook()
    book.load(snapshot(rig))
    _, heard = rig.listen("/public/ws/btcusdt@depth@100ms")
    for size in ("5", "6", "7"):
        rig.quote("50000.00", "50000.10", size)
        rig.wait(100)
    book.apply(heard[0])
    assert not book.valid


def test_chain_begins_again_for_new_listeners() -> None:
    """A stream that nobody has heard for a while does not tell what happened meanwhile."""
    rig = Rig()
    session, _ = rig.listen("/public/ws/btcusdt@depth@100ms")
    session.closed(rig.now_ms)
    rig.quote("50000.00", "50000.30")
    rig.wait(1000)
    _, heard = rig.listen("/public/ws/btcusdt@depth@100ms")
    rig.wait(1000)
    assert heard == []
    rig.quote("50000.00", "50000.10")
    rig.wait(100)
    assert (heard[0]["U"], heard[0]["pu"]) == (3, 2)


def test_depth_without_listeners_has_no_timer() -> None:
    """Nobody subscribed costs nothing: the exchange wakes for whole seconds only."""
    rig = Rig()
    idle_ms = rig.exchange.next_due_ms()
    session, _ = rig.listen("/public/ws/btcusdt@depth5")
    assert rig.exchange.next_due_ms() == START_MS + 250
    session.closed(rig.now_ms)
    rig.wait(250)
    assert rig.exchange.next_due_ms() == idle_ms
    assert not rig.exchange._venue.instruments["BTCUSDT"].shown.chains


def test_silenced_depth_breaks_the_chain() -> None:
    """Events that are withheld are lost: the next pu does not fit, and the client sees it (facts 12)."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@depth@100ms")
    rig.quote("50000.00", "50000.10", "5")
    rig.wait(100)
    rig.send("POST", "/sim/silence", "stream=btcusdt@depth@100ms&seconds=0.2")
    rig.quote("50000.00", "50000.10", "6")
    rig.wait(200)
    rig.quote("50000.00", "50000.10", "7")
    rig.wait(200)
    first, second = heard
    assert second["pu"] > first["u"]


STEP = st.one_of(
    st.tuples(st.just("quote"), st.integers(-30, 30), st.integers(1, 4), st.integers(1, 20)),
    st.tuples(st.just("take"), st.sampled_from(["BUY", "SELL"]), st.integers(1, 40), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 300), st.just(0), st.just(0)),
    st.tuples(st.just("snapshot"), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("depth"), st.integers(1, 50), st.integers(0, 20), st.booleans()),
)


def play(rig: Rig, step: tuple[Any, ...]) -> None:
    """Let one thing happen to the book."""
    kind, first, second, third = (*step, 0, 0, 0)[:4]
    if kind == "quote":
        bid = 500_000 + first
        rig.updates += second  # ids jump
        rig.quote(f"{bid / 10:.1f}", f"{(bid + second) / 10:.1f}", str(third), str(second))
    elif kind == "take":
        rig.take(first, str(second))
    elif kind == "wait":
        rig.wait(first)
    elif kind == "depth":
        rig.updates += 1
        depth_change(rig, rig.updates, {499_970 - first: second}, whole=third and second > 0)


class Follower:
    """A client of the diff stream that compares its book with the exchange's whenever it has applied an event."""

    def __init__(self, rig: Rig, stream: str) -> None:
        self.rig = rig
        self.book = LocalBook()
        self.events: list[Any] = []
        self.compared = 0
        rig.exchange.open_session(f"/public/ws/btcusdt@{stream}", self.hear, rig.now_ms)

    def hear(self, text: str) -> None:
        """Apply an event at the moment at which the exchange sends it."""
        self.events.append(json.loads(text))
        self.book.apply(self.events[-1])
        self.compare()

    def load(self) -> None:
        """Take a snapshot and catch up with the events heard before."""
        self.book.load(snapshot(self.rig))
        for event in self.events:
            self.book.apply(event)
        if self.book.valid and self.book.first:
            self.compare()

    def compare(self) -> None:
        """Hold a valid book against the modelled one."""
        if not self.book.valid:
            return
        instrument = self.rig.exchange._venue.instruments["BTCUSDT"]
        image = instrument.shown.look(instrument.quote)
        for ours, theirs in ((self.book.bids, image.bids), (self.book.asks, image.asks)):
            assert ours == {10 * ticks: lots for ticks, lots in theirs.levels().items()}
        for side, shown in ((instrument.matcher.bids, image.bids), (instrument.matcher.asks, image.asks)):
            assert list(shown.levels().items()) == list(side.levels(MODEL_LEVELS))
        self.compared += 1


@given(st.lists(STEP, max_size=25), st.sampled_from(["depth@100ms", "depth", "depth@500ms"]))
def test_client_that_follows_the_procedure_has_the_exchange_book(
    steps: list[tuple[Any, ...]], stream: str
) -> None:
    """At every event the local book is the modelled one; only pu chains, and ids never go back (facts 6, 12)."""
    rig = Rig(wallet="100000000")
    client = Follower(rig, stream)
    for step in [*steps, ("snapshot",), ("quote", 3, 1, 1), ("wait", 500)]:
        if step[0] == "snapshot" or not client.book.valid:
            client.load()
        play(rig, step)
    ids = [(event["U"], event["u"], event["pu"]) for event in client.events]
    assert all(previous < first <= last for first, last, previous in ids)
    assert all(later[2] == earlier[1] for earlier, later in pairwise(ids))
    assert client.compared


def test_level_seen_in_between_is_told_even_if_it_is_as_before() -> None:
    """A snapshot within an interval may show a level that is gone at its end; the event says so (facts 6)."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@depth@100ms")
    rig.quote("50000.00", "50000.10", "3")
    assert snapshot(rig, 5)["bids"][0] == ["50000.00", "3.000"]
    rig.quote("50000.00", "50000.10", "10")
    rig.wait(100)
    assert heard[0]["b"][0] == ["50000.00", "10.000"]


def test_changes_are_told_best_first() -> None:
    """Bids descend and asks ascend."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@depth@100ms")
    rig.quote("50000.50", "50000.60", "3", "2")
    rig.wait(100)
    bids, asks = ([float(price) for price, _ in heard[0][side]] for side in "ba")
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)


def test_changes_name_what_differs() -> None:
    """Gone levels are zero."""
    assert sorted(changes({5: 1, 4: 2, 3: 9}, {6: 1, 4: 3, 3: 9})) == [(4, 3), (5, 0), (6, 1)]
    assert changes({5: 1}, {5: 1}) == []
