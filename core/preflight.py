"""Before the first order: is this configuration feasible on this exchange with this account?

Each check says what it found and, where it fails, what to do. The daemon's start and ``python main.py check`` ask the
same questions; only the start changes anything (the leverage).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from difflib import get_close_matches
from pathlib import Path

from core.account_rules import AccountModes
from core.client_ids import PREFIX
from core.flatten import REDUCE_ONLY_COVERED, REDUCE_ONLY_REJECTED
from core.gateway import ExchangeInfo, Gateway, KeyRights
from core.model import BookTop, Quote, Side, SymbolRules
from core.resource_watch import LEAST_FREE_MB, LOW_FREE_MB
from core.rules_change import TRADING
from core.settings import QuoteSettings, RiskSettings, SafetySettings, Settings
from core.strategy import level_price_ticks, level_quote, price_objection, size_objection
from utils.errors import (
    AuthFailed,
    ClockSkew,
    DiskRefused,
    ExchangeError,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    Refused,
    StartRefused,
)
from utils.http import BinanceRest
from utils.machine import Machine
from utils.venue import Environment

DISK = "disk"
HEADROOM_PERCENT = 5
"""How much above the bare minimum the suggested values are, so that a small move of the price does not undo them."""
MAX_CLOCK_OFFSET_MS = 60_000
ENDED = frozenset({"DELIVERED", "CLOSE"})
"""States from which no symbol comes back."""
NOT_TO_BE_LOWERED = frozenset({-4161, -2028})
"""Refusals of a leverage that is too small for the position that is held. Source: binance-futures error codes."""
ORDER_RATE_PERCENT = 70
"""Share of the exchange's order limits that the refreshes may use; the rest is for closing and for others."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question with its answer; ``remedy`` is empty when it passed.

    ``is_fault`` says that neither configuration nor account is to blame, ``is_passing`` that it passes by itself, too:
    a start waits for it. ``caution`` is what should be done though it passed.
    """

    name: str
    found: str
    remedy: str = ""
    is_fault: bool = False
    is_passing: bool = False
    caution: str = ""

    @property
    def passed(self) -> bool:
        """Tell whether nothing needs to be done."""
        return not self.remedy

    @property
    def is_mistake(self) -> bool:
        """Tell whether it stays as it is until somebody changes the configuration or the account."""
        return not (self.passed or self.is_fault or self.is_passing)

    @property
    def sentence(self) -> str:
        """Return what was found and what to do, as one sentence."""
        return f"{self.name}: {self.found}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class SymbolFacts:
    """What the exchange says about one symbol at this moment."""

    rules: SymbolRules
    book: BookTop
    mark_price: Decimal


# --- feasibility: pure ----------------------------------------------------------------------------------------


def feasibility(quotes: QuoteSettings, risk: RiskSettings, facts: SymbolFacts) -> list[Check]:
    """Return whether every configured quote could rest, and all of a side within the position limit."""
    wanted = [
        level_quote(facts.book.mid_half_ticks, side, level, quotes, facts.rules.units(quotes.size_quote))
        for level in range(1, quotes.levels + 1)
        for side in Side
    ]
    return [
        _order_size(wanted, quotes, risk, facts),
        _price_band(wanted, quotes, facts),
        _position_limit(wanted, quotes, risk, facts.rules),
        _order_count(quotes, risk, facts.rules),
    ]


def smallest_size_quote(quotes: QuoteSettings, facts: SymbolFacts) -> Decimal:
    """Return the smallest workable ``quantity_per_order_usdt``, rounded up to whole units of the quote asset.

    At every level's price it pays for the exchange's minimum, after rounding down to the step.
    """
    rules = facts.rules
    smallest = Decimal(0)
    for level in range(1, quotes.levels + 1):
        for side in Side:
            ticks = level_price_ticks(facts.book.mid_half_ticks, side, level, quotes)
            per_lot = rules.notional_quote(ticks, 1)
            lots = int((rules.min_notional_quote / per_lot).to_integral_value(ROUND_CEILING))
            smallest = max(smallest, per_lot * max(lots, rules.min_lots, 1))
    return (smallest * (100 + HEADROOM_PERCENT) / 100).to_integral_value(ROUND_CEILING)


def smallest_capital_quote(levels: int, size_quote: Decimal, risk: RiskSettings) -> Decimal:
    """Return the smallest ``initial_capital`` whose position limit holds all levels of one side."""
    capital = levels * size_quote / (risk.leverage * risk.max_net_position_ratio)
    return capital.to_integral_value(ROUND_CEILING)


def _order_size(
    wanted: Sequence[Quote], quotes: QuoteSettings, risk: RiskSettings, facts: SymbolFacts
) -> Check:
    rules, asset = facts.rules, facts.rules.quote_asset
    name, size = "order size", f"{quotes.size_quote:f} {asset} an order"
    objections = [text for quote in wanted if (text := size_objection(quote, rules))]
    if not objections:
        return Check(name, size)
    return Check(
        name,
        f"{size} on {rules.symbol} at {facts.mark_price.normalize():f}: {objections[0]}"
        f" (minimum notional {rules.min_notional_quote:f} {asset},"
        f" smallest step {rules.step_size:f} {rules.base_asset})",
        _size_remedy(wanted, quotes, risk, facts),
    )


def _size_remedy(
    wanted: Sequence[Quote], quotes: QuoteSettings, risk: RiskSettings, facts: SymbolFacts
) -> str:
    smallest = smallest_size_quote(quotes, facts)
    if quotes.size_quote >= smallest:
        rules = facts.rules
        largest = min(rules.notional_quote(quote.price_ticks, rules.max_lots) for quote in wanted)
        return (
            f"set order_config.quantity_per_order_usdt to at most {largest.to_integral_value(ROUND_FLOOR):f}"
        )
    capital = smallest_capital_quote(quotes.levels, smallest, risk)
    return (
        f"set order_config.quantity_per_order_usdt to at least {smallest:f} and, for {quotes.levels} levels a side at"
        f" leverage {risk.leverage} and max_net_position_ratio {risk.max_net_position_ratio:f},"
        f" initial_capital to at least {max(capital, risk.capital_quote):f}"
    )


def _price_band(wanted: Iterable[Quote], quotes: QuoteSettings, facts: SymbolFacts) -> Check:
    """Return whether the exchange would take all prices; where the market is what is wrong with them, that passes."""
    objections = [
        (f"{quote.side.lower()} {quote.level}: {text}", _lies_with_the_market(quote, quotes, facts))
        for quote in wanted
        if (text := price_objection(quote, facts.mark_price, facts.rules))
    ]
    if not objections:
        return Check("price band", f"all levels lie within the band around {facts.mark_price.normalize():f}")
    found, passes = min(objections, key=lambda objection: objection[1])  # a mistake first
    if passes:
        return Check(
            "price band",
            f"{found}, with the market's mid at {(facts.rules.price(facts.book.mid_half_ticks) / 2).normalize():f}",
            "wait until the market is nearer to its mark price, as a start does by itself",
            is_passing=True,
        )
    return Check("price band", found, "make order_config.price_offset_percent or order_config.levels smaller")


def _lies_with_the_market(quote: Quote, quotes: QuoteSettings, facts: SymbolFacts) -> bool:
    """Tell whether the price of a level would be taken if the mid were where the mark price is."""
    rules, mark_price = facts.rules, facts.mark_price
    mid_half_ticks = rules.floor_ticks(2 * mark_price)
    if mid_half_ticks < 1:  # it is not known
        return False
    there = level_quote(mid_half_ticks, quote.side, quote.level, quotes, rules.units(quotes.size_quote))
    return not price_objection(there, mark_price, rules)


def _position_limit(
    wanted: Sequence[Quote], quotes: QuoteSettings, risk: RiskSettings, rules: SymbolRules
) -> Check:
    """Return whether all levels of a side fit into the limit of the notional and into that of the base asset."""
    name = "position limit"
    side_quote = quotes.levels * quotes.size_quote
    limit = risk.position_limit_quote
    found = (
        f"{quotes.levels} levels × {quotes.size_quote:f} = {side_quote:f} {rules.quote_asset} a side,"
        f" position limit {limit.normalize():f} {rules.quote_asset}"
    )
    if side_quote > limit:
        return Check(
            name,
            found,
            f"set initial_capital to at least {smallest_capital_quote(quotes.levels, quotes.size_quote, risk):f},"
            " or make order_config.levels or order_config.quantity_per_order_usdt smaller",
        )
    if not risk.max_position:
        return Check(name, found)
    side_quantity = max(
        rules.quantity(sum(quote.lots for quote in wanted if quote.side is side)) for side in Side
    )
    found += f"; {side_quantity:f} {rules.base_asset} a side, risk.max_position {risk.max_position:f}"
    if side_quantity <= risk.max_position:
        return Check(name, found)
    return Check(
        name,
        found,
        f"set risk.max_position to at least {side_quantity:f}, or make order_config.levels or"
        " order_config.quantity_per_order_usdt smaller",
    )


def _order_count(quotes: QuoteSettings, risk: RiskSettings, rules: SymbolRules) -> Check:
    count = 2 * quotes.levels
    found = f"{count} orders, risk.max_order_count {risk.max_order_count}, the exchange allows {rules.max_open_orders}"
    name, most = "number of orders", min(risk.max_order_count, rules.max_open_orders)
    if count <= most:
        return Check(name, found)
    fewer = f"set order_config.levels to at most {most // 2}" if most >= 2 else ""
    if count > rules.max_open_orders:
        return Check(name, found, fewer)
    more = f"set risk.max_order_count to at least {count}"
    return Check(name, found, f"{more}, or {fewer}" if fewer else more)


def order_rate_check(settings: Settings, info: ExchangeInfo) -> Check:
    """Return whether the refreshes of all symbols stay within a share of the exchange's order limits.

    Those are of the interval. Amendments at moves of the price come besides, and wait for room in the limits.

    Source: binance-futures limits (ORDERS, 10 s and 1 min windows).
    """
    per_10s = sum(2 * q.levels * -(-10 // min(q.refresh_interval_s, 10)) for q in settings.quotes)
    per_minute = sum(2 * q.levels * -(-60 // min(q.refresh_interval_s, 60)) for q in settings.quotes)
    found = (
        f"at most {per_10s:.0f} orders in 10 s and {per_minute:.0f} a minute by the interval{_on_moves(settings)};"
        f" the exchange allows {info.orders_per_10s} and {info.orders_per_minute}"
    )
    share = Decimal(ORDER_RATE_PERCENT) / 100
    if per_10s <= share * info.orders_per_10s and per_minute <= share * info.orders_per_minute:
        return Check("order rate", found)
    return Check(
        "order rate",
        found,
        f"make refresh_config.orderbook_refresh_interval longer or order_config.levels fewer, to use at most"
        f" {ORDER_RATE_PERCENT} % of that",
    )


def _on_moves(settings: Settings) -> str:
    """Return how many requests there may be besides those of the interval, nothing where no move is followed."""
    pauses_ms = [
        q.min_requote_interval_ms for q in settings.quotes if q.on_move and q.refresh_mode == "amend"
    ]
    if not pauses_ms:
        return ""
    return (
        f", and at moves of the price, each {min(pauses_ms)} ms at the soonest, up to"
        f" {settings.execution.modify_rate_limit:g} amend requests a second while there is room"
    )


def margin_check(
    settings: Settings,
    wallet_quote: Decimal,
    available_quote: Decimal,
    asset: str,
    held_quote: Decimal = Decimal(0),
) -> Check:
    """Return whether the account can pay the margin of all quotes of the heavier side.

    ``held_quote`` is what the position and orders on our own symbols hold of the margin already: a restart finds them.
    """
    needed = sum((quotes.levels * quotes.size_quote for quotes in settings.quotes), Decimal(0))
    needed /= settings.risk.leverage
    held = f" and {held_quote:.2f} held by position and orders on our symbols" if held_quote else ""
    found = (
        f"wallet {wallet_quote:.2f} {asset}, available {available_quote:.2f}{held}, needed {needed:.2f}"
        f" at leverage {settings.risk.leverage}"
    )
    if available_quote + held_quote >= needed:
        return Check("margin", found)
    return Check(
        "margin", found, f"transfer {asset} into the futures wallet, or make the orders fewer or smaller"
    )


def account_check(modes: AccountModes) -> list[Check]:
    """Return whether the account is of a kind that this program can work with."""
    mode = Check(
        "position mode",
        "hedge mode" if modes.hedge_mode else "one-way",
        "switch the account to one-way mode (Preferences, Position Mode) while it is flat"
        if modes.hedge_mode
        else "",
    )
    assets = Check(
        "asset mode",
        "multi-assets" if modes.multi_assets else "single-asset",
        "switch the account to single-asset mode (Preferences, Asset Mode)" if modes.multi_assets else "",
    )
    trading = Check(
        "trading",
        "allowed" if modes.can_trade else "not allowed",
        "" if modes.can_trade else "the account may not trade futures: see its status on the exchange's site",
    )
    return [trading, mode, assets]


def dead_man_check(safety: SafetySettings) -> Check:
    """Return whether a sign of life that gets no answer is given up before the dead-man window is over."""
    refresh_s, timeout_s, window_s = (
        safety.dead_man_refresh_s,
        safety.request_timeout_s,
        safety.dead_man_window_s,
    )
    found = f"a sign of life each {refresh_s:g} s, {timeout_s:g} s for its answer, a window of {window_s:g} s"
    if refresh_s + timeout_s < window_s:
        return Check("dead-man switch", found)
    return Check(
        "dead-man switch",
        found,
        "make safety.request_timeout_s or safety.dead_man_refresh_s shorter, or safety.dead_man_window_s longer",
    )


LIVE_CHECK = "live confirmation"


def closing_check(settings: Settings, *, confirmed: bool) -> Check:
    """Return whether environment and command line agree on real money: all that is asked of what only closes."""
    if settings.environment is not Environment.LIVE:
        return Check(LIVE_CHECK, "not needed")
    if not confirmed:
        return Check(
            LIVE_CHECK,
            "EXCHANGE_ENV=live without --live",
            "add --live to the command line to trade real money",
        )
    return Check(LIVE_CHECK, "given")


def live_check(settings: Settings, *, confirmed: bool) -> Check:
    """Return whether real trading was confirmed three times over: environment, command line, and capital."""
    check = closing_check(settings, confirmed=confirmed)
    if settings.environment is not Environment.LIVE or not check.passed:
        return check
    allowed, capital = settings.live_max_capital_quote, settings.risk.capital_quote
    if allowed < capital:
        return Check(
            LIVE_CHECK,
            f"live.max_capital_usdt is {allowed:f}, initial_capital is {capital:f}",
            "set live.max_capital_usdt in config.yaml to at least initial_capital to trade real money",
        )
    return Check(LIVE_CHECK, f"up to {allowed:f} of real money")


# --- asking the exchange --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found, and the facts that the start goes on with. ``facts`` is empty if the asking ended early."""

    checks: tuple[Check, ...]
    facts: dict[str, SymbolFacts]
    wallet_quote: Decimal

    def refuse_unless_passed(self) -> None:
        """Raise StartRefused with the sentence of the first mistake; without one, NotSent with that of a fault.

        It is a DiskRefused if that is a disk without room.

        What is passing raises nothing: see ``waits_for``.
        """
        for check in self.checks:
            if check.is_mistake:
                raise (DiskRefused if check.name == DISK else StartRefused)(check.sentence)
        for check in self.checks:
            if check.is_fault and not check.is_passing:
                raise NotSent(check.sentence)

    @property
    def waits_for(self) -> str:
        """Return the sentence of the first check that did not pass and may by itself, empty if there is none."""
        return next((check.sentence for check in self.checks if check.is_passing and not check.passed), "")


