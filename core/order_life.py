"""An order's life as one table: from where it stands and what happens to where it stands then. Pure.

A state says two things at once: what rests (a status) and what is still open about it (a change under way, or an end
that only we have concluded). The table below is the only place where transitions are decided. A pair that it does not
hold is impossible if all we know is true: it changes nothing, and the exchange has to be asked.

``python -m core.order_life`` prints the table and its diagram as Markdown (docs/order-life.md).
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from core.model import OrderStatus
from utils.word import Word


class Open(Word):
    """What is still open about an order, beside what rests."""

    NOTHING = "nothing"
    AMEND = "amend"
    AMEND_IN_DOUBT = "amend in doubt"
    CANCEL = "cancel"
    CANCEL_OVER_AMEND = "cancel over amend"
    """A cancel is under way, and nobody here knows whether an amend before it was executed."""
    PROOF = "proof"
    """The end was concluded here; the exchange has not spoken of it."""


class Trigger(Word):
    """What can happen to an order, as far as anybody here learns of it."""

    PLACE_UNKNOWN = "placing got no answer"
    PLACE_REFUSED = "placing was refused, or not sent"
    AMEND_SENT = "amend sent"
    AMEND_REFUSED = "amend refused, or not sent"
    AMEND_UNKNOWN = "amend got no answer"
    AMEND_SETTLED = "amend proven, done or not"
    CANCEL_SENT = "cancel sent"
    CANCEL_REFUSED = "cancel refused"
    ABSENCE_PROVEN = "absence proven"
    TRADED = "a trade was counted"
    SEEN_UNHEARD = "seen with an unheard status"
    SEEN_ACTIVE = "seen active"
    SEEN_PARTIAL = "seen partly filled"
    SEEN_FILLED = "seen filled"
    SEEN_CANCELLED = "seen cancelled"
    SEEN_EXPIRED = "seen expired"
    SEEN_EXPIRED_IN_MATCH = "seen expired in match"
    SEEN_REJECTED = "seen rejected"


class State(NamedTuple):
    """Where an order stands: what rests, and what is open about it."""

    rest: OrderStatus
    open: Open

    @property
    def shown(self) -> OrderStatus:
        """Return the one status that says most: the change under way goes before what rests."""
        return _SHOWN.get(self.open, self.rest)

    @property
    def rank(self) -> int:
        """Return how much the exchange has told; reports never lower it. An end concluded here counts for nothing."""
        return 0 if self.open is Open.PROOF else _RANK[self.rest]

    def __str__(self) -> str:
        return self.rest.value if self.open is Open.NOTHING else f"{self.rest.value} + {self.open.value}"


_SHOWN = {
    Open.AMEND: OrderStatus.PENDING_MODIFY,
    Open.AMEND_IN_DOUBT: OrderStatus.IN_DOUBT,
    Open.CANCEL: OrderStatus.PENDING_CANCEL,
    Open.CANCEL_OVER_AMEND: OrderStatus.PENDING_CANCEL,
}
_SENT = (OrderStatus.PENDING_NEW, OrderStatus.IN_DOUBT)
_RESTING = (OrderStatus.ACTIVE, OrderStatus.PARTIALLY_FILLED)
_ENDED = tuple(status for status in OrderStatus if status.is_terminal)
_CONCLUDED = (OrderStatus.CANCELLED, OrderStatus.REJECTED)
_LIVING = (*_SENT, *_RESTING)
_RANK = {**dict.fromkeys(_SENT, 0), OrderStatus.ACTIVE: 1, OrderStatus.PARTIALLY_FILLED: 2} | dict.fromkeys(
    _ENDED, 3
)
_STILL = (Open.NOTHING, Open.CANCEL)
_MOVING = (*_STILL, Open.AMEND, Open.AMEND_IN_DOUBT, Open.CANCEL_OVER_AMEND)
_UNPROVEN = (Open.PROOF,)
_DONE = (Open.NOTHING,)

FIRST = State(OrderStatus.PENDING_NEW, Open.NOTHING)
"""Where every order begins: registered, and from then on counted as resting."""

STATES = (
    *(State(rest, open_) for rest in _SENT for open_ in _STILL),
    *(State(rest, open_) for rest in _RESTING for open_ in _MOVING),
    *(State(rest, Open.NOTHING) for rest in _ENDED),
    *(State(rest, Open.PROOF) for rest in _CONCLUDED),
)
"""Every state there is."""


@dataclass(frozen=True, slots=True)
class Row:
    """Rows of the table that have one reason: from each of these states, on this trigger, to that one.

    ``rest`` and ``open`` say what they become; None leaves them as they are.
    """

    rests: tuple[OrderStatus, ...]
    opens: tuple[Open, ...]
    trigger: Trigger
    rest: OrderStatus | None
    open: Open | None
    reason: str

    def pairs(self) -> Iterator[tuple[State, State]]:
        """Yield each state with the one it becomes."""
        for before in STATES:
            if before.rest in self.rests and before.open in self.opens:
                after = State(self.rest or before.rest, self.open or before.open)
                yield before, after


_SEEN_END = {
    OrderStatus.FILLED: Trigger.SEEN_FILLED,
    OrderStatus.CANCELLED: Trigger.SEEN_CANCELLED,
    OrderStatus.EXPIRED: Trigger.SEEN_EXPIRED,
    OrderStatus.EXPIRED_IN_MATCH: Trigger.SEEN_EXPIRED_IN_MATCH,
    OrderStatus.REJECTED: Trigger.SEEN_REJECTED,
}
_END_REASON = {
    OrderStatus.FILLED: "",
    OrderStatus.CANCELLED: "Also without a cancel of ours: an amend to no more than was executed, and the dead-man"
    " switch, cancel.",
    OrderStatus.EXPIRED: "The exchange ends an order so, a post-only one that would take by an amend among them.",
    OrderStatus.EXPIRED_IN_MATCH: "Self-trade prevention took it out.",
    OrderStatus.REJECTED: "Refusals come as errors; a report of one is rare, and means the same.",
}


def _place_rows() -> tuple[Row, ...]:
    return (
        Row(
            (OrderStatus.PENDING_NEW,),
            _STILL,
            Trigger.PLACE_UNKNOWN,
            OrderStatus.IN_DOUBT,
            None,
            "No answer is no refusal: it counts as resting until the exchange says.",
        ),
        Row(
            (OrderStatus.IN_DOUBT, *_RESTING),
            _MOVING,
            Trigger.PLACE_UNKNOWN,
            None,
            None,
            "A report was faster than the answer that did not come.",
        ),
        Row(_ENDED, (*_DONE, *_UNPROVEN), Trigger.PLACE_UNKNOWN, None, None, "It has ended already."),
        Row(
            _SENT,
            _STILL,
            Trigger.PLACE_REFUSED,
            OrderStatus.REJECTED,
            Open.PROOF,
            "It ends here; should the exchange show it all the same, it lives.",
        ),
        Row(_CONCLUDED, _UNPROVEN, Trigger.PLACE_REFUSED, None, None, "Concluded before."),
        Row(
            _LIVING,
            _MOVING,
            Trigger.ABSENCE_PROVEN,
            OrderStatus.CANCELLED,
            Open.PROOF,
            "The exchange had it and knows it no longer: it does not rest, whatever ended it.",
        ),
        Row(_CONCLUDED, _UNPROVEN, Trigger.ABSENCE_PROVEN, None, None, "Concluded before."),
        Row(_ENDED, _DONE, Trigger.ABSENCE_PROVEN, None, None, "The exchange forgets what has ended."),
    )


def _amend_rows() -> tuple[Row, ...]:
    under_way = (Open.AMEND, Open.AMEND_IN_DOUBT)
    ended = (*_DONE, *_UNPROVEN)
    return (
        Row(
            _RESTING,
            _DONE,
            Trigger.AMEND_SENT,
            None,
            Open.AMEND,
            "One change at a time, and only of an order that is known to rest.",
        ),
        Row(
            _RESTING, under_way, Trigger.AMEND_REFUSED, None, Open.NOTHING, "What rested before rests still."
        ),
        Row(
            _RESTING,
            (Open.CANCEL_OVER_AMEND,),
            Trigger.AMEND_REFUSED,
            None,
            Open.CANCEL,
            "The cancel goes on.",
        ),
        Row(_ENDED, ended, Trigger.AMEND_REFUSED, None, None, "It ended while the amend was under way."),
        Row(
            _RESTING,
            (Open.AMEND,),
            Trigger.AMEND_UNKNOWN,
            None,
            Open.AMEND_IN_DOUBT,
            "The old or the new may rest: the worse of both counts until one is proven.",
        ),
        Row(
            _RESTING,
            (Open.NOTHING, Open.AMEND_IN_DOUBT, Open.CANCEL, Open.CANCEL_OVER_AMEND),
            Trigger.AMEND_UNKNOWN,
            None,
            None,
            "A report was faster than the answer that did not come, or a cancel is out already.",
        ),
        Row(_ENDED, ended, Trigger.AMEND_UNKNOWN, None, None, "It ended while the amend was under way."),
        Row(
            _RESTING,
            under_way,
            Trigger.AMEND_SETTLED,
            None,
            Open.NOTHING,
            "The target was seen, or the old values were, when nothing could change them any more.",
        ),
        Row(
            _RESTING,
            (Open.CANCEL_OVER_AMEND,),
            Trigger.AMEND_SETTLED,
            None,
            Open.CANCEL,
            "The cancel goes on.",
        ),
    )


def _cancel_rows() -> tuple[Row, ...]:
    return (
        Row(
            _LIVING,
            _STILL,
            Trigger.CANCEL_SENT,
            None,
            Open.CANCEL,
            "Anything that may rest may be cancelled, again and again, before its placing is answered, too.",
        ),
        Row(
            _RESTING,
            (Open.AMEND, Open.AMEND_IN_DOUBT, Open.CANCEL_OVER_AMEND),
            Trigger.CANCEL_SENT,
            None,
            Open.CANCEL_OVER_AMEND,
            "A cancel waits for no amend; until it is answered the worse of old and new counts.",
        ),
        Row(
            _ENDED,
            (*_DONE, *_UNPROVEN),
            Trigger.CANCEL_SENT,
            None,
            None,
            "A cancel of what has ended is harmless, and the way to be sure.",
        ),
        Row(_LIVING, (Open.CANCEL,), Trigger.CANCEL_REFUSED, None, Open.NOTHING, "It rests still."),
        Row(
            _RESTING,
            (Open.CANCEL_OVER_AMEND,),
            Trigger.CANCEL_REFUSED,
            None,
            Open.AMEND_IN_DOUBT,
            "It rests still, and nobody knows at what price.",
        ),
        Row(
            _ENDED,
            (*_DONE, *_UNPROVEN),
            Trigger.CANCEL_REFUSED,
            None,
            None,
            "It ended while the cancel was under way.",
        ),
    )


def _living_rows() -> tuple[Row, ...]:
    """What the exchange says of an order that lives, or that it says to live."""
    late = "It comes late: a life whose end was reported never begins again."
    wrong = "Our conclusion was wrong: the exchange has it, so it lives."
    return (
        Row(_SENT, _STILL, Trigger.SEEN_ACTIVE, OrderStatus.ACTIVE, None, ""),
        Row(_RESTING, _MOVING, Trigger.SEEN_ACTIVE, None, None, "After a fill this is old news."),
        Row(_ENDED, _DONE, Trigger.SEEN_ACTIVE, None, None, late),
        Row(_CONCLUDED, _UNPROVEN, Trigger.SEEN_ACTIVE, OrderStatus.ACTIVE, Open.NOTHING, wrong),
        Row(_LIVING, _MOVING, Trigger.SEEN_PARTIAL, OrderStatus.PARTIALLY_FILLED, None, ""),
        Row(_ENDED, _DONE, Trigger.SEEN_PARTIAL, None, None, late),
        Row(_CONCLUDED, _UNPROVEN, Trigger.SEEN_PARTIAL, OrderStatus.PARTIALLY_FILLED, Open.NOTHING, wrong),
        Row(
            _SENT,
            _STILL,
            Trigger.SEEN_UNHEARD,
            OrderStatus.IN_DOUBT,
            None,
            "What we cannot name may rest, and counts so.",
        ),
        Row(_RESTING, _MOVING, Trigger.SEEN_UNHEARD, None, None, "It takes nothing back."),
        Row(_ENDED, _DONE, Trigger.SEEN_UNHEARD, None, None, late),
        Row(_CONCLUDED, _UNPROVEN, Trigger.SEEN_UNHEARD, OrderStatus.IN_DOUBT, Open.NOTHING, wrong),
        Row(
            _LIVING,
            _MOVING,
            Trigger.TRADED,
            None,
            None,
            "Its report says where it stands; this moves the books.",
        ),
        Row(_ENDED, _DONE, Trigger.TRADED, None, None, "A late fill is counted and undoes no end."),
    )


def _end_rows() -> Iterator[Row]:
    """What the exchange says of an order that has ended."""
    for end, seen in _SEEN_END.items():
        yield Row(_LIVING, _MOVING, seen, end, Open.NOTHING, _END_REASON[end])
        yield Row((end,), _DONE, seen, None, None, "Told twice.")
        yield Row(
            _CONCLUDED, _UNPROVEN, seen, end, Open.NOTHING, "The exchange's word goes before our conclusion."
        )


ROWS = (*_place_rows(), *_amend_rows(), *_cancel_rows(), *_living_rows(), *_end_rows())
"""The table, in the order in which it is read."""


def _expanded() -> dict[tuple[State, Trigger], State]:
    table: dict[tuple[State, Trigger], State] = {}
    for row in ROWS:
        for before, after in row.pairs():
            if table.setdefault((before, row.trigger), after) is not after:
                raise AssertionError(f"two rows for {before} on {row.trigger}")
    return table


TABLE = _expanded()


def after(state: State, trigger: Trigger) -> State | None:
    """Return where an order stands after this; None if it cannot be: nothing changes, and the exchange is asked."""
    return TABLE.get((state, trigger))


def sighting(status: OrderStatus, *, is_executed: bool) -> Trigger:
    """Return what it means to see an order reported in this status; ``is_executed`` if anything of it is by now.

    A quantity that is executed makes an order partly filled, whatever its report calls it.
    """
    if status in _SEEN_END:
        return _SEEN_END[status]
    if is_executed or status is OrderStatus.PARTIALLY_FILLED:
        return Trigger.SEEN_PARTIAL
    return Trigger.SEEN_ACTIVE if status is OrderStatus.ACTIVE else Trigger.SEEN_UNHEARD


# --- the document -----------------------------------------------------------------------------------------------

_INTRODUCTION = """\
# An order's life

