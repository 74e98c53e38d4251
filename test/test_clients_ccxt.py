"""ccxt's `binanceusdm`, REST and pro, as it is installed: nothing but its URLs points at the simulated exchange.

ccxt's own reading of Binance's replies is the reference here: what it maps to a field or an exception class is what its
users rely on.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import ccxt
import ccxt.pro
import pytest

from .served import Served, repeated, served
from .sim_factory import KEY, SECRET

MARKET = "BTC/USDT:USDT"
ID = "BTCUSDT"


def client_of(exchange: Served, **config: Any) -> Any:
    """Return ccxt's client at the exchange; currencies would come from Binance's wallet, which is not simulated."""
    settings = {"apiKey": KEY, "secret": SECRET, "enableRateLimit": False, **config}
    settings["options"] = {"fetchCurrencies": False, **config.get("options", {})}
    client = ccxt.pro.binanceusdm(settings)
    api = client.urls["api"]
    for name, url in list(api.items()):
        if name != "ws":
            api[name] = f"{exchange.url}/{'/'.join(url.split('/')[3:])}"
    api["ws"] = {name: f"{exchange.ws_url}/ws" for name in api["ws"] if name != "ws-api"} | {
        "ws-api": {"linear": f"{exchange.ws_url}/ws-fapi/v1"}
    }
    return client


@asynccontextmanager
async def trading(**config: Any) -> AsyncIterator[tuple[Any, Served]]:
    """An exchange is served and ccxt knows its markets."""
    async with served() as exchange:
        client = client_of(exchange, **config)
        try:
            await client.load_markets()
            yield client, exchange
        finally:
            await client.close()


async def limit(client: Any, side: str, price: float, amount: float = 0.01, **params: Any) -> Any:
    """Place a limit order, post-only unless said otherwise."""
    params = {"timeInForce": "GTX", **params}
    return await client.create_order(MARKET, "limit", side, amount, price, params)


async def refused(awaited: Awaitable[Any], kind: type[Exception], code: int) -> None:
    """The request has been refused with `code`; ccxt raises `kind` for it, on any URL or only on Binance's."""
    with pytest.raises(ccxt.BaseError) as caught:
        await awaited
    assert f'"code":{code}' in str(caught.value).replace(" ", "")
    assert kind in (type(caught.value), kind_at_binance(str(caught.value)))


def kind_at_binance(message: str) -> type[Exception] | None:
    """Return what ccxt, which has tables by host name too, raises for the same reply of fapi.binance.com."""
    body = message.partition(" ")[2]
    client = ccxt.binanceusdm()
    try:
        client.handle_errors(400, "", "https://fapi.binance.com/", "", {}, body, json.loads(body), None, None)
    except ccxt.BaseError as error:
        return type(error)
    return None


async def test_market_data_reads_as_binances() -> None:
    """Time, rules, book, tickers, trades, candles and funding parse into ccxt's own structures."""
    async with trading() as (client, exchange):
        assert abs(await client.fetch_time() - client.milliseconds()) < 1000
        market = client.market(MARKET)
        assert (market["id"], market["linear"], market["swap"], market["active"]) == (ID, True, True, True)
        assert (market["precision"]["price"], market["precision"]["amount"]) == (0.1, 0.001)
        assert market["limits"]["cost"]["min"] == 50
        assert market["limits"]["amount"] == {"min": 0.001, "max": 1000}
        assert market["limits"]["market"]["max"] == 120
        exchange.trade("50000.10", "0.5", sold=False)
        book = await client.fetch_order_book(MARKET, 5)
        assert (book["bids"][0], book["asks"][0]) == ([50000, 10], [50000.1, 10])
        assert book["nonce"] > 0
        quote = (await client.fetch_bids_asks([MARKET]))[MARKET]
        assert (quote["bid"], quote["askVolume"]) == (50000, 10)
        ticker = await client.fetch_ticker(MARKET)
        assert (ticker["last"], ticker["baseVolume"]) == (50000.1, 0.5)
        trade = (await client.fetch_trades(MARKET))[-1]
        assert (trade["price"], trade["amount"], trade["side"]) == (50000.1, 0.5, "buy")
        candle = (await client.fetch_ohlcv(MARKET, "1m"))[-1]
        assert (candle[4], candle[5]) == (50000.1, 0.5)
        funding = await client.fetch_funding_rate(MARKET)
        assert funding["markPrice"] == pytest.approx(50000, rel=0.001)
        assert funding["fundingTimestamp"] > client.milliseconds()