async def preflight(
    settings: Settings,
    gateway: Gateway,
    wallet: BinanceRest | None,
    *,
    has_keys: bool,
    confirmed: bool,
    machine: Machine | None = None,
) -> Preflight:
    """Return every check, each asked of the exchange as far as the ones before allow. Changes nothing.

    What the market has to be there for is left out while it is not; what the account is asked is not.

    ``machine`` is asked for the space on its disks, if it is given.

    Raises ExchangeError only for what is neither a refusal of the account nor of the configuration.
    """
    checks = [live_check(settings, confirmed=confirmed), keys_check(settings, has_keys=has_keys)]
    checks.append(dead_man_check(settings.safety))
    if machine is not None:
        checks.append(disk_check(machine, settings.folders))
    facts: dict[str, SymbolFacts] = {}
    wallet_quote = Decimal(0)
    if all(check.passed for check in checks):
        checks.append(await _connection_check(settings, gateway))
    if all(check.passed for check in checks):
        rules, facts = await _symbol_facts(settings, gateway, checks)
        if not any(check.is_mistake for check in checks):
            wallet_quote = await _account_checks(settings, gateway, wallet, rules, facts, checks)
    return Preflight(tuple(checks), facts, wallet_quote)


def keys_check(settings: Settings, *, has_keys: bool) -> Check:
    """Return whether there are keys where they are needed."""
    if settings.environment is Environment.PAPER:
        return Check("API keys", "not needed for paper")
    if has_keys:
        return Check("API keys", "set")
    return Check(
        "API keys",
        f"none for {settings.environment}",
        "put BINANCE_API_KEY and BINANCE_SECRET_KEY into .env, or set EXCHANGE_ENV=paper to trade without keys",
    )


