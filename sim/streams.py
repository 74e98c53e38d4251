"""Streams: sessions, what they have subscribed to, and who hears what.

A stream belongs to a route. Subscribing it elsewhere is acknowledged like any other subscription and stays
silent, as at Binance; un-routed sessions hear public streams only, as on demo. User data is heard on
``/private`` under a listen key; connecting with one that does not exist is silent too.

Source: facts section 1 (routes, wrapping), 6 (control messages), 7.1 (listen keys, URL forms).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol
from urllib.parse import parse_qsl, unquote

from sim.errors import RefusedHandshake, UnknownRoute, refusal
from sim.params import decode_json

KEY_LIFE_MS = 60 * 60 * 1000
SESSION_LIFE_MS = 24 * 60 * 60 * 1000
MESSAGES_PER_SECOND = 10
MAX_STREAMS = 1024

Deliver = Callable[[str], None]
HangUp = Callable[[], None]

_ROUTES = ("public", "market", "private")
_PUBLIC_KINDS = ("bookTicker", "depth", "rpiDepth", "trade")
_FAMILIES = re.compile(r"(depth|kline_|continuousKline_)[0-9].*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """What may be chosen about streams: their life, and what sources disagree on.

    ``session_life_ms`` is after how long every connection is cut. ``wraps_errors`` chooses the newer form of errors on
    control messages, under ``error``; otherwise code and text stand beside the id (facts 6). ``unrouted_user_data``
    lets listen keys be heard without ``/private`` too, as before 2026 (facts 7.1). ``account_update_first`` sends
    ACCOUNT_UPDATE of a fill before its TRADE_LITE and ORDER_TRADE_UPDATE (facts 7.4). ``api_shares_weight`` counts
    the WebSocket API's weights on the pool of REST (facts 0, 5). ``margin_call_ratio`` is the part of the margin
    balance that maintenance margin has to reach for a MARGIN_CALL. ``agg_trade_ms`` is the interval at which aggTrade
    tells of trades, 0 for at once.
    """

    session_life_ms: int = SESSION_LIFE_MS
    wraps_errors: bool = True
    unrouted_user_data: bool = False
    account_update_first: bool = False
    api_shares_weight: bool = False
    margin_call_ratio: Decimal = Decimal("0.8")
    agg_trade_ms: int = 100


class Connection(Protocol):
    """One socket as the exchange sees it."""

    opened_ms: int

    def receive(self, text: str, now_ms: int) -> bool:
        """Take a message; False means that the exchange drops the connection for it."""

    def pinged(self, now_ms: int) -> bool:
        """Take note of a ping or pong frame; False means that the exchange drops the connection for it."""

    def closed(self, now_ms: int) -> None:
        """Forget the connection."""

    def hang_up(self) -> None:
        """Let whoever carries the connection close it."""


class Watcher(Protocol):
    """Whoever has to know that a channel is heard."""

    def joined(self) -> None:
        """A session has begun to hear the channel."""

    def left(self) -> None:
        """A session hears the channel no more."""


@dataclass(slots=True)
class Channel:
    """The listeners of one stream; whoever publishes looks here first, so that nothing is built for nobody."""

    name: str
    kind: str
    sessions: list["Session"] = field(default_factory=list)
    watcher: Watcher | None = None


def kind_of(stream: str) -> str:
    """Return what sort of stream this is, or what sort a name without a symbol names.

    All depths are ``depth``, all kline intervals ``kline``; speeds do not count.
    """
    symbol, at, rest = stream.partition("@")
    kind = rest.partition("@")[0] if at and not symbol.startswith("!") else symbol.removeprefix("!")
    return _FAMILIES.sub(lambda match: match[1].rstrip("_"), kind)


@dataclass(frozen=True, slots=True)
class Target:
    """A stream URL taken apart: route ("" un-routed), wrapping, streams, and listen keys with their event filters."""

    route: str
    combined: bool
    streams: tuple[str, ...] = ()
    keys: tuple[tuple[str, frozenset[str] | None], ...] = ()


def parse_target(target: str) -> Target:
    """Return what a stream URL asks for; raises UnknownRoute if no stream endpoint lives there."""
    path, _, query = target.partition("?")
    parts = [unquote(part) for part in path.split("/")[1:]]
    route = parts.pop(0) if parts and parts[0] in _ROUTES else ""
    door = parts.pop(0) if parts else ""
    if door not in ("ws", "stream") or "" in parts or (door == "stream" and parts):
        raise UnknownRoute(target)
    streams: list[str] = list(parts)
    keys: list[tuple[str, frozenset[str] | None]] = []
    for name, value in parse_qsl(query):
        if name == "streams" and door == "stream":
            streams += [stream for stream in value.split("/") if stream]
        elif name == "listenKey" and route == "private":
            keys.append((value, None))
        elif name == "events" and keys:
            keys[-1] = (keys[-1][0], frozenset(value.split("/")))
    return Target(route, door == "stream", tuple(streams), tuple(keys))


class Session:
    """One socket: its subscriptions and the way out."""

    __slots__ = (
        "_bursts",
        "_hang_up",
        "_hub",
        "combined",
        "deliver",
        "keys",
        "opened_ms",
        "route",
        "streams",
    )

    def __init__(self, hub: "Hub", target: Target, deliver: Deliver, hang_up: HangUp, now_ms: int) -> None:
        self._hub = hub
        self._bursts = Bursts(MESSAGES_PER_SECOND)
        self._hang_up = hang_up
        self.opened_ms = now_ms
        self.route = target.route
        self.combined = target.combined
        self.deliver = deliver
        self.streams: dict[str, None] = {}
        self.keys: dict[str, frozenset[str] | None] = dict(target.keys)

    def receive(self, text: str, now_ms: int) -> bool:
        """Handle a control message; returns False if the exchange drops the connection for it."""
        if not self._bursts.count(now_ms):
            return False
        message = decode_json(text)
        if not isinstance(message, dict):
            self._answer(self._fault(3, "Invalid JSON: expected value"))
            return False
        self._answer({**self._control(message), "id": echoed_id(message.get("id"))})
        return True

    def pinged(self, now_ms: int) -> bool:
        """Count a ping or pong frame like a message."""
        return self._bursts.count(now_ms)

    def hang_up(self) -> None:
        """Let whoever carries the session close it."""
        self._hang_up()

    def closed(self, now_ms: int) -> None:  # noqa: ARG002  the seam passes the time
        """Forget the session: nothing is delivered to it any more."""
        self._hub.forget(self)

    def subscribe(self, stream: str) -> None:
        """Add a stream; on `/private` it is a listen key."""
        if self._hub.carries_keys(self.route):
            self.keys.setdefault(stream, None)
        self.streams[stream] = None
        self._hub.join(self, stream)

    def unsubscribe(self, stream: str) -> None:
        """Drop a stream, if it was there."""
        self.streams.pop(stream, None)
        self.keys.pop(stream, None)
        self._hub.leave(self, stream)

    def send(self, stream: str, payload: str) -> None:
        """Deliver a payload, wrapped if this is a combined session."""
        self.deliver(f'{{"stream":"{stream}","data":{payload}}}' if self.combined else payload)

    def _control(self, message: dict[str, object]) -> dict[str, object]:
        method, params = message.get("method"), message.get("params", [])
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(self.streams)}
        if not isinstance(params, list):
            return self._fault(1, "Invalid value type: expected list of strings")
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return self._change(str(method), params)
        if (
            method == "SET_PROPERTY"
            and len(params) == 2
            and params[0] == "combined"
            and isinstance(params[1], bool)
        ):
            self.combined = params[1]
            return {"result": None}
        if method == "GET_PROPERTY" and params == ["combined"]:
            return {"result": self.combined}
        return self._fault(2, "Invalid request: unknown variant")

    def _change(self, method: str, params: list[object]) -> dict[str, object]:
        names = [name for name in params if isinstance(name, str)]
        if not names or len(names) != len(params):
            return self._fault(1, "Invalid value type: expected list of strings")
        if method == "SUBSCRIBE" and len({*self.streams, *names}) > MAX_STREAMS:
            return self._fault(2, "Invalid request: too many streams")
        for name in names:
            if method == "SUBSCRIBE":
                self.subscribe(name)
            else:
                self.unsubscribe(name)
        return {"result": None}

    def _fault(self, code: int, text: str) -> dict[str, object]:
        fault: dict[str, object] = {"code": code, "msg": text}
        return {"error": fault} if self._hub.options.wraps_errors else fault

    def _answer(self, message: dict[str, object]) -> None:
        self.deliver(json.dumps(message, separators=(",", ":")))


class Bursts:
    """Counts what comes in by the second."""

    __slots__ = ("_allowed", "_count", "_second")

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._count = 0
        self._second = 0

    def count(self, now_ms: int) -> bool:
        """Count one more; False means that this second has brought too many."""
        second = now_ms // 1000
        self._count = self._count + 1 if second == self._second else 1
        self._second = second
        return self._count <= self._allowed


class Hub:
    """All sessions, the channels of the streams that exist, and every connection in the order of its opening."""

    def __init__(self, options: StreamOptions | None = None) -> None:
        self.options = options or StreamOptions()
        self._connections: dict[Connection, None] = {}
        self._channels: dict[str, Channel] = {}
        self._silent_until_ms: dict[str, int] = {}
        self.sessions: list[Session] = []

    def channel(self, name: str) -> Channel:
        """Return the channel of a stream, made if need be; streams without a channel are acknowledged and silent."""
        return self._channels.setdefault(name, Channel(name, kind_of(name)))

    def open(
        self, target: Target, deliver: Deliver, hang_up: HangUp = lambda: None, now_ms: int = 0
    ) -> Session:
        """Return a new session with the subscriptions of its URL; RefusedHandshake if they are too many."""
        if len(target.streams) > MAX_STREAMS:
            raise RefusedHandshake(400)
        session = Session(self, target, deliver, hang_up, now_ms)
        self.sessions.append(session)
        self.attach(session)
        for stream in target.streams:
            session.subscribe(stream)
        return session

    def attach(self, connection: Connection) -> None:
        """Let the connection live its time."""
        self._connections[connection] = None

    def detach(self, connection: Connection) -> None:
        """Forget the connection."""
        self._connections.pop(connection, None)

    @property
    def cut_ms(self) -> int | None:
        """Return when the oldest connection has lived its time."""
        oldest = next(iter(self._connections), None)
        return None if oldest is None else oldest.opened_ms + self.options.session_life_ms

    def cut_old(self, now_ms: int) -> None:
        """Cut the connections that have lived their time."""
        while self.cut_ms is not None and self.cut_ms <= now_ms:
            oldest = next(iter(self._connections))
            oldest.closed(now_ms)
            oldest.hang_up()

    def carries_keys(self, route: str) -> bool:
        """Tell whether listen keys are heard on the route."""
        return route == "private" or (route == "" and self.options.unrouted_user_data)

    def join(self, session: Session, stream: str) -> None:
        """Let the session hear the stream if it exists and belongs to the session's route."""
        channel = self._channels.get(stream)
        if channel and session not in channel.sessions and session.route in _routes_of(channel.kind):
            channel.sessions.append(session)
            if channel.watcher:
                channel.watcher.joined()

    def leave(self, session: Session, stream: str) -> None:
        """Let the session no longer hear the stream."""
        channel = self._channels.get(stream)
        if channel and session in channel.sessions:
            channel.sessions.remove(session)
            if channel.watcher:
                channel.watcher.left()

    def forget(self, session: Session) -> None:
        """Drop the session everywhere."""
        for stream in list(session.streams):
            self.leave(session, stream)
        if session in self.sessions:
            self.sessions.remove(session)
        self.detach(session)

    def silence(self, kind: str, until_ms: int, now_ms: int) -> None:
        """Withhold payloads of a kind (bookTicker, depth, kline, or an event name of the user stream)."""
        still = {name: end_ms for name, end_ms in self._silent_until_ms.items() if end_ms > now_ms}
        self._silent_until_ms = {**still, kind_of(kind): until_ms}

    def is_silent(self, kind: str, now_ms: int) -> bool:
        """Tell whether payloads of ``kind`` are withheld."""
        return now_ms < self._silent_until_ms.get(kind, 0)

    def publish(self, channel: Channel, payload: str, now_ms: int) -> None:
        """Deliver a payload to all who hear the channel, unless it is silenced."""
        if self._silent_until_ms and self.is_silent(channel.kind, now_ms):
            return
        for session in tuple(channel.sessions):
            session.send(channel.name, payload)


