"""JSON of replies and events, field by field as Binance sends it.

The simulated exchange writes its own wire form and shares no code with the clients that read it.

Source: facts section 3 (replies), 6 (market streams), 7 (user data).
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from sim.account import Account, OpenInterest
from sim.fees import BNB
from sim.instrument import Instrument
from sim.market import BookTicker, Trade
from sim.matching import ShownSide
from sim.money import EXACT, ZERO, booked
from sim.orders import ExpiryReason, Order
from sim.record import CashRecord, FillRecord
from sim.rules import SymbolRules, plain

Json = dict[str, Any]
_NOTHING = Decimal(0)
_COMPACT = json.JSONEncoder(separators=(",", ":"))


def encode(value: object) -> str:
    """Return compact JSON text in ASCII; what msgspec, the faster encoder, writes otherwise is left to the other."""
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # half a character, which somebody has put into an id
        return _COMPACT.encode(value)
    return text if text.isascii() and text.isprintable() else _COMPACT.encode(value)


def order_reply(order: Order, rules: SymbolRules, more: str = "") -> str:
    """Return the order as place, modify and cancel reply with it, as JSON text that ends in the members ``more``.

    It is without average price and value since 2026-06-30, and written by hand because no reply is more frequent.
    """
    executed = rules.quantity_text(order.executed_lots)
    return (
        f'{{"orderId":{order.order_id},"symbol":"{order.symbol}","status":"{order.status}",'
        f'"clientOrderId":{encode(order.client_order_id)},"price":"{rules.price_text(order.price_ticks)}",'
        f'"origQty":"{rules.quantity_text(order.lots)}","executedQty":"{executed}","cumQty":"{executed}",'
        f'"timeInForce":"{order.time_in_force}","type":"{order.type}","origType":"{order.type}",'
        f'"side":"{order.side}","positionSide":"BOTH","reduceOnly":{"true" if order.reduce_only else "false"},'
        '"closePosition":false,"stopPrice":"0","workingType":"CONTRACT_PRICE","priceProtect":false,'
        f'"priceMatch":"{order.price_match}","selfTradePreventionMode":"{order.stp}",'
        f'"goodTillDate":{order.good_till_ms},"updateTime":{order.update_ms}{more}}}'
    )


def order_query(order: Order, instrument: Instrument) -> Json:
    """Return the order as GET order, openOrders and allOrders show it."""
    rules = instrument.rules
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order.status.value,
        "clientOrderId": order.client_order_id,
        "price": rules.price_text(order.price_ticks),
        "avgPrice": plain(average_price(order, rules)),
        "origQty": rules.quantity_text(order.lots),
        "executedQty": rules.quantity_text(order.executed_lots),
        "cumQuote": plain(instrument.value(order.traded_tick_lots)),
        "timeInForce": order.time_in_force.value,
        "type": order.type.value,
        "origType": order.type.value,
        "side": order.side.value,
        "positionSide": "BOTH",
        "reduceOnly": order.reduce_only,
        "closePosition": False,
        "stopPrice": "0",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "priceMatch": order.price_match.value,
        "selfTradePreventionMode": order.stp.value,
        "goodTillDate": order.good_till_ms,
        "time": order.time_ms,
        "updateTime": order.update_ms,
    }


def order_amendment(order: Order, rules: SymbolRules, count: int) -> Json:
    """Return an element of GET orderAmendment: the order's amendment number ``count``, counted from 1."""
    seen = order.amendment(count)
    known = seen.amendment
    if known is None:
        raise ValueError(f"amendment {count} of order {order.order_id} was never numbered")
    change: Json = {
        "price": _change(rules.price_text(known.before_ticks), rules.price_text(seen.price_ticks)),
        "origQty": _change(rules.quantity_text(known.before_lots), rules.quantity_text(seen.lots)),
        "count": count,
    }
    if known.modify_id:
        change["modifyId"] = int(known.modify_id)
    return {
        "amendmentId": known.amendment_id,
        "symbol": order.symbol,
        "pair": order.symbol,
        "orderId": order.order_id,
        "clientOrderId": order.client_order_id,
        "time": seen.time_ms,
        "amendment": change,
    }


def _change(before: str, after: str) -> Json:
    return {"before": before, "after": after}


def average_price(order: Order, rules: SymbolRules) -> Decimal:
    """Return the average fill price of the order, zero before its first fill."""
    if not order.executed_lots:
        return ZERO
    total = EXACT.multiply(Decimal(order.traded_tick_lots), rules.tick_size)
    return booked(EXACT.divide(total, Decimal(order.executed_lots)))