async def _connection_check(settings: Settings, gateway: Gateway) -> Check:
    where = f"PAPER_URL={settings.paper_url}" if settings.paper_url else str(settings.environment)
    try:
        await gateway.rest.synchronise_clock()
    except RateLimited as limited:
        return Check(
            "exchange",
            f"{where} takes no requests for now ({limited})",
            "wait; if it comes back, find out what else sends requests from this address",
            is_fault=True,
            is_passing=True,
        )
    except (NotSent, OutcomeUnknown, Refused) as error:
        remedy = (
            "start it with `python -m sim`, or unset PAPER_URL to use the embedded one"
            if settings.paper_url
            else "check the network, and whether the exchange is in maintenance"
        )
        return Check(
            "exchange",
            f"{where} cannot be reached ({error})",
            remedy,
            is_fault=True,
            # nobody starts a simulated exchange but whoever reads this; one that answers, if only "no", was started
            is_passing=not settings.paper_url or isinstance(error, Refused),
        )
    offset_ms = gateway.rest.server_clock.offset_ms
    return Check(
        "exchange",
        f"reached, clock offset {offset_ms} ms",
        "set this machine's clock (for example with NTP)" if abs(offset_ms) > MAX_CLOCK_OFFSET_MS else "",
        is_passing=True,  # a machine that has just begun learns the time a little later
    )


