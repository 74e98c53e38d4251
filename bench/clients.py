"""The clients of `bench/tick_to_order.py`, each in a process of its own: best bid and ask in, one amendment out.

All but the daemon do nothing else: the new price is the bid less a constant. Each is written as its library's own
documents show it.
"""

import asyncio
import hashlib
import hmac
import importlib
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from bench.quiet_venue import AWAY_TICKS, KEY, QUANTITY, SECRET, SYMBOL
from commands.busy_poll import never_asleep

BOOK_STREAM = f"{SYMBOL.lower()}@bookTicker"
_CCXT_SYMBOL = "BTC/USDT:USDT"
_AWAY = AWAY_TICKS / 10


def price_below(bid: str) -> str:
    """Return the price of the order for this bid, both with one decimal."""
    whole, _, tenth = bid.partition(".")
    ticks = int(whole) * 10 + int(tenth[:1] or 0) - AWAY_TICKS
    return f"{ticks // 10}.{ticks % 10}"


def amend_parts(order_id: str) -> tuple[Any, str, str]:
    """Return the HMAC of what is before the price, the JSON before it, and what is signed behind it."""
    before = f"apiKey={KEY}&orderId={order_id}&price="
    after = f"&quantity={QUANTITY}&recvWindow=5000&side=BUY&symbol={SYMBOL}&timestamp="
    head = (
        f'{{"id":1,"method":"order.modify","params":{{"apiKey":"{KEY}","orderId":{order_id},"quantity":"{QUANTITY}",'
        f'"recvWindow":5000,"side":"BUY","symbol":"{SYMBOL}","price":"'
    )
    return hmac.new(SECRET.encode(), before.encode(), hashlib.sha256), head, after


async def floor(origin: str, order_id: str) -> None:
    """Bare picows on uvloop: decode by msgspec, sign by a prepared HMAC, write a template. Nothing is checked."""
    import msgspec
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    class Data(msgspec.Struct):
        b: str
        a: str

    class Message(msgspec.Struct):
        data: Data

    decode = msgspec.json.Decoder(Message).decode
    signed, head, after = amend_parts(order_id)
    origin = origin.replace("http", "ws", 1)

    class Book(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002
            data = decode(frame.get_payload_as_memoryview()).data
            price = price_below(data.b)
            now_ms = time.time_ns() // 1_000_000  # noqa: TID251 - what a signature holds
            digest = signed.copy()
            digest.update(f"{price}{after}{now_ms}".encode())
            text = f'{head}{price}","timestamp":{now_ms},"signature":"{digest.hexdigest()}"}}}}'
            api.send(WSMsgType.TEXT, text.encode())

    api, _ = await ws_connect(WSListener, f"{origin}/ws-fapi/v1")
    book, _ = await ws_connect(Book, f"{origin}/public/stream?streams={BOOK_STREAM}")
    await book.wait_disconnected()


async def by_ccxt(origin: str, order_id: str) -> None:
    """ccxt's own loop: watch_bids_asks, edit_order over REST."""
    client = ccxt_client(origin)
    try:
        await client.load_markets()
        last = 0.0
        while True:
            tickers = await client.watch_bids_asks([_CCXT_SYMBOL])
            price = tickers[_CCXT_SYMBOL]["bid"] - _AWAY
            if price != last:  # which the exchange would refuse
                last = price
                await client.edit_order(order_id, _CCXT_SYMBOL, "limit", "buy", float(QUANTITY), price)
    finally:
        await client.close()


def ccxt_client(origin: str) -> Any:
    """Return ccxt's client at the venue; currencies would come from Binance's wallet, which is not simulated."""
    client: Any = importlib.import_module("ccxt.pro").binanceusdm(
        {"apiKey": KEY, "secret": SECRET, "enableRateLimit": False, "options": {"fetchCurrencies": False}}
    )
    sockets = origin.replace("http", "ws", 1)
    api = client.urls["api"]
    for name, url in list(api.items()):
        if name != "ws":
            api[name] = f"{origin}/{'/'.join(url.split('/')[3:])}"
    api["ws"] = {name: f"{sockets}/ws" for name in api["ws"] if name != "ws-api"} | {
        "ws-api": {"linear": f"{sockets}/ws-fapi/v1"}
    }
    return client


async def by_python_binance(origin: str, order_id: str) -> None:
    """python-binance's socket manager, and its order entry by the WebSocket API."""
    from binance import AsyncClient
    from binance.ws.streams import BinanceSocketManager

    sockets = origin.replace("http", "ws", 1)
    AsyncClient.WS_FUTURES_URL = f"{sockets}/ws-fapi/v1"
    BinanceSocketManager.FSTREAM_URL = f"{sockets}/"
    client = AsyncClient(KEY, SECRET)
    try:
        async with BinanceSocketManager(client).symbol_ticker_futures_socket(SYMBOL) as stream:
            last = ""
            while True:
                price = price_below((await stream.recv())["data"]["b"])
                if price != last:  # which the exchange would refuse
                    last = price
                    await client.ws_futures_edit_order(
                        orderId=order_id, symbol=SYMBOL, side="BUY", quantity=QUANTITY, price=price
                    )
    finally:
        await client.close_connection()


CLIENTS: dict[str, Callable[[str, str], Awaitable[None]]] = {
    "floor": floor,
    "busy floor": floor,
    "ccxt": by_ccxt,
    "python-binance": by_python_binance,
}
_FLOOR_NEEDS = ("picows", "uvloop")
NEEDS = {
    "floor": _FLOOR_NEEDS,
    "busy floor": _FLOOR_NEEDS,
    "ccxt": ("ccxt",),
    "python-binance": ("binance",),
    "daemon": (),
    "busy daemon": (),
}
"""What has to be installed for each, beside what the daemon needs."""


def run(kind: str, origin: str, order_id: str) -> None:
    """A client works until it is ended."""

    async def work() -> None:
        with never_asleep() if kind == "busy floor" else nullcontext():
            await CLIENTS[kind](origin, order_id)

    loop_factory = None
    if CLIENTS[kind] is floor:
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(work())