def order_event(
    order: Order,
    instrument: Instrument,
    execution: str,
    now_ms: int,
    *,
    fill: FillRecord | None = None,
    reason: ExpiryReason = ExpiryReason.NONE,
    modify_id: str = "",
) -> Json:
    """Return ORDER_TRADE_UPDATE; ``execution`` is its ``x``. ``N`` and ``n`` are there on fills only."""
    rules, interest = instrument.rules, instrument.open_interest()
    body: Json = {
        "s": order.symbol,
        "c": order.client_order_id,
        "S": order.side.value,
        "o": order.type.value,
        "f": order.time_in_force.value,
        "q": rules.quantity_text(order.lots),
        "p": rules.price_text(order.price_ticks),
        "ap": plain(average_price(order, rules)),
        "x": execution,
        "X": order.status.value,
        "i": order.order_id,
        "z": rules.quantity_text(order.executed_lots),
        "T": now_ms,
        "b": plain(interest.bids),
        "a": plain(interest.asks),
        **_fill_part(fill, rules),
        **_event_traits(order),
        "er": str(int(reason)),
    }
    if modify_id:
        body["M"] = modify_id
    return {"e": "ORDER_TRADE_UPDATE", "E": now_ms, "T": now_ms, "o": body}


def _fill_part(fill: FillRecord | None, rules: SymbolRules) -> Json:
    """Return what an order event says of its fill; without one there is no commission at all."""
    if fill is None:
        nothing = rules.quantity_text(0)
        return {"l": nothing, "L": rules.price_text(0), "t": 0, "m": False, "rp": plain(ZERO)}
    return {
        "l": rules.quantity_text(fill.lots),
        "L": rules.price_text(fill.price_ticks),
        "N": fill.fee_asset or rules.quote_asset,
        "n": plain(fill.fee),
        "t": fill.trade_id,
        "m": fill.maker,
        "rp": plain(fill.realised),
    }


def _event_traits(order: Order) -> Json:
    return {
        "sp": "0",
        "R": order.reduce_only,
        "wt": "CONTRACT_PRICE",
        "ot": order.type.value,
        "ps": "BOTH",
        "cp": False,
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": order.stp.value,
        "pm": order.price_match.value,
        "gtd": order.good_till_ms,
    }


def trade_lite(order: Order, rules: SymbolRules, fill: FillRecord) -> Json:
    """Return TRADE_LITE of a fill."""
    return {
        "e": "TRADE_LITE",
        "E": fill.time_ms,
        "T": fill.time_ms,
        "s": order.symbol,
        "q": rules.quantity_text(order.lots),
        "p": rules.price_text(order.price_ticks),
        "m": fill.maker,
        "c": order.client_order_id,
        "S": order.side.value,
        "L": rules.price_text(fill.price_ticks),
        "l": rules.quantity_text(fill.lots),
        "t": fill.trade_id,
        "i": order.order_id,
    }


def fill_account_update(account: Account, instrument: Instrument, now_ms: int) -> Json:
    """Return ACCOUNT_UPDATE after a fill: the wallet and the one position that changed."""
    entry = _position_entry(account, instrument)
    return _account_update("ORDER", account, instrument.rules, ZERO, now_ms, {"P": [entry]})


def _position_entry(account: Account, instrument: Instrument) -> Json:
    rules, position = instrument.rules, account.positions[instrument.symbol]
    return {
        "s": instrument.symbol,
        "pa": rules.quantity_text(position.lots),
        "ep": plain(position.entry_price(rules)),
        "bep": plain(position.break_even_price(rules)),
        "cr": plain(position.realised),
        "up": plain(position.unrealised(rules, instrument.mark.mark)),
        "mt": margin_word(account, instrument),
        "iw": plain(account.isolated.get(instrument.symbol, _NOTHING)),
        "ps": "BOTH",
        "ma": rules.quote_asset,
    }


def margin_word(account: Account, instrument: Instrument) -> str:
    """Return the symbol's margin type as events and version 2 of positionRisk name it."""
    return "isolated" if instrument.symbol in account.isolated else "cross"


def margin_account_update(account: Account, instrument: Instrument, reason: str, now_ms: int) -> Json:
    """Return ACCOUNT_UPDATE after a change of an isolated position's margin, or of the margin type."""
    extra: Json = {"P": [_position_entry(account, instrument)]}
    return _account_update(reason, account, instrument.rules, ZERO, now_ms, extra)