def disk_check(machine: Machine, folders: Iterable[Path]) -> Check:
    """Return whether the disks of these folders have room for a start."""
    found: list[str] = []
    for folder in folders:
        try:
            left_mb = machine.free_mb(folder)
        except OSError as error:
            return Check(
                DISK, f"{folder}: {error.strerror}", f"make {folder} a folder that can be written to"
            )
        found.append(f"{left_mb:.0f} MB free for {folder.name}")
        if left_mb < LEAST_FREE_MB:
            text = (
                f"make room: at least {LEAST_FREE_MB} MB are needed, and with less than {LOW_FREE_MB} MB there is an"
                " alarm; a day of metrics takes some 800 MB"
            )
            return Check(DISK, f"{left_mb:.0f} MB free for {folder}", text)
    return Check(DISK, ", ".join(found))


async def _symbol_facts(
    settings: Settings, gateway: Gateway, checks: list[Check]
) -> tuple[dict[str, SymbolRules], dict[str, SymbolFacts]]:
    """Add the checks of the symbols; return the rules of those that exist, and the facts of those that trade."""
    facts: dict[str, SymbolFacts] = {}
    info = await gateway.exchange_info()
    checks.append(order_rate_check(settings, info))
    for quotes in settings.quotes:
        check = _symbol_check(quotes.symbol, info.rules)
        checks.append(check)
        if not check.passed:
            continue
        rules = info.rules[quotes.symbol]
        found = SymbolFacts(rules, await gateway.book_top(rules), await gateway.mark_price(rules.symbol))
        facts[quotes.symbol] = found
        if found.book.is_sane:
            checks.extend(feasibility(quotes, settings.risk, found))
        else:
            checks.append(_book_check(quotes.symbol))
    return {symbol: info.rules[symbol] for symbol in settings.symbols if symbol in info.rules}, facts


