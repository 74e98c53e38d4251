"""Binance's official SDK for USDⓈ-M futures, as installed: REST, streams and WebSocket API at the simulated exchange.

Its models are generated from Binance's own description of the interface: a reply that does not fit one raises.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.errors import BadRequestError, UnauthorizedError
from binance_sdk_derivatives_trading_usds_futures import DerivativesTradingUsdsFutures
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sim.exchange import ApiKey

from .served import SYMBOL, Served, Shifted, repeated, served
from .sim_factory import KEY, SECRET

# It passes aiohttp an argument that aiohttp calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning")

Ask = Callable[..., Any]


def sdk(exchange: Served, key: str = KEY, secret: str | None = SECRET, **private: Any) -> Any:
    """Return the SDK's client; URLs and keys are all that it is given."""
    return DerivativesTradingUsdsFutures(
        ConfigurationRestAPI(api_key=key, api_secret=secret, base_path=exchange.url, timeout=5000, **private),
        ConfigurationWebSocketAPI(
            api_key=key, api_secret=secret, stream_url=f"{exchange.ws_url}/ws-fapi/v1", **private
        ),
        ConfigurationWebSocketStreams(stream_url=exchange.ws_url),
    )


class Rest:
    """The SDK's REST client, which blocks, from a thread; `rest.new_order(...)` is what came back, parsed."""

    def __init__(self, client: Any) -> None:
        self._client = client.rest_api

    def __getattr__(self, name: str) -> Ask:
        async def ask(*args: Any, **kwargs: Any) -> Any:
            reply = await asyncio.to_thread(partial(getattr(self._client, name), *args, **kwargs))
            return reply.data()

        return ask

    async def limit(self, side: str, price: str, quantity: str = "0.010", **more: Any) -> Any:
        """Place a limit order, post-only unless said otherwise."""
        more = {"time_in_force": "GTX", **more}
        return await self.new_order(SYMBOL, side, "LIMIT", quantity=quantity, price=price, **more)


@asynccontextmanager
async def trading(*keys: ApiKey) -> AsyncIterator[tuple[Rest, Served]]:
    """An exchange is served and the SDK's REST client points at it."""
    async with served(*keys) as exchange:
        yield Rest(sdk(exchange)), exchange


async def test_market_data_fits_the_models() -> None:
    """Time, rules, book, quotes, trades, candles, marks and the 24 h ticker."""
    async with trading() as (rest, exchange):
        exchange.trade("50000.10", "0.5", sold=False)
        await rest.test_connectivity()
        assert (await rest.check_server_time()).server_time > 1_600_000_000_000
        rules = next(row for row in (await rest.exchange_information()).symbols if row.symbol == SYMBOL)
        assert (rules.status, rules.contract_type, rules.price_precision) == ("TRADING", "PERPETUAL", 2)
        notional = next(row for row in rules.filters if row.filter_type == "MIN_NOTIONAL")
        assert notional.notional == "50"
        book = await rest.order_book(SYMBOL, limit=5)
        assert book.bids[0] == ["50000.00", "10.000"]
        assert book.last_update_id > 0
        quote = (await rest.symbol_order_book_ticker(SYMBOL)).actual_instance
        assert (quote.bid_price, quote.ask_qty) == ("50000.00", "10.000")
        trade = (await rest.recent_trades_list(SYMBOL))[-1]
        assert (trade.price, trade.is_buyer_maker) == ("50000.10", False)
        aggregate = (await rest.compressed_aggregate_trades_list(SYMBOL))[-1]
        assert (aggregate.p, aggregate.q, aggregate.m) == ("50000.10", "0.500", False)
        candle = (await rest.kline_candlestick_data(SYMBOL, "1m"))[-1]
        assert str(candle[4]).startswith("50000.1")
        mark = (await rest.mark_price(SYMBOL)).actual_instance
        assert float(mark.mark_price) == pytest.approx(50_000, rel=0.001)
        day = (await rest.ticker24hr_price_change_statistics(SYMBOL)).actual_instance
        assert (day.last_price, day.count) == ("50000.10", 1)