async def test_account_is_set_up() -> None:
    """Balance, leverage, margin mode, position mode, fees and brackets are read and set."""
    async with trading() as (client, _):
        assert (await client.fetch_balance())["USDT"] == {"free": 100_000, "used": 0, "total": 100_000}
        assert (await client.set_leverage(10, MARKET))["leverage"] == 10
        assert (await client.fetch_leverages([MARKET]))[MARKET]["longLeverage"] == 10
        await refused(client.set_margin_mode("cross", MARKET), ccxt.MarginModeAlreadySet, -4046)
        assert (await client.set_position_mode(True))["code"] == 200
        assert (await client.fetch_position_mode())["hedged"] is True
        assert (await client.set_position_mode(False))["code"] == 200
        assert (await client.fetch_position_mode())["hedged"] is False
        await refused(client.set_position_mode(False), ccxt.OperationRejected, -4059)
        fees = await client.fetch_trading_fee(MARKET)
        assert (fees["maker"], fees["taker"]) == (0.0002, 0.0005)
        tiers = (await client.fetch_leverage_tiers([MARKET]))[MARKET]
        assert tiers[0]["maxLeverage"] == 125
        assert await client.fetch_positions([MARKET]) == []


async def test_orders_live_their_lives() -> None:
    """Placing, reading, amending, batches and cancelling end in the states ccxt expects."""
    async with trading() as (client, _):
        placed = await limit(client, "buy", 49_900, newClientOrderId="quote-1")
        assert (placed["status"], placed["clientOrderId"], placed["timeInForce"]) == ("open", "quote-1", "PO")
        read = await client.fetch_order(placed["id"], MARKET)
        assert (read["price"], read["amount"], read["filled"], read["postOnly"]) == (49_900, 0.01, 0, True)
        by_name = await client.fetch_order(None, MARKET, {"clientOrderId": "quote-1"})
        assert by_name["id"] == placed["id"]
        edited = await client.edit_order(placed["id"], MARKET, "limit", "buy", 0.02, 49_910)
        assert (edited["id"], edited["price"], edited["amount"]) == (placed["id"], 49_910, 0.02)
        requests = [
            {
                "symbol": MARKET,
                "type": "limit",
                "side": "sell",
                "amount": 0.01,
                "price": 50_100 + step,
                "params": {"timeInForce": "GTX"},
            }
            for step in range(3)
        ]
        batch = await client.create_orders([*requests, {**requests[0], "price": 49_000}])
        assert [order["status"] for order in batch] == ["rejected", "open", "open", "open"]  # it sorts by id
        assert len(await client.fetch_open_orders(MARKET)) == 4
        edits = [
            {
                "id": order["id"],
                "symbol": MARKET,
                "type": "limit",
                "side": "sell",
                "amount": 0.01,
                "price": 50_200 + step,
            }
            for step, order in enumerate(batch[1:3])
        ]
        assert [order["price"] for order in await client.edit_orders(edits)] == [50_200, 50_201]
        cancelled = await client.cancel_order(placed["id"], MARKET)
        assert (cancelled["status"], cancelled["remaining"]) == ("canceled", 0.02)
        gone = await client.cancel_orders([batch[1]["id"], "999999"], MARKET)
        assert [order["id"] for order in gone if order["status"] == "canceled"] == [batch[1]["id"]]
        assert await client.cancel_all_orders(MARKET)
        assert await client.fetch_open_orders(MARKET) == []
        statuses = {order["id"]: order["status"] for order in await client.fetch_orders(MARKET)}
        assert set(statuses.values()) == {"canceled"}
        assert len(statuses) == 4
        assert len(await client.fetch_canceled_orders(MARKET)) == 4