class UserStream:
    """The account's listen key and the delivery of its events."""

    def __init__(self, hub: Hub, seed: str) -> None:
        self._hub = hub
        self._seed = seed
        self._made = 0
        self._key = ""
        self.expires_ms: int | None = None

    def open(self, now_ms: int) -> str:
        """Return the listen key, valid for 60 minutes from now: the present one if there is one."""
        if self.expires_ms is None:
            self._made += 1
            text = f"{self._seed}/{self._made}/{now_ms}"
            self._key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self.expires_ms = now_ms + KEY_LIFE_MS
        return self._key

    def keep_alive(self, now_ms: int) -> str:
        """Extend the listen key; raises -1125 if there is none."""
        if self.expires_ms is None:
            raise refusal(-1125)
        return self.open(now_ms)

    def close(self, now_ms: int) -> None:
        """End the listen key: its sockets are told and hear nothing any more."""
        if self.expires_ms is not None:
            self.expires_ms = None
            payload = {"e": "listenKeyExpired", "E": now_ms, "listenKey": self._key}
            self._deliver("listenKeyExpired", json.dumps(payload, separators=(",", ":")), now_ms)

    def expire(self, now_ms: int) -> None:
        """End the listen key if its time is over."""
        if self.expires_ms is not None and self.expires_ms <= now_ms:
            self.close(now_ms)

    @property
    def tells_account_first(self) -> bool:
        """Tell whether ACCOUNT_UPDATE of a fill goes out before the events of its order."""
        return self._hub.options.account_update_first

    @property
    def is_heard(self) -> bool:
        """Tell whether a socket listens under a living key, so that no event is built for nobody."""
        return self.expires_ms is not None and any(
            self._key in session.keys for session in self._hub.sessions
        )

    def publish(self, event: str, payload: str, now_ms: int) -> None:
        """Deliver an event to the sockets of the listen key whose filter lets it pass."""
        if self.expires_ms is not None:
            self._deliver(event, payload, now_ms)

    def _deliver(self, event: str, payload: str, now_ms: int) -> None:
        if self._hub.is_silent(event, now_ms) or self._hub.is_silent("userData", now_ms):
            return
        for session in tuple(self._hub.sessions):
            if self._hears(session, event):
                session.send(self._key, payload)

    def _hears(self, session: Session, event: str) -> bool:
        if self._key not in session.keys or not self._hub.carries_keys(session.route):
            return False
        wanted: Iterable[str] | None = session.keys[self._key]
        return wanted is None or event in wanted


def _routes_of(kind: str) -> tuple[str, ...]:
    return ("public", "") if kind in _PUBLIC_KINDS else ("market",)


def echoed_id(value: object) -> object:
    """Return what may be echoed as an id: a whole number, a string or null."""
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None