async def test_account_is_set_up() -> None:
    """Balances, modes, leverage, brackets, fees, limits and indicators are read and set."""
    async with trading() as (rest, _):
        balance = (await rest.futures_account_balance_v3())[0]
        assert (balance.asset, float(balance.available_balance)) == ("USDT", 100_000)
        account = await rest.account_information_v3()
        assert (float(account.total_wallet_balance), account.positions) == (100_000, [])
        config = await rest.futures_account_configuration()
        assert (config.can_trade, config.dual_side_position) == (True, False)
        assert (await rest.change_initial_leverage(SYMBOL, 10)).leverage == 10
        symbol = (await rest.symbol_configuration(SYMBOL))[0]
        assert (symbol.leverage, symbol.margin_type) == (10, "CROSSED")
        assert (await rest.get_current_position_mode()).dual_side_position is False
        assert (await rest.get_current_multi_assets_mode()).multi_assets_margin is False
        fees = await rest.user_commission_rate(SYMBOL)
        assert float(fees.maker_commission_rate) == 0.0002
        orders = await rest.query_user_rate_limit()
        assert {(row.interval, row.limit) for row in orders} == {("SECOND", 300), ("MINUTE", 1200)}
        await rest.futures_trading_quantitative_rules_indicators(SYMBOL)
        assert (await rest.get_bnb_burn_status()).fee_burn in (True, False)
        await rest.notional_and_leverage_brackets(SYMBOL)
        with pytest.raises(BadRequestError) as caught:
            await rest.change_margin_type(SYMBOL, "CROSSED")
        assert caught.value.status_code == -4046


async def test_isolated_margin_fits_the_models() -> None:
    """Margin type, the margin of a position, and its history."""
    async with trading() as (rest, _):
        assert (await rest.change_margin_type(SYMBOL, "ISOLATED")).code == 200
        assert (await rest.symbol_configuration(SYMBOL))[0].margin_type == "ISOLATED"
        await rest.new_order(SYMBOL, "BUY", "MARKET", quantity=0.1)
        changed = await rest.modify_isolated_position_margin(SYMBOL, 100.0, "1")
        assert (changed.code, changed.amount, changed.type) == (200, 100, 1)
        (row,) = await rest.position_information_v3(SYMBOL)
        assert row.isolated_wallet == "350.00050000"
        history = await rest.get_position_margin_change_history(SYMBOL)
        assert [each.delta_type for each in history] == ["TRADE", "USER_ADJUST"]


async def test_orders_live_their_lives() -> None:
    """Placing, reading, amending, batches, the countdown and cancelling."""
    async with trading() as (rest, _):
        placed = await rest.limit("BUY", "49900", new_client_order_id="quote-1")
        assert (placed.status, placed.client_order_id, placed.time_in_force) == ("NEW", "quote-1", "GTX")
        read = await rest.query_order(SYMBOL, orig_client_order_id="quote-1")
        assert (read.order_id, read.price, read.orig_qty) == (placed.order_id, "49900.00", "0.010")
        assert (await rest.query_current_open_order(SYMBOL, order_id=placed.order_id)).status == "NEW"
        amended = await rest.modify_order(
            SYMBOL, "BUY", "0.020", "49910", order_id=placed.order_id, modify_id=7
        )
        assert (amended.price, amended.orig_qty, amended.modify_id) == ("49910.00", "0.020", 7)
        change = (await rest.get_order_modify_history(SYMBOL, order_id=placed.order_id))[0]
        assert change.amendment.price.before == "49900.00"
        assert change.amendment.price.after == "49910.00"
        await rest.test_order(SYMBOL, "BUY", "LIMIT", time_in_force="GTX", quantity="0.01", price="49000")
        base = {"symbol": SYMBOL, "side": "SELL", "type": "LIMIT", "timeInForce": "GTX", "quantity": "0.010"}
        batch = await rest.place_multiple_orders(
            [{**base, "price": price} for price in ("50100", "50101", "49000")]
        )
        assert [row.status for row in batch] == ["NEW", "NEW", None]
        assert batch[2].code == -5022
        edits = [
            {"symbol": SYMBOL, "side": "SELL", "orderId": row.order_id, "quantity": "0.010", "price": "50200"}
            for row in batch[:2]
        ]
        assert [row.price for row in await rest.modify_multiple_orders(edits)] == ["50200.00", "50200.00"]
        assert len(await rest.current_all_open_orders(SYMBOL)) == 3
        gone = await rest.cancel_multiple_orders(SYMBOL, order_id_list=[batch[0].order_id, 999])
        assert [(row.status, row.code) for row in gone] == [("CANCELED", None), (None, -2011)]
        assert (await rest.cancel_order(SYMBOL, order_id=placed.order_id)).status == "CANCELED"
        armed = await rest.auto_cancel_all_open_orders(SYMBOL, 100)
        assert (armed.symbol, armed.countdown_time) == (SYMBOL, "100")
        await asyncio.sleep(0.3)
        assert await rest.current_all_open_orders(SYMBOL) == []
        await rest.limit("BUY", "49000")
        assert (await rest.cancel_all_open_orders(SYMBOL)).code == 200
        assert {row.status for row in await rest.all_orders(SYMBOL)} == {"CANCELED"}


