"""The tickers over REST: the last price, and the last 24 hours.

The 24 hours are exact to the minute, and before they are full they begin with the first trade that was seen.

Source: Binance's pages "24hr Ticker Price Change Statistics" and "Symbol Price Ticker"; facts section 3.1.
"""

from decimal import Decimal

from sim.instrument import Instrument
from sim.klines import Candle, quote_text
from sim.money import EXACT, ZERO
from sim.payloads import Json
from sim.rules import SymbolRules, plain

_PERCENT = Decimal("0.001")


def price_ticker(instrument: Instrument, now_ms: int) -> Json:
    """Return an element of GET ticker/price: the last trade's price, zero before the first."""
    last = instrument.tape.last
    return {
        "symbol": instrument.symbol,
        "price": instrument.rules.price_text(last.price_ticks if last else 0),
        "time": last.time_ms if last else now_ms,
    }


def day_ticker(instrument: Instrument, now_ms: int) -> Json:
    """Return an element of GET ticker/24hr; zeros before the first trade."""
    rules, last = instrument.rules, instrument.tape.last
    day = instrument.candles.last_day(now_ms) or Candle(now_ms, now_ms, 0, 0, 0, 0)
    change = day.close_ticks - day.open_ticks
    return {
        "symbol": instrument.symbol,
        "priceChange": rules.price_text(change),
        "priceChangePercent": plain(_percent(change, day.open_ticks)),
        "weightedAvgPrice": plain(_average(day, rules)),
        "lastPrice": rules.price_text(day.close_ticks),
        "lastQty": rules.quantity_text(last.lots if last else 0),
        "openPrice": rules.price_text(day.open_ticks),
        "highPrice": rules.price_text(day.high_ticks),
        "lowPrice": rules.price_text(day.low_ticks),
        "volume": rules.quantity_text(day.lots),
        "quoteVolume": quote_text(day.tick_lots, rules),
        "openTime": day.open_ms,
        "closeTime": now_ms,
        "firstId": day.first_id,
        "lastId": day.last_id,
        "count": day.trades,
    }


def _percent(change: int, of: int) -> Decimal:
    share = EXACT.divide(Decimal(100 * change), Decimal(of)) if of else ZERO
    return EXACT.quantize(share, _PERCENT)


def _average(day: Candle, rules: SymbolRules) -> Decimal:
    average = EXACT.divide(Decimal(day.tick_lots), Decimal(day.lots)) if day.lots else ZERO
    return EXACT.quantize(EXACT.multiply(average, rules.tick_size), rules.tick_size)