async def test_fills_reach_position_trades_and_ledger() -> None:
    """A market order, a resting order that the market reaches, and a reduce-only close add up."""
    async with trading() as (client, exchange):
        await client.set_leverage(20, MARKET)
        bought = await client.create_order(MARKET, "market", "buy", 0.1)
        assert bought["type"] == "market"
        order = await client.fetch_order(bought["id"], MARKET)
        assert (order["status"], order["filled"], order["average"]) == ("closed", 0.1, 50_000.1)
        position = (await client.fetch_positions([MARKET]))[0]
        assert (position["side"], position["contracts"], position["entryPrice"]) == ("long", 0.1, 50_000.1)
        assert position["hedged"] is False
        assert (await client.fetch_balance())["USDT"]["used"] == pytest.approx(250, rel=0.01)
        offered = await limit(client, "sell", 50_000.1, 0.05, reduceOnly=True)
        exchange.trade("50000.20", "1", sold=False)
        order = await client.fetch_order(offered["id"], MARKET)
        assert (order["status"], order["reduceOnly"]) == ("closed", True)
        trades = await client.fetch_my_trades(MARKET)
        assert [(row["side"], row["takerOrMaker"], row["amount"]) for row in trades] == [
            ("buy", "taker", 0.1),
            ("sell", "maker", 0.05),
        ]
        assert trades[0]["fee"] == {"cost": pytest.approx(2.500005), "currency": "USDT"}
        closing = await client.create_order(MARKET, "market", "sell", 0.05, None, {"reduceOnly": True})
        assert (await client.fetch_order(closing["id"], MARKET))["average"] == 50_000
        assert await client.fetch_positions([MARKET]) == []
        fees = await client.fetch_ledger("USDT", None, None, {"type": "swap"})
        assert {row["type"] for row in fees} == {"commission", "trade"}
        assert (await client.fetch_balance())["USDT"]["free"] == pytest.approx(100_000 - 4.255, abs=0.01)


REFUSALS: list[tuple[str, type[Exception], int, Callable[[Any], Awaitable[Any]]]] = [
    ("post-only that would take", ccxt.InvalidOrder, -5022, lambda c: limit(c, "buy", 50_100)),
    ("margin", ccxt.InsufficientFunds, -2019, lambda c: limit(c, "buy", 49_900, 900)),
    ("reduce-only when flat", ccxt.InvalidOrder, -2022, lambda c: limit(c, "sell", 50_100, reduceOnly=True)),
    ("notional", ccxt.InvalidOrder, -4164, lambda c: limit(c, "buy", 40_000, 0.001)),
    ("fill or kill", ccxt.InvalidOrder, -5021, lambda c: limit(c, "buy", 50_000.1, 20, timeInForce="FOK")),
    ("price above the band", ccxt.BadRequest, -4016, lambda c: limit(c, "buy", 60_000, timeInForce="GTC")),
    ("cancel of the unknown", ccxt.OrderNotFound, -2011, lambda c: c.cancel_order("99", MARKET)),
    ("query of the unknown", ccxt.OrderNotFound, -2013, lambda c: c.fetch_order("99", MARKET)),
    (
        "leverage",
        ccxt.BadRequest,
        -4028,
        lambda c: c.fapiPrivatePostLeverage({"symbol": ID, "leverage": 126}),
    ),
    ("symbol", ccxt.BadSymbol, -1121, lambda c: c.fapiPublicGetDepth({"symbol": "NOPEUSDT"})),
    ("depth limit", ccxt.BadRequest, -4021, lambda c: c.fapiPublicGetDepth({"symbol": ID, "limit": 3})),
    (
        "missing parameter",
        ccxt.BadRequest,
        -1102,
        lambda c: c.fapiPrivatePostOrder({"symbol": ID, "side": "BUY", "type": "LIMIT"}),
    ),
    (
        "side",
        ccxt.BadRequest,
        -1117,
        lambda c: c.fapiPrivatePostOrder({"symbol": ID, "side": "UP", "type": "LIMIT"}),
    ),
    ("tick", ccxt.BadRequest, -4014, lambda c: raw_order(c, price="49900.05")),
    ("precision", ccxt.BadRequest, -1111, lambda c: raw_order(c, quantity="0.0015")),
    ("client id", ccxt.BadRequest, -4015, lambda c: raw_order(c, newClientOrderId="x" * 40)),
    ("listen key", ccxt.AuthenticationError, -1125, lambda c: c.fapiPrivatePutListenKey()),
]


async def raw_order(client: Any, **changes: str) -> Any:
    """Place an order past ccxt's own rounding."""
    order = {
        "symbol": ID,
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTX",
        "quantity": "0.010",
        "price": "49900",
    }
    return await client.fapiPrivatePostOrder({**order, **changes})