async def test_fills_reach_position_trades_and_income() -> None:
    """A taker's and a maker's fill, and a reduce-only close."""
    async with trading() as (rest, exchange):
        bought = await rest.new_order(SYMBOL, "BUY", "MARKET", quantity="0.1", new_order_resp_type="RESULT")
        assert (bought.status, bought.executed_qty) == ("FILLED", "0.100")
        held = (await rest.position_information_v3(SYMBOL))[0]
        assert (held.position_amt, held.position_side, float(held.entry_price)) == ("0.100", "BOTH", 50_000.1)
        offered = await rest.limit("SELL", "50000.1", "0.050", reduce_only="true")
        exchange.trade("50000.20", "1", sold=False)
        assert (await rest.query_order(SYMBOL, order_id=offered.order_id)).status == "FILLED"
        trades = await rest.account_trade_list(SYMBOL)
        assert [(row.side, row.maker, row.qty) for row in trades] == [
            ("BUY", False, "0.100"),
            ("SELL", True, "0.050"),
        ]
        assert float(trades[1].commission) == pytest.approx(0.05 * 50_000.1 * 0.0002)
        await rest.new_order(SYMBOL, "SELL", "MARKET", quantity="0.05", reduce_only="true")
        assert await rest.position_information_v3(SYMBOL) == []
        income = await rest.get_income_history()
        assert {row.income_type for row in income} == {"COMMISSION", "REALIZED_PNL"}
        assert len(await rest.position_information_v2(SYMBOL)) == 1


REFUSALS: list[tuple[int, Callable[[Rest], Any]]] = [
    (-5022, lambda rest: rest.limit("BUY", "50100")),
    (-5021, lambda rest: rest.limit("BUY", "50000.1", "20", time_in_force="FOK")),
    (-2019, lambda rest: rest.limit("BUY", "49900", "900")),
    (-2022, lambda rest: rest.limit("SELL", "50100", reduce_only="true")),
    (-4164, lambda rest: rest.limit("BUY", "40000", "0.001")),
    (-4116, lambda rest: rest.limit("BUY", "49900", new_client_order_id="taken")),
    (-4015, lambda rest: rest.limit("BUY", "49900", new_client_order_id="x" * 40)),
    (-4014, lambda rest: rest.limit("BUY", "49900.05")),
    (-1111, lambda rest: rest.limit("BUY", "49900", "0.0105")),
    (-4016, lambda rest: rest.limit("BUY", "60000", time_in_force="GTC")),
    (-4061, lambda rest: rest.limit("BUY", "49900", position_side="LONG")),
    (-1116, lambda rest: rest.new_order(SYMBOL, "BUY", "NOTHING", quantity="1")),
    (-1117, lambda rest: rest.new_order(SYMBOL, "UP", "MARKET", quantity="1")),
    (-1102, lambda rest: rest.new_order(SYMBOL, "BUY", "LIMIT", quantity="1")),
    (-1121, lambda rest: rest.new_order("NOPEUSDT", "BUY", "MARKET", quantity="1")),
    (-5027, lambda rest: rest.modify_order(SYMBOL, "BUY", "0.010", "49900", orig_client_order_id="taken")),
    (-5029, lambda rest: rest.modify_order(SYMBOL, "BUY", "0.001", "49900", orig_client_order_id="taken")),
    (-2013, lambda rest: rest.modify_order(SYMBOL, "BUY", "0.010", "49900", order_id=99)),
    (-2013, lambda rest: rest.query_order(SYMBOL, order_id=99)),
    (-2011, lambda rest: rest.cancel_order(SYMBOL, order_id=99)),
    (-4028, lambda rest: rest.change_initial_leverage(SYMBOL, 126)),
    (-4059, lambda rest: rest.change_position_mode("false")),
    (-4171, lambda rest: rest.change_multi_assets_mode("false")),
    (-1125, lambda rest: rest.keepalive_user_data_stream()),
    (-4021, lambda rest: rest.order_book(SYMBOL, limit=3)),
]


