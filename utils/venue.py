"""Where each environment lives. Hosts are pinned here and nowhere else.

Source: binance-futures general info (base URLs), websocket market streams (routed URLs), testnet.
"""

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit


class Environment(StrEnum):
    """Which exchange the daemon talks to."""

    PAPER = "paper"
    TESTNET = "testnet"
    LIVE = "live"


LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HOSTS: dict[Environment, frozenset[str]] = {
    Environment.PAPER: LOOPBACK,
    Environment.TESTNET: frozenset(
        {"demo-fapi.binance.com", "demo-fstream.binance.com", "testnet.binancefuture.com"}
    ),
    Environment.LIVE: frozenset(
        {
            "fapi.binance.com",
            "fstream.binance.com",
            "ws-fapi.binance.com",
            "api.binance.com",
            "stream.binance.com",
        }
    ),
}
"""The only hosts that a run in an environment may ever connect to."""


@dataclass(frozen=True, slots=True)
class Venue:
    """The origins of one environment: REST, streams, the wallet host that knows a key's rights, the WebSocket API.

    Raises ValueError for an origin that is not of the environment: another host, or one that is not encrypted where
    keys are real.
    """

    environment: Environment
    rest_origin: str
    stream_origin: str
    wallet_origin: str
    api_origin: str = ""

    def __post_init__(self) -> None:
        for origin in (self.rest_origin, self.stream_origin, self.wallet_origin, self.api_origin):
            if origin and not _is_of(self.environment, origin):
                raise ValueError(f"{self.environment} trading does not connect to {origin}")


def _is_of(environment: Environment, origin: str) -> bool:
    parts = urlsplit(origin)
    schemes = {"http", "ws"} if environment is Environment.PAPER else {"https", "wss"}
    is_bare = "@" not in parts.netloc and not (parts.path or parts.query or parts.fragment)
    return parts.scheme in schemes and is_bare and parts.hostname in HOSTS[environment]


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
