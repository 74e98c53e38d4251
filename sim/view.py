"""The exchange at a glance, as plain text: book, our orders and their places in the queue, position, last trades.

Made for ``watch curl``: every line is a fact, columns stay where they are.
"""

from datetime import UTC, datetime
from decimal import Decimal

from sim.faults import FaultPlan
from sim.instrument import Instrument
from sim.orders import Order
from sim.regime import TRADING
from sim.rules import plain
from sim.venue import Venue

_LEVELS = 5
_TRADES = 5
_STRIKES = 5
_ORDERS = 40


def view_text(venue: Venue, plan: FaultPlan, now_ms: int) -> str:
    """Return the whole view."""
    blocks = [[f"simulated exchange   {_clock(now_ms)} UTC"]]
    for instrument in venue.instruments.values():
        blocks += [_head(instrument, now_ms), _book(instrument), _orders(instrument), _tape(instrument)]
    blocks += [_account(venue), _restrictions(venue, now_ms), _fills(venue), _strikes(plan)]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _clock(time_ms: int) -> str:
    return (
        datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{time_ms % 1000:03d}"
    )


def _head(instrument: Instrument, now_ms: int) -> list[str]:
    regime, funding = instrument.regime, instrument.funding
    state = regime.status if regime.is_listed else "NOT LISTED"
    status = state if state == TRADING else f"*** {state} ***"
    moved = f"   moved by {regime.shift_ticks} ticks" if regime.shift_ticks else ""
    minutes = max(0, funding.next_ms - now_ms) // 60_000
    mark = plain(instrument.mark.mark.quantize(Decimal("0.00000001")).normalize())
    percent = plain((funding.rate * 100).normalize())
    return [f"{instrument.symbol}   {status}   mark {mark}   funding {percent} % in {minutes} min{moved}"]


def _book(instrument: Instrument) -> list[str]:
    """Return the touch and the levels behind it, asks above bids."""
    matcher, rules = instrument.matcher, instrument.rules
    asks, bids = (list(side.levels(_LEVELS)) for side in (matcher.asks, matcher.bids))
    if not asks and not bids:
        return ["no quote yet"]
    ours = _ours(instrument)
    lines = []
    for name, levels in (("ask", reversed(asks)), ("bid", bids)):
        for ticks, lots in levels:
            mark = f"   <- {ours[ticks]} of ours" if ticks in ours else ""
            lines.append(f"  {name} {rules.price_text(ticks):>14} {rules.quantity_text(lots):>14}{mark}")
    return lines


def _ours(instrument: Instrument) -> dict[int, int]:
    counts: dict[int, int] = {}
    for order in instrument.open.values():
        counts[order.price_ticks] = counts.get(order.price_ticks, 0) + 1
    return counts


def _orders(instrument: Instrument) -> list[str]:
    if not instrument.open:
        return ["open orders: none"]
    orders = sorted(instrument.open.values(), key=lambda order: (-order.price_ticks, order.order_id))
    lines = [
        f"open orders: {len(orders)}",
        "  side          price       quantity       executed          ahead  client id",
    ]
    return lines + [_order(instrument, order) for order in orders[:_ORDERS]]


def _order(instrument: Instrument, order: Order) -> str:
    rules = instrument.rules
    ahead_lots = instrument.matcher.ahead_lots(order.order_id)
    ahead = "?" if ahead_lots is None else rules.quantity_text(ahead_lots)
    figures = (rules.price_text(order.price_ticks), rules.quantity_text(order.lots))
    executed = rules.quantity_text(order.executed_lots)
    return f"  {order.side:<4} {figures[0]:>14} {figures[1]:>14} {executed:>14} {ahead:>14}  {order.client_order_id}"


def _tape(instrument: Instrument) -> list[str]:
    rules, trades = instrument.rules, instrument.tape.newest(_TRADES)
    return ["last trades of the market:" if trades else "last trades of the market: none"] + [
        f"  {_clock(trade.time_ms)[11:]}  {'sold' if trade.buyer_is_maker else 'bought':<6} "
        f"{rules.quantity_text(trade.lots):>12} at {rules.price_text(trade.price_ticks)}"
        for trade in reversed(trades)
    ]


def _account(venue: Venue) -> list[str]:
    account = venue.account
    lines = [
        f"wallet {plain(account.wallet)}   equity {plain(account.equity(venue.desk.marks))}   "
        f"fees {plain(account.fees_paid)}   funding {plain(account.funding_received)}"
    ]
    for instrument in venue.instruments.values():
        position, rules = account.positions[instrument.symbol], instrument.rules
        if position.lots:
            held = f"position {rules.quantity_text(position.lots)} {instrument.symbol}"
            unrealised = plain(position.unrealised(rules, instrument.mark.mark))
            lines.append(f"{held} at {plain(position.entry_price(rules))}   unrealised {unrealised}")
            lines.append(_margin(venue, instrument))
    return lines if len(lines) > 1 else [*lines, "position: flat"]


def _margin(venue: Venue, instrument: Instrument) -> str:
    """Return how the position is levered, what it stands on, and where it would be liquidated."""
    account, symbol = venue.account, instrument.symbol
    held = account.isolated.get(symbol)
    stands = "crossed" if held is None else f"isolated on {plain(held)}"
    price = account.liquidation_price(symbol, venue.desk.marks)
    end = (
        f"liquidated at {plain(price.quantize(instrument.rules.tick_size))}" if price else "never liquidated"
    )
    return f"  {account.leverages[symbol]}x {stands}   {end}"


def _restrictions(venue: Venue, now_ms: int) -> list[str]:
    """Return what the account may not do at present, or works differently."""
    lines = ["hedge mode: orders are refused"] if venue.hedge_mode else []
    lines += ["in liquidation: orders are refused with -2023"] if venue.liquidating else []
    return lines + [
        f"restricted with {each.code}{f' in {each.symbol}' if each.symbol else ''}"
        for each in venue.standing.in_force(now_ms)
    ]


def _fills(venue: Venue) -> list[str]:
    fills = list(venue.ledger.fills)[-_TRADES:]
    lines = ["fills of ours:" if fills else "fills of ours: none"]
    for fill in reversed(fills):
        rules = venue.instruments[fill.symbol].rules
        lines.append(
            f"  {_clock(fill.time_ms)[11:]}  {fill.side:<4} {rules.quantity_text(fill.lots):>12} {fill.symbol} at "
            f"{rules.price_text(fill.price_ticks)} as {'maker' if fill.maker else 'taker'}  {fill.client_order_id}"
        )
    return lines


def _strikes(plan: FaultPlan) -> list[str]:
    if not plan.strikes:
        return []
    counted = ", ".join(f"{name} {number}" for name, number in sorted(plan.counts.items()))
    newest = [
        f"  {_clock(strike.time_ms)[11:]}  {strike.kind}  {strike.what}"
        for strike in reversed(list(plan.strikes)[-_STRIKES:])
    ]
    return [f"faults: {counted}", *newest]