async def test_refusals_carry_their_codes() -> None:
    """Each comes with HTTP 400 and its code, as the SDK's BadRequestError (facts 9)."""
    async with trading() as (rest, _):
        await rest.limit("BUY", "49900", new_client_order_id="taken")
        for code, request in REFUSALS:
            with pytest.raises(BadRequestError) as caught:
                await request(rest)
            assert caught.value.status_code == code, caught.value
        assert len(await rest.current_all_open_orders(SYMBOL)) == 1


async def test_foreign_keys_and_signatures_are_refused() -> None:
    """-2015 is the SDK's UnauthorizedError, -1022 a bad request (facts 2, 5)."""
    async with trading() as (_, exchange):
        with pytest.raises(UnauthorizedError) as caught:
            await Rest(sdk(exchange, key="nobody")).futures_account_balance_v3()
        assert caught.value.status_code == -2015
        with pytest.raises(BadRequestError) as refused:
            await Rest(sdk(exchange, secret="wrong")).futures_account_balance_v3()
        assert refused.value.status_code == -1022


@pytest.mark.parametrize("ahead_ms", [-6000, 3000])
async def test_requests_from_another_time_are_refused(ahead_ms: int) -> None:
    """-1021 outside of the window, or a second ahead (facts 2)."""
    async with served(clock=Shifted(-ahead_ms)) as exchange:
        with pytest.raises(BadRequestError) as caught:
            await Rest(sdk(exchange)).futures_account_balance_v3()
        assert caught.value.status_code == -1021


async def test_streams_fit_the_models() -> None:
    """Quotes, trades, depths, marks, candles and tickers, on the routes that the SDK chooses (facts 6)."""
    async with trading() as (_, exchange):
        streams = sdk(exchange).websocket_streams
        heard: dict[str, list[Any]] = {}
        step = iter(range(10_000))

        def stir() -> None:
            shift = next(step) % 50
            exchange.quote(f"{50_000 + shift}.00", f"{50_000 + shift}.10", "7", "3")
            exchange.trade(f"{50_000 + shift}.10", "0.25", sold=False)

        async def all_heard() -> None:
            while not all(heard.values()):  # noqa: ASYNC110  # what it waits for comes by socket
                await asyncio.sleep(0.01)

        await streams.create_connection()
        try:
            for name, subscribing in {
                "quote": streams.individual_symbol_book_ticker_streams(SYMBOL),
                "trade": streams.aggregate_trade_streams(SYMBOL),
                "partial": streams.partial_book_depth_streams(SYMBOL, 5, update_speed="100ms"),
                "diff": streams.diff_book_depth_streams(SYMBOL, update_speed="100ms"),
                "mark": streams.mark_price_stream(SYMBOL, update_speed="1s"),
                "candle": streams.kline_candlestick_streams(SYMBOL, "1m"),
            }.items():
                heard[name] = []
                (await subscribing).on("message", heard[name].append)
            await repeated(stir, asyncio.ensure_future(all_heard()))
            assert (heard["quote"][-1].B, heard["quote"][-1].A) == ("7.000", "3.000")
            assert (heard["trade"][-1].q, heard["trade"][-1].m) == ("0.250", False)
            assert len(heard["partial"][-1].b) == 5
            assert heard["diff"][-1].pu <= heard["diff"][-1].u
            assert float(heard["mark"][-1].p) == pytest.approx(50_000, rel=0.01)
            assert heard["candle"][-1].k.i == "1m"
        finally:
            await streams.close_connection()


