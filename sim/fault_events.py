"""What faults make of a stream payload: it is lost, late, doubled, in the wrong place, or says something else.

Source: facts section 6 (market payloads, the chain of ``pu`` and ``u``), 7 (account events), 12 (faults worth having).
"""

# ruff: noqa: ARG001  all effects are called alike

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from sim.fault_rules import Subject

_MARKET_STREAMS = {
    "bookTicker": "bookTicker",
    "aggTrade": "aggTrade",
    "trade": "trade",
    "markPriceUpdate": "markPrice",
    "kline": "kline",
    "depthUpdate": "depth",
    "24hrTicker": "ticker",
    "24hrMiniTicker": "miniTicker",
    "contractInfo": "contractInfo",
    "forceOrder": "forceOrder",
}
_ID_FIELDS = ("u", "U", "pu")
REORDER_WITHIN_MS = 1000
"""A payload that waits for a next one does so for this long."""


class Delivery(Struct, frozen=True):
    """A payload as it goes out: after ``delay_ms``, or with ``behind_next`` after the next payload of its socket."""

    text: str
    delay_ms: float = 0
    behind_next: bool = False


@dataclass(slots=True)
class Draft:
    """A payload under the hands of faults."""

    text: str
    content: Any
    lost: bool = False
    delay_ms: float = 0
    behind_next: bool = False
    changed: bool = False
    cut: bool = False
    before: list[str] = field(default_factory=list)
    copies_ms: list[float] = field(default_factory=list)

    @property
    def data(self) -> dict[str, Any]:
        """Return the payload proper, out of its wrapping."""
        data: dict[str, Any] = _unwrapped(self.content)
        return data

    def deliveries(self) -> list[Delivery]:
        """Return what goes out in the end."""
        if self.lost:
            return [Delivery(text) for text in self.before]
        text = json.dumps(self.content, separators=(",", ":")) if self.changed else self.text
        text = text[: len(text) // 2] if self.cut else text
        return [
            *(Delivery(each) for each in self.before),
            Delivery(text, self.delay_ms, self.behind_next),
            *(Delivery(text, self.delay_ms + late_ms) for late_ms in self.copies_ms),
        ]


def route_of(target: str) -> str:
    """Return the route of a stream URL as targets name it."""
    first = target.split("?")[0].split("/")[1:2]
    return first[0] if first and first[0] in ("public", "market", "private", "ws-fapi") else "unrouted"


def read_payload(text: str) -> Any:
    """Return the JSON of a payload, None if it holds no event."""
    try:
        content = decoded(text)
    except ValueError:
        return None
    data = _unwrapped(content)
    return content if isinstance(data, dict) and isinstance(data.get("e"), str) else None


def decoded(text: str | bytes) -> Any:
    """Return what the JSON of a payload says; raises ValueError."""
    try:
        return msgspec.json.decode(text)
    except ValueError:
        return json.loads(text)  # slower, and less strict: lone surrogates in an id, for example


def subject_of(content: Any, route: str) -> Subject:
    """Return what targets see of a payload that ``read_payload`` has read."""
    data = _unwrapped(content)
    order = data.get("o") if isinstance(data.get("o"), dict) else data
    event = data["e"]
    return Subject(
        symbol=_text(data, "s") or _text(order, "s"),
        stream=_MARKET_STREAMS.get(event, "userData"),
        event=event,
        execution=_text(order, "x"),
        route=route,
        client_ids=(_text(order, "c"),) if route == "private" else (),
        side=_text(order, "S"),
    )


def event_time_ms(content: Any, otherwise_ms: int) -> int:
    """Return when a payload was made."""
    made_ms = _unwrapped(content).get("E")
    return made_ms if isinstance(made_ms, int) else otherwise_ms


def _unwrapped(content: Any) -> Any:
    wrapped = isinstance(content, dict) and isinstance(content.get("data"), dict) and "stream" in content
    return content["data"] if wrapped else content


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _lose(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    draft.lost = True


def _delay(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    draft.delay_ms += late_ms


def _duplicate(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    draft.copies_ms.append(values["after_ms"])


def _reorder(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    draft.behind_next = True


def _flood(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    draft.copies_ms += [0.0] * values["copies"]


def _cut(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    draft.cut = True


def _reset_sequence(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    data = draft.data
    data.update({name: data[name] - values["by"] for name in _ID_FIELDS if name in data})
    draft.changed = True


def _halve_account_update(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    draft.data["a"].pop("P" if values["without"] == "positions" else "B", None)
    draft.changed = True


def _corrupt(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    data = draft.data
    if values["to"] == "crossed":
        _cross(data)
    else:
        _blank(data, "0" if values["to"] == "zero" else None)
    draft.changed = True


def _cross(data: dict[str, Any]) -> None:
    """Let bids and asks change places."""
    data["b"], data["a"] = data["a"], data["b"]
    if "B" in data:
        data["B"], data["A"] = data["A"], data["B"]


def _blank(data: dict[str, Any], price: str | None) -> None:
    for side in ("b", "a"):
        levels = data[side]
        data[side] = [[price, *level[1:]] for level in levels] if isinstance(levels, list) else price


def _add_fields(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    draft.data.update({"zz": {"new": ["field"]}, "qx": None})
    draft.changed = True


def _spoil_status(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    draft.data["o"]["X"] = "PENDING_REVIEW"
    draft.changed = True


def _announce_unknown(draft: Draft, values: Mapping[str, Any], late_ms: float) -> None:
    content = {"e": "NEWLY_INVENTED", "E": event_time_ms(draft.content, 0), "o": ["no", "object"]}
    draft.before.append(json.dumps(content, separators=(",", ":")))


Edit = Callable[[Draft, Mapping[str, Any], float], None]

EDITS: Mapping[str, Edit] = {
    "silence": _lose,
    "drop-events": _lose,
    "depth-gap": _lose,
    "delay-events": _delay,
    "duplicate-events": _duplicate,
    "reorder-events": _reorder,
    "flood": _flood,
    "truncate-events": _cut,
    "sequence-reset": _reset_sequence,
    "partial-account-update": _halve_account_update,
    "corrupt-prices": _corrupt,
    "unknown-fields": _add_fields,
    "unknown-status": _spoil_status,
    "unknown-event": _announce_unknown,
}
"""What each kind does to a payload; the last argument is the latency that was drawn for it, in ms."""

ONLY_EVENTS: Mapping[str, tuple[str, ...]] = {
    "depth-gap": ("depthUpdate",),
    "sequence-reset": ("depthUpdate", "bookTicker"),
    "partial-account-update": ("ACCOUNT_UPDATE",),
    "corrupt-prices": ("depthUpdate", "bookTicker"),
    "unknown-status": ("ORDER_TRADE_UPDATE",),
}
"""The events that a kind can strike; any where it is not listed."""