async def test_refusals_are_the_ones_that_ccxt_knows() -> None:
    """Each code comes with the HTTP status and text by which ccxt finds its exception class (facts 9)."""
    async with trading() as (client, _):
        for what, kind, code, request in REFUSALS:
            try:
                await refused(request(client), kind, code)
            except (AssertionError, ccxt.BaseError) as error:
                raise AssertionError(f"{what}: {error}") from error


async def test_repeated_ids_and_idle_amendments_are_refused() -> None:
    """-4116 for an id that is open, -5027 for an amendment that changes nothing (facts 4.3, 9)."""
    async with trading() as (client, _):
        first = await limit(client, "buy", 49_900, newClientOrderId="twice")
        again = limit(client, "buy", 49_800, newClientOrderId="twice")
        await refused(again, ccxt.InvalidOrder, -4116)
        same = client.edit_order(first["id"], MARKET, "limit", "buy", 0.01, 49_900)
        await refused(same, ccxt.OperationRejected, -5027)
        assert len(await client.fetch_open_orders(MARKET)) == 1


async def test_foreign_keys_signatures_and_clocks_are_refused() -> None:
    """-2015, -1022 and -1021 reach ccxt as the exceptions it has for them (facts 2, 9)."""
    async with trading() as (client, exchange):
        for config, kind, code in [
            ({"apiKey": "nobody"}, ccxt.AuthenticationError, -2015),
            ({"secret": "wrong"}, ccxt.AuthenticationError, -1022),
            ({"options": {"timeDifference": 20_000}}, ccxt.InvalidNonce, -1021),
            ({"options": {"timeDifference": -20_000}}, ccxt.InvalidNonce, -1021),
        ]:
            stranger = client_of(exchange, **config)
            try:
                stranger.set_markets(client.markets)
                await refused(stranger.fapiPrivateV3GetBalance(), kind, code)
            finally:
                await stranger.close()


async def test_market_streams_are_understood() -> None:
    """Tickers, trades, marks, candles, and an order book that ccxt keeps in step by `pu` (facts 6)."""
    async with trading() as (client, exchange):
        step = iter(range(10_000))

        def stir() -> None:
            shift = next(step) % 50
            exchange.quote(f"{50_000 + shift}.00", f"{50_000 + shift}.10", "7", "3")
            exchange.trade(f"{50_000 + shift}.10", "0.25", sold=False)

        async def told(awaited: Awaitable[Any]) -> Any:
            return await repeated(stir, asyncio.ensure_future(awaited))

        quote = (await told(client.watch_bids_asks([MARKET])))[MARKET]
        assert (quote["bidVolume"], quote["askVolume"]) == (7, 3)
        trade = (await told(client.watch_trades(MARKET)))[-1]
        assert (trade["side"], trade["amount"], trade["symbol"]) == ("buy", 0.25, MARKET)
        candle = (await told(client.watch_ohlcv(MARKET, "1m")))[-1]
        assert candle[5] >= 0.25
        mark = await told(client.watch_mark_price(MARKET))
        assert mark["markPrice"] == pytest.approx(50_000, rel=0.01)
        book = await told(client.watch_order_book(MARKET))
        for _ in range(5):
            book = await told(client.watch_order_book(MARKET))
        assert book["bids"][0][0] < book["asks"][0][0]
        assert book["asks"][0][1] == 3
        assert 50_000 <= book["bids"][0][0] <= 50_050


async def test_isolated_margin_is_set_filled_and_adjusted() -> None:
    """set_margin_mode("isolated"), the position as ccxt sees it, add_margin and its history, and the way back."""
    async with trading() as (client, _):
        assert (await client.set_margin_mode("isolated", MARKET))["code"] == 200
        await refused(client.set_margin_mode("isolated", MARKET), ccxt.MarginModeAlreadySet, -4046)
        assert (await client.fetch_margin_mode(MARKET))["marginMode"] == "isolated"
        assert (await client.set_leverage(10, MARKET))["leverage"] == 10
        await client.create_order(MARKET, "market", "buy", 0.1)
        await refused(client.set_leverage(5, MARKET), ccxt.ExchangeError, -4161)
        await refused(client.set_margin_mode("cross", MARKET), ccxt.OperationRejected, -4048)
        (position,) = await client.fetch_positions([MARKET])
        assert (position["marginMode"], position["contracts"]) == ("isolated", 0.1)
        assert position["collateral"] == pytest.approx(500, abs=0.1)
        added = await client.add_margin(MARKET, 100)
        assert (added["status"], added["type"], added["amount"]) == ("ok", "add", 100)
        (position,) = await client.fetch_positions([MARKET])
        assert position["collateral"] == pytest.approx(600, abs=0.1)
        history = await client.fetch_margin_adjustment_history(MARKET)
        assert [row["amount"] for row in history] == [500.001, 100]
        await client.create_order(MARKET, "market", "sell", 0.1, None, {"reduceOnly": True})
        assert (await client.set_margin_mode("cross", MARKET))["code"] == 200