async def test_own_orders_and_fills_are_streamed() -> None:
    """ORDER_TRADE_UPDATE, TRADE_LITE and ACCOUNT_UPDATE arrive as the SDK's own events (facts 7)."""
    async with trading() as (rest, exchange):
        streams = sdk(exchange).websocket_streams
        events: list[Any] = []
        await streams.create_connection()
        try:
            key = (await rest.start_user_data_stream()).listen_key
            assert (await rest.start_user_data_stream()).listen_key == key
            (await streams.user_data(key)).on("message", events.append)
            await asyncio.sleep(0.2)
            await rest.limit("BUY", "50000", "0.020", new_client_order_id="mine")
            await rest.modify_order(SYMBOL, "BUY", "0.030", "49999", orig_client_order_id="mine")
            exchange.trade("49998.00", "1")
            async with asyncio.timeout(5):
                while not told(events, "AccountUpdate"):  # noqa: ASYNC110  # what it waits for comes by socket
                    await asyncio.sleep(0.01)
            orders = [event.o for event in told(events, "OrderTradeUpdate")]
            assert [(order.x, order.X, order.q) for order in orders] == [
                ("NEW", "NEW", "0.020"),
                ("AMENDMENT", "NEW", "0.030"),
                ("TRADE", "FILLED", "0.030"),
            ]
            assert orders[-1].c == "mine"
            lite = told(events, "TradeLite")[0]
            assert (lite.l, lite.L, lite.i) == ("0.030", "49999.00", orders[-1].i)
            assert told(events, "AccountUpdate")[0].a.P[0].pa == "0.030"
            await rest.keepalive_user_data_stream()
            await rest.close_user_data_stream()
        finally:
            await streams.close_connection()


def told(events: list[Any], kind: str) -> list[Any]:
    """Return the events that the SDK has read as being of this kind."""
    return [event.actual_instance for event in events if type(event.actual_instance).__name__ == kind]


async def websocket_life(api: Any) -> None:
    """Place, read, amend and cancel over the WebSocket API; look at the account; see refusals."""
    order = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "time_in_force": "GTX", "quantity": "0.010"}
    placed = await api.new_order(**order, price="49900")
    result = placed.data().result
    assert (result.status, result.price) == ("NEW", "49900.00")
    assert {(row.rateLimitType, row.interval) for row in placed.rate_limits} >= {("ORDERS", "SECOND")}
    found = (await api.query_order(SYMBOL, order_id=result.order_id)).data().result
    assert (found.status, found.orig_qty) == ("NEW", "0.010")
    amended = await api.modify_order(SYMBOL, "BUY", "0.020", "49800", order_id=result.order_id)
    assert (amended.data().result.price, amended.data().result.orig_qty) == ("49800.00", "0.020")
    assert (await api.new_order(**order, price="50100")).data()["error"]["code"] == -5022
    gone = await api.cancel_order(SYMBOL, order_id=result.order_id)
    assert gone.data().result.status == "CANCELED"
    again = await api.cancel_order(SYMBOL, order_id=result.order_id)
    assert again.data()["error"]["code"] == -2011
    await api.new_order(SYMBOL, "BUY", "MARKET", quantity="0.010")
    held = (await api.position_information_v2(symbol=SYMBOL)).data().result[0]
    assert held.position_amt == "0.010"
    balance = (await api.futures_account_balance_v2()).data().result[0]
    assert 99_000 < float(balance.balance) < 100_000
    account = (await api.account_information_v2()).data().result
    assert float(account.total_wallet_balance) == float(balance.balance)


async def test_websocket_api_trades_with_an_hmac_key() -> None:
    """Each request is signed by itself (facts 8)."""
    async with trading() as (_, exchange):
        api = sdk(exchange).websocket_api
        await api.create_connection()
        try:
            await websocket_life(api)
            book = (await api.order_book(SYMBOL, limit=5)).data().result
            assert book.last_update_id > 0
            started = (await api.start_user_data_stream()).data().result
            assert len(started.listen_key) == 64
            assert (await api.keepalive_user_data_stream()).data().result.listen_key == started.listen_key
        finally:
            await api.close_connection()


async def test_ed25519_key_signs_rest_and_websocket_api(tmp_path: Path) -> None:
    """The SDK's own signatures with a private key hold on both ways (facts 2)."""
    private = Ed25519PrivateKey.generate()
    raw = serialization.Encoding.PEM
    pem = private.private_bytes(raw, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = private.public_key().public_bytes(raw, serialization.PublicFormat.SubjectPublicKeyInfo)
    path = tmp_path / "key.pem"
    path.write_bytes(pem)
    async with served(ApiKey("ed-key", public_key=public.decode())) as exchange:
        client = sdk(exchange, "ed-key", None, private_key=str(path))
        assert (await Rest(client).limit("BUY", "49900")).status == "NEW"
        api = client.websocket_api
        await api.create_connection()
        try:
            await websocket_life(api)
        finally:
            await api.close_connection()