def _book_check(symbol: str) -> Check:
    return Check(
        "book",
        f"that of {symbol} is empty, has one side only, or is crossed",
        "wait until the market has quotes on both sides, as a start does by itself",
        is_passing=True,
    )


def _symbol_check(symbol: str, all_rules: dict[str, SymbolRules]) -> Check:
    rules = all_rules.get(symbol)
    if rules is None:
        nearest = ", ".join(get_close_matches(symbol, all_rules, n=3)) or ", ".join(list(all_rules)[:3])
        return Check(
            "symbol",
            f"{symbol} is not known to the exchange",
            f"set symbol in config.yaml, for example to {nearest}",
        )
    if rules.status in ENDED:
        return Check("symbol", f"{symbol} is {rules.status}", "choose a symbol that is trading")
    if rules.status != TRADING:
        return Check(
            "symbol",
            f"{symbol} is {rules.status}",
            "wait until it trades, as a start does by itself, or choose another symbol",
            is_passing=True,
        )
    return Check(
        "symbol",
        f"{symbol}: tick {rules.tick_size:f}, step {rules.step_size:f},"
        f" minimum {rules.min_notional_quote:f} {rules.quote_asset}",
    )


async def _account_checks(
    settings: Settings,
    gateway: Gateway,
    wallet: BinanceRest | None,
    rules: Mapping[str, SymbolRules],
    facts: Mapping[str, SymbolFacts],
    checks: list[Check],
) -> Decimal:
    """Add the checks that need valid keys; return the wallet balance."""
    try:
        checks.extend(account_check(await gateway.account_modes()))
        if wallet is not None:
            checks.append(rights_check(await gateway.key_rights(wallet)))
        asset = next(iter(rules.values())).quote_asset
        wallet_quote, available_quote = await gateway.available_quote(asset)
        margin = margin_check(settings, wallet_quote, available_quote, asset)
        if not margin.passed:
            held_quote = sum([await gateway.held_margin_quote(symbol) for symbol in rules], Decimal(0))
            margin = margin_check(settings, wallet_quote, available_quote, asset, held_quote)
        checks.append(margin)
        checks.extend([await _leverage_check(settings, gateway, symbol) for symbol in rules])
        if all(check.passed for check in checks):
            checks.extend([await _closing_check(gateway, found) for found in facts.values()])
    except AuthFailed as error:
        checks.append(Check("API keys", f"not accepted by the exchange ({error})", _key_remedy(settings)))
        return Decimal(0)
    return wallet_quote


