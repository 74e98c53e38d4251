"""Where each environment lives. Hosts are pinned here and nowhere else.

Source: binance-futures general info (base URLs), websocket market streams (routed URLs), testnet.
"""

from dataclasses import dataclass
from enum import StrEnum


class Environment(StrEnum):
    """Which exchange the daemon talks to."""

    PAPER = "paper"
    TESTNET = "testnet"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Venue:
    """The origins of one environment: REST, streams, the wallet host that knows a key's rights, the WebSocket API."""

    environment: Environment
    rest_origin: str
    stream_origin: str
    wallet_origin: str
    api_origin: str = ""


LIVE = Venue(
    Environment.LIVE,
    "https://fapi.binance.com",
    "wss://fstream.binance.com",
    "https://api.binance.com",
    "wss://ws-fapi.binance.com",
)
TESTNET = Venue(
    Environment.TESTNET,
    "https://demo-fapi.binance.com",
    "wss://demo-fstream.binance.com",
    "",
    "wss://testnet.binancefuture.com",
)
SPOT = Venue(Environment.LIVE, "https://api.binance.com", "wss://stream.binance.com:9443", "")
"""The spot market, whose public data the demos can show; nothing is traded there."""


def paper_venue(origin: str) -> Venue:
    """Return the venue of a simulated exchange at this loopback origin, for example ``http://127.0.0.1:8080``."""
    origin = origin.rstrip("/")
    sockets = origin.replace("http://", "ws://", 1)
    return Venue(Environment.PAPER, origin, sockets, origin, sockets)


def public_target(streams: list[str]) -> str:
    """Return the path of high-frequency market streams (bookTicker, depth)."""
    return f"/public/stream?streams={'/'.join(streams)}"


def market_target(streams: list[str]) -> str:
    """Return the path of regular market streams (markPrice, aggTrade, kline)."""
    return f"/market/stream?streams={'/'.join(streams)}"


USER_EVENTS = (
    "ORDER_TRADE_UPDATE",
    "ACCOUNT_UPDATE",
    "ACCOUNT_CONFIG_UPDATE",
    "MARGIN_CALL",
    "TRADE_LITE",
    "listenKeyExpired",
)


def private_target(listen_key: str) -> str:
    """Return the path of the user data stream, with the events named (leaving them out was unreliable)."""
    return f"/private/ws?listenKey={listen_key}&events={'/'.join(USER_EVENTS)}"