def funding_account_update(account: Account, instrument: Instrument, amount: Decimal, now_ms: int) -> Json:
    """Return ACCOUNT_UPDATE after funding: the wallet, an isolated position but no crossed one, the symbol in ``S``."""
    isolated = instrument.symbol in account.isolated
    extra: Json = {
        "P": [_position_entry(account, instrument)] if isolated else [],
        "S": instrument.symbol,
    }
    return _account_update("FUNDING_FEE", account, instrument.rules, amount, now_ms, extra)


def clearance_account_update(account: Account, instrument: Instrument, amount: Decimal, now_ms: int) -> Json:
    """Return ACCOUNT_UPDATE after the insurance fund has paid, or has been paid."""
    return _account_update("INSURANCE_CLEAR", account, instrument.rules, amount, now_ms, {"P": []})


def _account_update(
    reason: str, account: Account, rules: SymbolRules, change: Decimal, now_ms: int, extra: Json
) -> Json:
    wallet, crossed = plain(account.wallet), plain(account.cross_wallet)
    balances = [{"a": rules.quote_asset, "wb": wallet, "cw": crossed, "bc": plain(change)}]
    if reason == "ORDER" and account.fees.burns_bnb and account.fees.bnb:
        bnb = plain(account.fees.bnb)
        balances.append({"a": BNB, "wb": bnb, "cw": bnb, "bc": plain(ZERO)})
    body = {"m": reason, "B": balances, **extra}
    return {"e": "ACCOUNT_UPDATE", "E": now_ms, "T": now_ms, "a": body}


def leverage_event(symbol: str, leverage: int, now_ms: int) -> Json:
    """Return ACCOUNT_CONFIG_UPDATE after a change of leverage."""
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms, "ac": {"s": symbol, "l": leverage}}


def book_event(event: BookTicker, rules: SymbolRules, raised: int) -> str:
    """Return the bookTicker payload as text; written by hand because it is the most frequent one.

    ``raised`` is what the book's update ids are above the market's.
    """
    return (
        f'{{"e":"bookTicker","u":{event.update_id + raised},"E":{event.time_ms},"T":{event.time_ms},'
        f'"s":"{event.symbol}",'
        f'"ps":"{event.symbol}","b":"{rules.price_text(event.bid_ticks)}","B":"{rules.quantity_text(event.bid_lots)}",'
        f'"a":"{rules.price_text(event.ask_ticks)}","A":"{rules.quantity_text(event.ask_lots)}","st":1}}'
    )


def trade_event(event: Trade, rules: SymbolRules, now_ms: int) -> str:
    """Return the aggTrade payload as text, told at ``now_ms``."""
    quantity = rules.quantity_text(event.lots)
    return (
        f'{{"e":"aggTrade","E":{now_ms},"s":"{event.symbol}","a":{event.trade_id},'
        f'"p":"{rules.price_text(event.price_ticks)}","q":"{quantity}","nq":"{quantity}","f":{event.first_id},'
        f'"l":{event.last_id},"T":{event.time_ms},"m":{"true" if event.buyer_is_maker else "false"},"st":1}}'
    )


def single_trade_event(event: Trade, rules: SymbolRules) -> str:
    """Return the payload of the stream `trade` as text; an aggregate shows as one trade, as in GET trades (facts 6)."""
    return (
        f'{{"e":"trade","E":{event.time_ms},"T":{event.time_ms},"s":"{event.symbol}","t":{event.last_id},'
        f'"p":"{rules.price_text(event.price_ticks)}","q":"{rules.quantity_text(event.lots)}","X":"MARKET",'
        f'"m":{"true" if event.buyer_is_maker else "false"}}}'
    )


def mark_event(instrument: Instrument, now_ms: int) -> str:
    """Return the markPriceUpdate payload as text."""
    mark, index = plain(instrument.mark.mark), plain(instrument.mark.index)
    return encode(
        {
            "e": "markPriceUpdate",
            "E": now_ms,
            "s": instrument.symbol,
            "p": mark,
            "ap": mark,
            "i": index,
            "P": mark,
            "r": plain(instrument.funding.rate),
            "T": instrument.funding.next_ms,
            "st": 1,
        }
    )


def premium_index(instrument: Instrument, now_ms: int) -> Json:
    """Return the reply of GET premiumIndex for one symbol."""
    mark = plain(instrument.mark.mark)
    return {
        "symbol": instrument.symbol,
        "markPrice": mark,
        "indexPrice": plain(instrument.mark.index),
        "estimatedSettlePrice": mark,
        "lastFundingRate": plain(instrument.funding.rate),
        "interestRate": "0.00010000",
        "nextFundingTime": instrument.funding.next_ms,
        "time": now_ms,
    }


