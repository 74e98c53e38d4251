"""A simulated exchange in the hand: a market that tests write as they go, and signed requests in one line."""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from sim.auth import sign
from sim.exchange import ApiKey, Connection, Exchange, Options, Request
from sim.market import BookTicker, MarketEvent, Trade
from sim.rules import MAINNET, SymbolRules

START_MS = 1_700_000_000_000  # 22:13:20 UTC; the next funding is at midnight
KEY, SECRET = "paper-key", "paper-secret"


class ScriptedMarket:
    """A market whose events a test appends."""

    def __init__(self, rules: Mapping[str, SymbolRules]) -> None:
        self.rules = rules
        self.events: deque[MarketEvent] = deque()

    def peek_ms(self) -> int | None:
        """Return the time of the next event, None if none is scripted."""
        return self.events[0].time_ms if self.events else None

    def take(self) -> MarketEvent:
        """Return the next event."""
        return self.events.popleft()


@dataclass(frozen=True)
class Reply:
    """What came back, decoded."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> int:
        """Return the error code."""
        return int(self.body["code"])


class Rig:
    """An exchange at 50000.00 / 50000.10 in BTCUSDT, one lot step of 0.001, with ten coins shown on each side."""

    def __init__(
        self,
        *symbols: str,
        wallet: str = "100000",
        options: Options | None = None,
        quoted: bool = True,
        keys: Sequence[ApiKey] = (),
    ) -> None:
        self.rules = {symbol: MAINNET[symbol] for symbol in symbols or ("BTCUSDT",)}
        self.market = ScriptedMarket(self.rules)
        self.now_ms = START_MS
        self.exchange = Exchange(
            self.market,
            api_key=KEY,
            api_secret=SECRET,
            now_ms=START_MS,
            wallet_quote=Decimal(wallet),
            options=options,
            keys=keys,
        )
        self.updates = 0
        if quoted:
            for symbol in self.rules:
                self.quote("50000.00", "50000.10", symbol=symbol)

    def quote(
        self, bid: str, ask: str, bid_qty: str = "10", ask_qty: str = "10", symbol: str = "BTCUSDT"
    ) -> None:
        """Let the best bid and ask become these, one millisecond later."""
        rules = self.rules[symbol]
        self.updates += 1
        self._happen(
            BookTicker(
                self.now_ms + 1,
                symbol,
                self.updates,
                rules.price_ticks(Decimal(bid)),
                rules.lots(Decimal(bid_qty)),
                rules.price_ticks(Decimal(ask)),
                rules.lots(Decimal(ask_qty)),
            )
        )

    def trade(self, price: str, qty: str, *, sold: bool = True, symbol: str = "BTCUSDT") -> None:
        """Let the market trade, one millisecond later; `sold` says that the taker sold."""
        rules = self.rules[symbol]
        self.updates += 1
        ticks, lots = rules.price_ticks(Decimal(price)), rules.lots(Decimal(qty))
        self._happen(Trade(self.now_ms + 1, symbol, self.updates, ticks, lots, 1, 2, sold))

    def wait(self, ms: int) -> None:
        """Let time pass."""
        self.now_ms += ms
        self.exchange.advance(self.now_ms)

    def listen(self, target: str) -> tuple[Connection, list[Any]]:
        """Open a stream; return its session and the list in which its payloads arrive, decoded."""
        heard: list[Any] = []
        session = self.exchange.open_session(target, lambda text: heard.append(json.loads(text)), self.now_ms)
        return session, heard

    def listen_to_user(self) -> list[Any]:
        """Open the user data stream and return the list in which its events arrive."""
        key = self.call("POST", "/fapi/v1/listenKey").body["listenKey"]
        return self.listen(f"/private/ws?listenKey={key}")[1]

    def call(self, method: str, path: str, **params: object) -> Reply:
        """Send a signed request of the account."""
        query = urlencode({**params, "timestamp": self.now_ms})
        return self.send(method, path, f"{query}&signature={sign(SECRET, query)}")

    def send(self, method: str, path: str, query: str = "", body: str = "", key: str = KEY) -> Reply:
        """Send a request as it is."""
        headers = {"x-mbx-apikey": key} if key else {}
        reply = self.exchange.handle(Request(method, path, query, headers, body), self.now_ms)
        return Reply(reply.status, reply.headers, json.loads(reply.body))

    def place(self, side: str, price: str, qty: str, tif: str = "GTX", **more: object) -> Reply:
        """Place a LIMIT order on BTCUSDT."""
        more = {"symbol": "BTCUSDT", "timeInForce": tif, **more}
        return self.call("POST", "/fapi/v1/order", side=side, type="LIMIT", price=price, quantity=qty, **more)

    def take(self, side: str, qty: str, **more: object) -> Reply:
        """Place a MARKET order on BTCUSDT and see how it ended."""
        more = {"symbol": "BTCUSDT", "newOrderRespType": "RESULT", **more}
        return self.call("POST", "/fapi/v1/order", side=side, type="MARKET", quantity=qty, **more)

    def amend(self, client_id: str, side: str, price: str, qty: str, **more: object) -> Reply:
        """Amend an order on BTCUSDT."""
        more = {"symbol": "BTCUSDT", "origClientOrderId": client_id, **more}
        return self.call("PUT", "/fapi/v1/order", side=side, price=price, quantity=qty, **more)

    def order(self, client_id: str) -> Any:
        """Return an order as the exchange shows it."""
        return self.call("GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId=client_id).body

    def position(self) -> str:
        """Return the amount of the BTCUSDT position as text, "0.000" if flat."""
        rows = self.call("GET", "/fapi/v3/positionRisk", symbol="BTCUSDT").body
        return str(rows[0]["positionAmt"]) if rows else "0.000"

    def record(self) -> Any:
        """Return the exchange's own record."""
        return self.send("GET", "/sim/record", "symbol=BTCUSDT").body

    def _happen(self, event: MarketEvent) -> None:
        self.market.events.append(event)
        self.wait(1)


def executions(heard: list[Any]) -> list[tuple[str, str]]:
    """Return (client id, execution type) of the order events in `heard`."""
    return [(event["o"]["c"], event["o"]["x"]) for event in heard if event["e"] == "ORDER_TRADE_UPDATE"]