def _key_remedy(settings: Settings) -> str:
    if settings.environment is Environment.PAPER:
        return (
            "set BINANCE_API_KEY and BINANCE_SECRET_KEY to the made-up --api-key and --api-secret that the simulated"
            " exchange was started with, or leave all four out"
        )
    return (
        f"check that BINANCE_API_KEY and BINANCE_SECRET_KEY belong to {settings.environment},"
        " have futures trading enabled, and allow this machine's address"
    )


def rights_check(rights: KeyRights) -> Check:
    """Return whether the key may do what it is needed for, and nothing that would serve a thief."""
    name = "key rights"
    if rights.beyond_futures:
        return Check(
            name,
            f"the key may {', '.join(rights.beyond_futures)}",
            "make a key that may read and trade futures, and nothing else",
        )
    if not rights.futures:
        return Check(name, "futures are not enabled", "enable futures for this key")
    if rights.ip_restricted:
        return Check(name, "futures only")
    return Check(
        name,
        "futures only, but from any address",
        caution="restrict the key to this machine's address at the exchange: whoever steals it can lose the account's"
        " money by trading, without any right to withdraw",
    )


async def _leverage_check(settings: Settings, gateway: Gateway, symbol: str) -> Check:
    present = await gateway.leverage(symbol)
    wanted = settings.risk.leverage
    note = "" if present == wanted else f", will be set to {wanted} at the start"
    return Check("leverage", f"{symbol} {present}{note}")