def book_ticker(instrument: Instrument) -> Json:
    """Return the reply of GET ticker/bookTicker for one symbol: the last quote; zeros before the first one."""
    rules = instrument.rules
    quote = instrument.quote or BookTicker(0, instrument.symbol, 0, 0, 0, 0, 0)
    return {
        "symbol": instrument.symbol,
        "bidPrice": rules.price_text(quote.bid_ticks),
        "bidQty": rules.quantity_text(quote.bid_lots),
        "askPrice": rules.price_text(quote.ask_ticks),
        "askQty": rules.quantity_text(quote.ask_lots),
        "time": quote.time_ms,
        "lastUpdateId": quote.update_id + instrument.shown.quote_raised,
    }


def depth(instrument: Instrument, limit: int, now_ms: int) -> Json:
    """Return the reply of GET depth: the touch, and the levels that are recorded or modelled behind it."""
    rules, image = instrument.rules, instrument.shown.look(instrument.quote)

    def side(shown: ShownSide) -> list[list[str]]:
        return [[rules.price_text(ticks), rules.quantity_text(lots)] for ticks, lots in shown.best(limit)]

    return {
        "lastUpdateId": image.update_id,
        "E": now_ms,
        "T": image.time_ms or now_ms,
        "bids": side(image.bids),
        "asks": side(image.asks),
    }


def position_risk(account: Account, instrument: Instrument, marks: Mapping[str, Decimal]) -> Json:
    """Return an element of GET v3 positionRisk."""
    symbol, rules, mark = instrument.symbol, instrument.rules, marks[instrument.symbol]
    position, interest = account.positions[symbol], instrument.open_interest()
    margins, isolated = _margins(account, symbol, mark, interest), symbol in account.isolated
    return {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": rules.quantity_text(position.lots),
        "entryPrice": plain(position.entry_price(rules)),
        "breakEvenPrice": plain(position.break_even_price(rules)),
        "markPrice": plain(mark),
        "unRealizedProfit": plain(position.unrealised(rules, mark)),
        "liquidationPrice": plain(account.liquidation_price(symbol, marks)),
        "isolatedMargin": plain(account.isolated_equity(symbol, mark) if isolated else _NOTHING),
        "notional": plain(position.notional(rules, mark)),
        "marginAsset": rules.quote_asset,
        "isolatedWallet": plain(account.isolated.get(symbol, _NOTHING)),
        **margins,
        "adl": 0,
        "bidNotional": plain(interest.bids),
        "askNotional": plain(interest.asks),
        "updateTime": position.update_ms,
    }


def _margins(account: Account, symbol: str, mark: Decimal, interest: OpenInterest) -> Json:
    initial = account.initial_margin(symbol, mark, interest)
    held = account.position_margin(symbol, mark)
    return {
        "initialMargin": plain(initial),
        "maintMargin": plain(account.maintenance_margin(symbol, mark)),
        "positionInitialMargin": plain(held),
        "openOrderInitialMargin": plain(max(initial - held, ZERO)),
    }


def user_trade(fill: FillRecord, instrument: Instrument) -> Json:
    """Return an element of GET userTrades."""
    rules = instrument.rules
    return {
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "symbol": fill.symbol,
        "pair": fill.symbol,
        "side": fill.side.value,
        "positionSide": "BOTH",
        "price": rules.price_text(fill.price_ticks),
        "qty": rules.quantity_text(fill.lots),
        "quoteQty": plain(instrument.value(fill.price_ticks * fill.lots)),
        "baseQty": "0",
        "commission": plain(fill.fee),
        "commissionAsset": fill.fee_asset or rules.quote_asset,
        "marginAsset": rules.quote_asset,
        "realizedPnl": plain(fill.realised),
        "buyer": fill.side.value == "BUY",
        "maker": fill.maker,
        "time": fill.time_ms,
    }


def income(row: CashRecord, asset: str) -> Json:
    """Return an element of GET income."""
    return {
        "symbol": row.symbol,
        "incomeType": row.kind,
        "income": plain(row.amount),
        "asset": row.asset or asset,
        "info": row.trade_id or row.kind,
        "time": row.time_ms,
        "tranId": row.transaction_id,
        "tradeId": row.trade_id,
    }