async def test_own_orders_fills_positions_and_balance_are_streamed() -> None:
    """The user data stream tells of every state of an order, of fills, the position and the wallet (facts 7)."""
    async with trading() as (client, exchange):
        heard = [asyncio.ensure_future(watch()) for watch in (client.watch_orders, client.watch_my_trades)]
        await asyncio.sleep(0.5)
        placed = await limit(client, "buy", 50_000, 0.02, newClientOrderId="mine")
        first = (await asyncio.wait_for(heard[0], 5))[-1]
        assert (first["id"], first["clientOrderId"], first["status"]) == (placed["id"], "mine", "open")
        amended = asyncio.ensure_future(client.watch_orders(MARKET))
        await client.edit_order(placed["id"], MARKET, "limit", "buy", 0.03, 49_999)
        last = (await asyncio.wait_for(amended, 5))[-1]
        assert (last["price"], last["amount"], last["status"]) == (49_999, 0.03, "open")
        position = asyncio.ensure_future(client.watch_positions([MARKET]))
        filled = asyncio.ensure_future(client.watch_orders(MARKET))
        await asyncio.sleep(0.2)
        exchange.trade("49998.00", "1")
        last = (await asyncio.wait_for(filled, 5))[-1]
        assert (last["status"], last["filled"], last["average"]) == ("closed", 0.03, 49_999)
        fill = (await asyncio.wait_for(heard[1], 5))[-1]
        assert (fill["order"], fill["takerOrMaker"], fill["amount"]) == (placed["id"], "maker", 0.03)
        assert fill["fee"]["cost"] == pytest.approx(0.03 * 49_999 * 0.0002)
        seen = (await asyncio.wait_for(position, 5))[-1]
        assert (seen["side"], seen["contracts"], seen["entryPrice"]) == ("long", 0.03, 49_999)
        assert client.balance["linear"]["USDT"]["total"] == pytest.approx(100_000 - 0.03 * 49_999 * 0.0002)


async def test_orders_over_the_websocket_api() -> None:
    """Placing, amending, reading and cancelling, the balance and the position go over one socket (facts 8)."""
    async with trading() as (client, _):
        placed = await client.create_order_ws(MARKET, "limit", "buy", 0.01, 49_900, {"timeInForce": "GTX"})
        assert (placed["status"], placed["price"]) == ("open", 49_900)
        edited = await client.edit_order_ws(placed["id"], MARKET, "limit", "buy", 0.02, 49_800)
        assert (edited["id"], edited["price"], edited["amount"]) == (placed["id"], 49_800, 0.02)
        assert (await client.fetch_order_ws(placed["id"], MARKET))["status"] == "open"
        crossing = client.create_order_ws(MARKET, "limit", "buy", 0.01, 50_100, {"timeInForce": "GTX"})
        await refused(crossing, ccxt.InvalidOrder, -5022)
        assert (await client.cancel_order_ws(placed["id"], MARKET))["status"] == "canceled"
        await refused(client.cancel_order_ws(placed["id"], MARKET), ccxt.OrderNotFound, -2011)
        await client.create_order_ws(MARKET, "market", "buy", 0.01)
        assert (await client.fetch_positions_ws([MARKET]))[0]["contracts"] == 0.01
        assert (await client.fetch_balance_ws())["USDT"]["total"] < 100_000
        book = await client.fetch_order_book_ws(MARKET, 5)
        assert book["bids"][0] == [50_000, 10]
        quote = await client.fetch_ticker_ws(MARKET, {"method": "ticker.book"})
        assert quote["ask"] == 50_000.1