Made from the table in `core/order_life.py` by `python -m core.order_life`; a test fails if the two differ.

A state says what rests and what is still open about it. `PENDING_MODIFY` and `PENDING_CANCEL` are shown while a
change of a resting order is under way, `IN_DOUBT` while nobody here knows whether it was placed or amended. `proof`
is open when the end was only concluded here (refused, or proven absent): the exchange's word still goes before it.

Reports come from replies, the account stream and the WebSocket API, late, twice and in any order. They are merged
by rank (sent 0, active 1, partly filled 2, ended 3; a concluded end counts for nothing), by cumulative executed
quantity, which never falls, and, for price and quantity, by the exchange's time. A pair that is not in the table
changes nothing: the order is looked up at the exchange.

An amend is settled by proof only: its target is seen with a newer time of the exchange, or as the amendment itself;
or two look-ups that were made after the receive window agree on what rests; or the order ends. Until then the
larger notional of old and new counts. What shows the target of an amend that changes nothing proves nothing: only
that amendment does, or the look-ups.
"""


def document() -> str:
    """Return docs/order-life.md."""
    return "\n".join((_INTRODUCTION, *_diagram(), "", *_reasons(), "", *_matrix(), ""))


def _edges() -> dict[tuple[str, str], list[str]]:
    """Return what leads from each shown state to another one, by the pair of them."""
    edges: dict[tuple[str, str], list[str]] = {}
    for (before, trigger), then in TABLE.items():
        source, target = _node(before), _node(then)
        if source != target:
            texts = edges.setdefault((source, target), [])
            if trigger.value not in texts:
                texts.append(trigger.value)
    return edges


def _node(state: State) -> str:
    if state.open is Open.PROOF:
        return f"{state.rest.value}_concluded"
    return state.shown.value


def _diagram() -> Iterator[str]:
    """Yield the diagram of the shown states; what the living, or the concluded, have in common is drawn once."""
    groups = {
        "living": sorted({_node(state) for state in STATES if not state.rest.is_terminal}),
        "concluded": sorted({_node(state) for state in STATES if state.open is Open.PROOF}),
    }
    edges = {pair: " / ".join(texts) for pair, texts in _edges().items()}
    yield "```mermaid"
    yield "stateDiagram-v2"
    for name, members in groups.items():
        yield f"    state {name} {{"
        if _node(FIRST) in members:
            yield f"        [*] --> {_node(FIRST)}"
        for member in members:
            yield from (f"        {line}" for line in _drawn(edges, member, set(members)) or (member,))
        yield "    }"
    for name, members in groups.items():
        yield from (f"    {line}" for line in _left(edges, name, members))
    for end in _ENDED:
        yield f"    {end.value} --> [*]"
    yield "```"


def _drawn(edges: dict[tuple[str, str], str], source: str, targets: set[str]) -> list[str]:
    """Return the edges that lead from a state to one of these."""
    return [
        f"{source} --> {target}: {text}"
        for (begin, target), text in edges.items()
        if begin == source and target in targets
    ]


def _left(edges: dict[tuple[str, str], str], name: str, members: list[str]) -> Iterator[str]:
    """Yield the edges that lead out of a group, those that all its members have as one."""
    outside = {target: None for source, target in edges if source in members and target not in members}
    for target in outside:
        texts = {edges.get((member, target), "") for member in members}
        if len(texts) == 1:
            yield f"{name} --> {target}: {texts.pop()}"
        else:
            for member in members:
                yield from _drawn(edges, member, {target})


def _reasons() -> Iterator[str]:
    """Yield the rows as they are written, with their reasons."""
    yield "## The rows"
    yield ""
    yield "| what happens | what rests | what is open | becomes | why |"
    yield "| --- | --- | --- | --- | --- |"
    for trigger, rows in groupby(sorted(ROWS, key=_order_of_row), key=lambda row: row.trigger):
        for row in rows:
            rests = ", ".join(row.rests)
            opens = ", ".join(sorted({before.open.value for before, _ in row.pairs()}))
            yield f"| {trigger.value} | {rests} | {opens} | {_becomes(row)} | {row.reason} |"


def _order_of_row(row: Row) -> int:
    return list(Trigger).index(row.trigger)


def _becomes(row: Row) -> str:
    if row.rest is None and row.open is None:
        return "no change"
    rest = row.rest.value if row.rest else "the same"
    return rest if row.open is None else f"{rest}, open: {row.open.value}"


def _matrix() -> Iterator[str]:
    """Yield every pair: ``=`` changes nothing, ``ask`` is impossible and leads to asking the exchange."""
    yield "## Every pair"
    yield ""
    yield "`=` changes nothing; `ask` cannot be if all we know is true: nothing changes, and the exchange is asked."
    yield ""
    yield f"| state | {' | '.join(Trigger)} |"
    yield f"| --- |{' --- |' * len(Trigger)}"
    for state in STATES:
        cells = (_cell(state, TABLE.get((state, trigger))) for trigger in Trigger)
        yield f"| {state} | {' | '.join(cells)} |"


def _cell(before: State, then: State | None) -> str:
    if then is None:
        return "ask"
    return "=" if then == before else str(then)


if __name__ == "__main__":
    sys.stdout.write(document())