async def _closing_check(gateway: Gateway, facts: SymbolFacts) -> Check:
    """Return whether the exchange takes the kind of order that closes a position: without it none may be opened.

    That there is nothing to reduce is no objection to the kind.
    """
    rules, name = facts.rules, "closing orders"
    lots = max(rules.min_lots, rules.floor_lots(rules.min_notional_quote / facts.mark_price) + 1)
    client_id = f"{PREFIX}probe"
    try:
        await gateway.probe_close(rules, client_id, Side.SELL, lots, facts.book.bid_ticks)
    except Refused as refusal:
        if type(refusal) is not Refused:  # busy, limited, or about the key
            raise
        if refusal.code not in (REDUCE_ONLY_REJECTED, REDUCE_ONLY_COVERED):
            return Check(
                name,
                f"the exchange would refuse the order that closes a position on {rules.symbol} ({refusal})",
                "do not trade with this version: look at the exchange's change log, and for a newer version of this"
                " program",
            )
    return Check(name, f"{rules.symbol}: taken")


async def apply_leverage(settings: Settings, gateway: Gateway, symbols: Iterable[str]) -> None:
    """Have the configured leverage set for every symbol, read back. Raises StartRefused if the exchange says no."""
    wanted = settings.risk.leverage
    for symbol in symbols:
        present = await gateway.leverage(symbol)
        if present == wanted:
            continue
        try:
            await gateway.set_leverage(symbol, wanted)
        except Refused as refusal:
            if isinstance(refusal, AuthFailed | Overloaded | RateLimited | ClockSkew):
                raise  # it says nothing of the leverage; what is the matter with a key is asked again with all else
            remedy = (
                f"set leverage in config.yaml back to the present {present}, or close the position first"
                if refusal.code in NOT_TO_BE_LOWERED
                else "set a smaller leverage in config.yaml"
            )
            raise StartRefused(
                f"leverage: the exchange refuses {wanted} for {symbol} ({refusal}); {remedy}"
            ) from refusal
        if await gateway.leverage(symbol) != wanted:
            raise ExchangeError(f"the leverage of {symbol} is not {wanted} although the exchange accepted it")
