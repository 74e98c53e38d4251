"""Before the first order: what cannot work is named, with values that do."""

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.gateway import AccountModes, ExchangeInfo, Gateway
from core.model import BookTop, SymbolRules
from core.preflight import (
    HEADROOM_PERCENT,
    Check,
    Preflight,
    SymbolFacts,
    account_check,
    apply_leverage,
    dead_man_check,
    feasibility,
    live_check,
    margin_check,
    order_rate_check,
    preflight,
    smallest_capital_quote,
    smallest_size_quote,
)
from core.settings import (
    ExecutionSettings,
    LogSettings,
    PaperSettings,
    SafetySettings,
    Settings,
    settings_from,
)
from utils.clock import SystemClock
from utils.config_loader import get_config
from utils.errors import AuthFailed, ExchangeError, NotSent, OutcomeUnknown, StartRefused
from utils.http import BinanceRest, HttpResponse
from utils.venue import Environment

from .examples import BOOK, BTC, MANAGE, MARK, MARKET_DATA, QUOTES, RISK, SOME_RULES, some_books
from .test_wire import EXCHANGE_INFO_BTC

BTC_NOW = SymbolFacts(BTC, BOOK, MARK)
DOCUMENT_QUOTES = replace(QUOTES, size_quote=Decimal(10))
DOCUMENT_RISK = replace(RISK, capital_quote=Decimal(200))
"""The first document's own numbers: 10 USDT an order, 200 USDT of capital."""


def failed(checks: list[Check] | tuple[Check, ...]) -> list[str]:
    """The names of those that did not pass."""
    return [check.name for check in checks if not check.passed]


def settings(environment: Environment = Environment.PAPER, **changes: Any) -> Settings:
    """The shipped settings, unless changed."""
    shipped = Settings(
        environment=environment,
        paper_url="",
        instance_id="mm1",
        strategy_name="passive_market_maker",
        state_directory=Path("state"),
        live_max_capital_quote=Decimal(0),
        quotes=(QUOTES,),
        manage=MANAGE,
        execution=ExecutionSettings(modify_worker_count=2, modify_rate_limit=10, order_transport="rest"),
        risk=RISK,
        market_data=MARKET_DATA,
        safety=SafetySettings(
            max_book_age_ms=3000,
            dead_man_window_s=20,
            dead_man_refresh_s=5,
            request_timeout_s=3,
            stop_timeout_s=4,
            restart_budget=5,
            restart_window_s=60,
            listen_key_refresh_s=1800,
        ),
        logs=LogSettings(
            log_to_csv=True, directory=Path("logs"), level="INFO", status_interval_s=5, max_metrics_mb=0
        ),
        paper=PaperSettings(market="synthetic", recording="", speed=Decimal(1), seed=1, latency_ms=5),
    )
    return replace(shipped, **changes)


# --- feasibility --------------------------------------------------------------------------------------------


def test_shipped_settings_are_feasible_on_the_real_rules() -> None:
    """Three levels of 250 USDT with a limit of 2000."""
    checks = feasibility(QUOTES, RISK, BTC_NOW)
    assert failed(checks) == []
    assert [check.name for check in checks] == [
        "order size",
        "price band",
        "position limit",
        "number of orders",
    ]


def test_size_of_the_first_document_is_refused_with_the_smallest_workable_values() -> None:
    """10 USDT at 80 000: one step costs 80.24 at the farthest level, with headroom 85; three of them need 255."""
    (check, *rest) = feasibility(DOCUMENT_QUOTES, DOCUMENT_RISK, BTC_NOW)
    assert failed(rest) == []
    assert check.found == (
        "10 USDT an order on BTCUSDT at 80000: size is below the minimum of 0.001 BTC"
        " (minimum notional 50 USDT, smallest step 0.001 BTC)"
    )
    assert check.remedy == (
        "set order_config.quantity_per_order_usdt to at least 85 and, for 3 levels a side at leverage 5 and"
        " max_net_position_ratio 0.2, initial_capital to at least 255"
    )


def test_values_that_are_suggested_to_the_first_document_really_pass() -> None:
    """Taken from the sentence itself, as a person would take them."""
    remedy = feasibility(DOCUMENT_QUOTES, DOCUMENT_RISK, BTC_NOW)[0].remedy
    size, capital = (Decimal(number) for number in re.findall(r"to at least (\d+)", remedy))
    quotes, risk = replace(QUOTES, size_quote=size), replace(RISK, capital_quote=capital)
    assert failed(feasibility(quotes, risk, BTC_NOW)) == []


def test_values_that_are_suggested_are_the_smallest_but_for_the_headroom() -> None:
    """A tenth less does not work."""
    smallest = smallest_size_quote(DOCUMENT_QUOTES, BTC_NOW)
    less = replace(QUOTES, size_quote=smallest * (100 - 2 * HEADROOM_PERCENT) / 100)
    assert failed(feasibility(less, RISK, BTC_NOW)) == ["order size"]
    capital = smallest_capital_quote(3, smallest, RISK)
    enough, short = (replace(RISK, capital_quote=capital - less_by) for less_by in (0, 1))
    quotes = replace(QUOTES, size_quote=smallest)
    assert failed(feasibility(quotes, enough, BTC_NOW)) == []
    assert failed(feasibility(quotes, short, BTC_NOW)) == ["position limit"]


@given(
    rules=SOME_RULES,
    book=some_books(),
    levels=st.integers(1, 10),
    offset=st.decimals(Decimal("0.001"), Decimal("0.4"), places=3),
    size=st.decimals(1, 1000, places=2),
    leverage=st.integers(1, 125),
    ratio=st.decimals(Decimal("0.01"), 1, places=2),
)
def test_suggested_values_pass_whatever_the_rules_and_the_price(
    rules: SymbolRules,
    book: BookTop,
    levels: int,
    offset: Decimal,
    size: Decimal,
    leverage: int,
    ratio: Decimal,
) -> None:
    """On any symbol: the smallest size rests at every level, and the smallest capital holds all of a side."""
    assume(book.bid_ticks > 100)  # below, one tick is a percent of the price, and a level leaves the band
    mid = rules.price(book.mid_half_ticks) / 2
    facts = SymbolFacts(rules, book, mid)
    quotes = replace(QUOTES, levels=levels, offset_percent=offset, size_quote=size)
    risk = replace(RISK, capital_quote=Decimal(1), leverage=leverage, max_net_position_ratio=ratio)
    smallest = smallest_size_quote(quotes, facts)
    capital = smallest_capital_quote(levels, smallest, risk)
    workable = replace(quotes, size_quote=smallest)
    assert failed(feasibility(workable, replace(risk, capital_quote=capital), facts)) == []
    if "order size" in failed(feasibility(quotes, risk, facts)):
        assert smallest > size


def test_size_over_the_maximum_is_told_to_be_smaller() -> None:
    """Not to be at least what it is already; the largest workable value passes."""
    tight = replace(BTC_NOW, rules=replace(BTC, max_lots=5))
    check = feasibility(replace(QUOTES, size_quote=Decimal(900)), RISK, tight)[0]
    assert "size is above the maximum of 0.005 BTC" in check.found
    assert check.remedy == "set order_config.quantity_per_order_usdt to at most 398"
    assert failed(feasibility(replace(QUOTES, size_quote=Decimal(398)), RISK, tight)) == []


def test_notional_below_the_minimum_is_refused_though_the_size_is_a_lot() -> None:
    """At 40 000 one step is 40 USDT: two are needed."""
    low = SymbolFacts(
        BTC, msgspec.structs.replace(BOOK, bid_ticks=399_999, ask_ticks=400_001), Decimal(40_000)
    )
    quotes = replace(QUOTES, size_quote=Decimal(60))
    check = feasibility(quotes, RISK, low)[0]
    assert "is below the minimum of 50" in check.found
    assert "to at least 85 " in check.remedy


def test_suggestion_never_lowers_the_capital_that_is_there() -> None:
    """More than enough stays."""
    assert "initial_capital to at least 2000" in feasibility(DOCUMENT_QUOTES, RISK, BTC_NOW)[0].remedy


def test_levels_beyond_max_position_are_refused_with_the_one_that_holds_them() -> None:
    """Three lots a level and side: 0.009 BTC fit into 0.009 and not into 0.008, though the notional does."""
    fitting = replace(RISK, max_position=Decimal("0.009"))
    checks = feasibility(QUOTES, fitting, BTC_NOW)
    assert failed(checks) == []
    assert checks[2].found.endswith("; 0.009 BTC a side, risk.max_position 0.009")
    checks = feasibility(QUOTES, replace(RISK, max_position=Decimal("0.008")), BTC_NOW)
    assert failed(checks) == ["position limit"]
    assert checks[2].remedy.startswith("set risk.max_position to at least 0.009, or make ")


def test_more_orders_than_allowed_are_refused_with_both_ways_out() -> None:
    """By our own limit, by one that allows no pair, and by the exchange's, which cannot be raised."""
    for most, remedy in (
        (5, "set risk.max_order_count to at least 6, or set order_config.levels to at most 2"),
        (1, "set risk.max_order_count to at least 6"),
        (6, ""),
    ):
        checks = feasibility(QUOTES, replace(RISK, max_order_count=most), BTC_NOW)
        assert checks[3].remedy == remedy
    few = replace(BTC_NOW, rules=replace(BTC, max_open_orders=4))
    check = feasibility(QUOTES, replace(RISK, max_order_count=5), few)[3]
    assert check.found == "6 orders, risk.max_order_count 5, the exchange allows 4"
    assert check.remedy == "set order_config.levels to at most 2"


def test_levels_beyond_the_position_limit_are_refused_with_the_capital_that_holds_them() -> None:
    """Ten levels of 250 are 2500 a side."""
    quotes = replace(QUOTES, levels=10)
    check = feasibility(quotes, RISK, BTC_NOW)[2]
    assert check.found == "10 levels × 250 = 2500 USDT a side, position limit 2000 USDT"
    assert check.remedy == (
        "set initial_capital to at least 2500, or make order_config.levels or"
        " order_config.quantity_per_order_usdt smaller"
    )
    assert failed(feasibility(quotes, replace(RISK, capital_quote=Decimal(2500)), BTC_NOW)) == []


def test_level_outside_of_the_lowest_price_is_refused() -> None:
    """A deep bid below what the exchange takes."""
    floor = replace(BTC, min_price=Decimal(79_800))
    check = feasibility(QUOTES, RISK, replace(BTC_NOW, rules=floor))[1]
    assert check.found == "buy 3: price 79760.0 is outside of 79800 to 4529764"
    assert "price_offset_percent" in check.remedy
    assert check.is_mistake


def moved(percent: int, rules: SymbolRules = BTC) -> SymbolFacts:
    """What is known while the market is so far from the mark price."""
    ticks = 8_000 * (100 + percent)
    book = msgspec.structs.replace(BOOK, bid_ticks=ticks - 1, ask_ticks=ticks + 1)
    return SymbolFacts(rules, book, MARK)


@pytest.mark.parametrize("percent", [-10, -6, 6, 10])
def test_market_that_has_left_its_mark_price_is_waited_for(percent: int) -> None:
    """Not even a quote at the mid would be taken; what the same configuration asks for at the mark price is."""
    check = feasibility(QUOTES, RISK, moved(percent))[1]
    assert (
        f"the band around the mark price 80000, with the market's mid at {800 * (100 + percent)}"
        in check.found
    )
    assert check.remedy == "wait until the market is nearer to its mark price, as a start does by itself"
    assert (check.passed, check.is_passing, check.is_mistake) == (False, True, False)
    assert failed(feasibility(QUOTES, RISK, moved(0))) == []
    assert failed(feasibility(QUOTES, RISK, moved(4 if percent > 0 else -4))) == []


@pytest.mark.parametrize(
    "rules",
    [replace(BTC, min_price=Decimal(79_800)), replace(BTC, multiplier_down=Decimal("1.002"))],
    ids=["lowest price", "band"],
)
@pytest.mark.parametrize("percent", [-6, 0])
def test_levels_that_fail_at_the_mark_price_as_well_are_a_mistake(rules: SymbolRules, percent: int) -> None:
    """Wherever the market is: nothing that passes would have them taken."""
    check = feasibility(QUOTES, RISK, moved(percent, rules))[1]
    assert check.is_mistake
    assert "price_offset_percent" in check.remedy


def test_more_orders_than_the_exchange_allows_are_refused() -> None:
    """With the number of levels that it does."""
    few = replace(BTC_NOW, rules=replace(BTC, max_open_orders=5))
    check = feasibility(QUOTES, RISK, few)[3]
    assert (check.found, check.remedy) == (
        "6 orders, risk.max_order_count 100, the exchange allows 5",
        "set order_config.levels to at most 2",
    )


# --- order rate ---------------------------------------------------------------------------------------------


def rate(levels: int, interval_s: float, info: ExchangeInfo | None = None, symbols: int = 1) -> Check:
    """What is said of so many levels, refreshed so often, on so many symbols."""
    quotes = replace(QUOTES, levels=levels, refresh_interval_s=interval_s)
    return order_rate_check(settings(quotes=(quotes,) * symbols), info or ExchangeInfo({}, 300, 1200))


def test_shipped_order_rate_is_far_from_the_limits() -> None:
    """Six orders every five seconds."""
    check = rate(3, 5)
    assert check.passed
    assert check.found == (
        "at most 12 orders in 10 s and 72 a minute by the interval; the exchange allows 300 and 1200"
    )


@pytest.mark.parametrize("on_move", [True, False])
def test_order_rate_names_what_moves_of_the_price_add(on_move: bool) -> None:
    """The interval alone is a fraction of what goes out in a market that moves."""
    quotes = replace(QUOTES, refresh_mode="amend", on_move=on_move)
    found = order_rate_check(settings(quotes=(quotes,)), ExchangeInfo({}, 300, 1200)).found
    text = "at moves of the price, each 250 ms at the soonest, up to 10 amend requests a second while there is room"
    assert (text in found) is on_move


@pytest.mark.parametrize(
    ("levels", "interval_s", "symbols", "passes"),
    [
        (7, 1, 1, True),
        (8, 1, 1, False),
        (3, 1, 2, True),
        (4, 1, 2, False),
        (35, 5, 1, True),
        (36, 5, 1, False),
        (100, 30, 1, True),
        (106, 30, 1, False),
    ],
)
def test_order_rate_may_use_seven_tenths_of_either_limit(
    levels: int, interval_s: float, symbols: int, passes: bool
) -> None:
    """Of 300 in 10 s and of 1200 a minute, over all symbols; a refresh that is slower still happens at once."""
    check = rate(levels, interval_s, symbols=symbols)
    assert check.passed is passes
    assert passes or "refresh_config.orderbook_refresh_interval longer" in check.remedy


@pytest.mark.parametrize(("timeout_s", "passes"), [(14, True), (15, False)])
def test_sign_of_life_without_an_answer_is_given_up_before_the_window_is_over(
    timeout_s: float, passes: bool
) -> None:
    """Else the next one could not even be sent in time."""
    check = dead_man_check(replace(settings().safety, request_timeout_s=timeout_s))
    assert check.passed is passes
    assert check.found == f"a sign of life each 5 s, {timeout_s} s for its answer, a window of 20 s"
    assert passes or "make safety.request_timeout_s" in check.remedy


# --- account and confirmation -------------------------------------------------------------------------------


def test_margin_has_to_pay_one_side_at_the_leverage() -> None:
    """750 USDT at leverage 5 are 150."""
    assert margin_check(settings(), Decimal(1000), Decimal(150), "USDT").passed
    check = margin_check(settings(), Decimal(1000), Decimal("149.99"), "USDT")
    assert check.found == "wallet 1000.00 USDT, available 149.99, needed 150.00 at leverage 5"
    assert check.remedy.startswith("transfer USDT into the futures wallet")


def test_account_of_the_right_kind_passes() -> None:
    """One-way, single-asset, allowed to trade."""
    assert failed(account_check(AccountModes(can_trade=True, hedge_mode=False, multi_assets=False))) == []


def test_account_of_the_wrong_kind_is_told_what_to_switch() -> None:
    """Each mode by its own name."""
    checks = account_check(AccountModes(can_trade=False, hedge_mode=True, multi_assets=True))
    assert failed(checks) == ["trading", "position mode", "asset mode"]
    assert "one-way mode" in checks[1].remedy
    assert "single-asset mode" in checks[2].remedy


@pytest.mark.parametrize(
    ("environment", "confirmed", "allowed", "passes"),
    [
        (Environment.PAPER, False, 0, True),
        (Environment.TESTNET, False, 0, True),
        (Environment.LIVE, False, 5000, False),
        (Environment.LIVE, True, 0, False),
        (Environment.LIVE, True, 1999, False),
        (Environment.LIVE, True, 2000, True),
    ],
)
def test_real_money_needs_three_confirmations(
    environment: Environment, confirmed: bool, allowed: int, passes: bool
) -> None:
    """Environment, command line, and a capital that covers the one in use."""
    check = live_check(settings(environment, live_max_capital_quote=Decimal(allowed)), confirmed=confirmed)
    assert check.passed is passes
    assert passes or "--live" in check.remedy or "live.max_capital_usdt" in check.remedy


def test_first_check_that_failed_refuses_the_start_in_one_sentence() -> None:
    """What was found, and what to do."""
    found = Preflight(
        (Check("a", "fine"), Check("b", "bad", "mend it"), Check("c", "worse", "no")), {}, Decimal(0)
    )
    with pytest.raises(StartRefused, match=r"^b: bad; mend it$"):
        found.refuse_unless_passed()


def test_mistake_is_told_before_what_passes_by_itself() -> None:
    """Waiting mends no mistake; without one, the start waits."""
    passing = Check("book", "empty", "wait", is_passing=True)
    found = Preflight((Check("a", "fine"), passing, Check("c", "bad", "mend it")), {}, Decimal(0))
    with pytest.raises(StartRefused, match=r"^c: bad; mend it$"):
        found.refuse_unless_passed()
    found = Preflight((Check("a", "fine", is_passing=True), passing), {}, Decimal(0))
    found.refuse_unless_passed()
    assert found.waits_for == "book: empty; wait"


def test_fault_of_nobody_is_no_refusal() -> None:
    """An exchange out of reach is not a mistake of the configuration."""
    found = Preflight(
        (Check("exchange", "cannot be reached", "check the network", is_fault=True),), {}, Decimal(0)
    )
    with pytest.raises(NotSent, match="cannot be reached"):
        found.refuse_unless_passed()


def test_start_is_not_refused_where_everything_passed() -> None:
    """Nothing is raised."""
    Preflight((Check("a", "fine"),), {}, Decimal(0)).refuse_unless_passed()


# --- asking -------------------------------------------------------------------------------------------------
# The answers are those of the documentation, for accounts and symbols that the simulated exchange does not have (keys
# that may withdraw, halted symbols). How the daemon starts on the simulated exchange is in test_scenarios_start.

ANSWERS: dict[str, Any] = {
    "GET /fapi/v1/exchangeInfo": {
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
        ],
        "symbols": [EXCHANGE_INFO_BTC, {**EXCHANGE_INFO_BTC, "symbol": "ODD", "filters": []}],
    },
    "GET /fapi/v1/depth": {
        "lastUpdateId": 5001,
        "E": 1790000000123,
        "T": 1790000000120,
        "bids": [["79999.90", "4.218"]],
        "asks": [["80000.10", "6.128"]],
    },
    "GET /fapi/v1/premiumIndex": {"symbol": "BTCUSDT", "markPrice": "80000.00000000", "time": 1790000000000},
    "GET /fapi/v1/accountConfig": {"canTrade": True, "dualSidePosition": False, "multiAssetsMargin": False},
    "GET /fapi/v3/balance": [
        {"asset": "BNB", "balance": "1", "availableBalance": "1"},
        {"asset": "USDT", "balance": "5000.00000000", "availableBalance": "4900.00000000"},
    ],
    "GET /fapi/v3/positionRisk": [],
    "GET /fapi/v1/symbolConfig": [{"symbol": "BTCUSDT", "marginType": "CROSSED", "leverage": 20}],
    "POST /fapi/v1/leverage": {"leverage": 5, "maxNotionalValue": "1000000", "symbol": "BTCUSDT"},
    "GET /sapi/v1/account/apiRestrictions": {
        "ipRestrict": True,
        "enableWithdrawals": False,
        "enableInternalTransfer": False,
        "permitsUniversalTransfer": False,
        "enableFutures": True,
    },
}


class Answers:
    """Replies by method and path; an int is a refusal with that code. What changes the account is kept."""

    def __init__(self) -> None:
        self.answers = dict(ANSWERS)
        self.changes: list[str] = []

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """The answer to this question."""
        if method != "GET" and not path.endswith("/test"):
            self.changes.append(f"{method} {path} {query.split('&recvWindow')[0]}")
        answer = self.answers.get(f"{method} {path}", {"serverTime": SystemClock().time_ms()})
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return HttpResponse(400, {}, msgspec.json.encode({"code": answer, "msg": "no"}))
        return HttpResponse(
            200, {}, msgspec.json.encode(answer.pop(0) if isinstance(answer, Series) else answer)
        )

    async def close(self) -> None:
        """Nothing is held."""


class Series(list[Any]):
    """Answers one after the other."""


def asked() -> tuple[Gateway, Answers]:
    """A gateway, and the answers that its questions get."""
    transport, clock = Answers(), SystemClock()
    return Gateway(BinanceRest(transport, clock, api_key="k", api_secret="s"), clock), transport


def answering(path: str, answer: Any, method: str = "GET") -> Gateway:
    """A gateway that answers one question differently."""
    gateway, transport = asked()
    transport.answers[f"{method} {path}"] = answer
    return gateway


async def checked(
    gateway: Gateway, given: Settings | None = None, *, has_keys: bool = True, wallet: bool = False
) -> dict[str, Check]:
    """Every check by its name; the last of those with the same."""
    found = await preflight(
        given or settings(), gateway, gateway.rest if wallet else None, has_keys=has_keys, confirmed=False
    )
    return {check.name: check for check in found.checks}


async def test_everything_passes_and_nothing_is_changed() -> None:
    """The facts go on to the start; the leverage is only announced."""
    gateway, transport = asked()
    found = await preflight(settings(), gateway, gateway.rest, has_keys=True, confirmed=False)
    assert failed(found.checks) == []
    assert found.facts["BTCUSDT"].rules == BTC
    assert found.wallet_quote == 5000
    assert transport.changes == []
    named = {check.name: check.found for check in found.checks}
    assert named["leverage"] == "BTCUSDT 20, will be set to 5 at the start"
    assert named["symbol"] == "BTCUSDT: tick 0.1, step 0.001, minimum 50 USDT"
    assert named["key rights"] == "futures only"
    found.refuse_unless_passed()


async def test_without_keys_nothing_is_asked_of_a_real_exchange() -> None:
    """The sentence names the variables, and the way without them."""
    checks = await checked(asked()[0], settings(Environment.TESTNET), has_keys=False)
    assert "BINANCE_API_KEY" in checks["API keys"].remedy
    assert "EXCHANGE_ENV=paper" in checks["API keys"].remedy
    assert "exchange" not in checks
    assert (await checked(asked()[0], settings(Environment.TESTNET)))["API keys"].passed


@pytest.mark.parametrize(
    ("paper_url", "remedy"), [("", "check the network"), ("http://127.0.0.1:1", "python -m sim")]
)
async def test_exchange_out_of_reach_is_a_fault_with_a_remedy(paper_url: str, remedy: str) -> None:
    """Another one for a simulated exchange that was not started, which nobody waits for."""
    gateway = answering("/fapi/v1/time", NotSent("GET /fapi/v1/time: no connection"))
    check = (await checked(gateway, settings(paper_url=paper_url)))["exchange"]
    assert check.is_fault
    assert check.is_passing is not bool(paper_url)
    assert "no connection" in check.found
    assert remedy in check.remedy


@pytest.mark.parametrize("environment", ["testnet", "live"])
async def test_paper_url_that_was_left_behind_is_no_matter_of_a_real_exchange(
    environment: str, tmp_path: Path
) -> None:
    """A boot before the network is up waits for the exchange, and nobody is told to start a simulated one."""
    (tmp_path / ".env").write_text(f"EXCHANGE_ENV={environment}\nPAPER_URL=http://127.0.0.1:1\n")
    (tmp_path / "config.yaml").write_text("live: {max_capital_usdt: 1000000}\n")
    real = settings_from(get_config(tmp_path / ".env", tmp_path / "config.yaml"))
    gateway = answering("/fapi/v1/time", NotSent("GET /fapi/v1/time: no connection"))
    found = await preflight(real, gateway, None, has_keys=True, confirmed=True)
    [check] = [check for check in found.checks if check.name == "exchange"]
    assert check.found.startswith(f"{environment} cannot be reached")
    assert check.is_passing
    assert "check the network" in check.remedy


async def test_clock_that_is_a_minute_off_is_refused() -> None:
    """Offsets are corrected, but so large a one is none to trade by; a machine that has just begun learns the time."""
    gateway = answering("/fapi/v1/time", {"serverTime": SystemClock().time_ms() + 90_000})
    check = (await checked(gateway))["exchange"]
    assert "set this machine's clock" in check.remedy
    assert check.is_passing


async def test_unknown_symbol_is_refused_with_the_nearest_ones() -> None:
    """A slip of the pen."""
    given = settings(quotes=(replace(QUOTES, symbol="BTCUSD"),))
    assert (await checked(asked()[0], given))["symbol"].remedy == (
        "set symbol in config.yaml, for example to BTCUSDT"
    )


async def test_symbol_like_none_is_refused_with_any() -> None:
    """Something to go on with."""
    given = settings(quotes=(replace(QUOTES, symbol="QQQQQQQQQQ"),))
    assert "BTCUSDT" in (await checked(asked()[0], given))["symbol"].remedy


@pytest.mark.parametrize(
    ("status", "is_passing"),
    [
        ("TRADING_HALT", True),
        ("SETTLING", True),
        ("SOMETHING_NEW", True),
        ("DELIVERED", False),
        ("CLOSE", False),
    ],
)
async def test_symbol_that_is_not_trading_does_not_pass(status: str, is_passing: bool) -> None:
    """Halted is waited for, delisted is a mistake; the account is asked all the same, the market is not."""
    halted = {
        **ANSWERS["GET /fapi/v1/exchangeInfo"],
        "symbols": [{**EXCHANGE_INFO_BTC, "status": status}],
    }
    checks = await checked(answering("/fapi/v1/exchangeInfo", halted))
    assert checks["symbol"].found == f"BTCUSDT is {status}"
    assert (checks["symbol"].passed, checks["symbol"].is_passing) == (False, is_passing)
    assert ("margin" in checks) is is_passing
    assert checks.keys().isdisjoint({"book", "order size", "closing orders"})


async def test_empty_book_is_waited_for() -> None:
    """Nothing can be said about sizes and prices without a market."""
    empty = {**ANSWERS["GET /fapi/v1/depth"], "bids": []}
    check = (await checked(answering("/fapi/v1/depth", empty)))["book"]
    assert check.found == "that of BTCUSDT is empty, has one side only, or is crossed"
    assert (check.passed, check.is_passing) == (False, True)


@pytest.mark.parametrize(
    ("environment", "remedy"),
    [(Environment.PAPER, "--api-key and --api-secret"), (Environment.TESTNET, "belong to testnet")],
)
async def test_keys_that_are_not_accepted_are_refused_with_what_to_look_at(
    environment: Environment, remedy: str
) -> None:
    """Each environment has its own mistake."""
    gateway = answering("/fapi/v1/accountConfig", -2015)
    check = (await checked(gateway, settings(environment)))["API keys"]
    assert "not accepted by the exchange (no (code -2015" in check.found
    assert remedy in check.remedy


@pytest.mark.parametrize(
    ("rights", "found", "passes"),
    [
        ({"enableWithdrawals": True}, "the key may withdraw", False),
        ({"enableInternalTransfer": True}, "the key may transfer to other accounts", False),
        ({"permitsUniversalTransfer": True}, "the key may transfer between wallets", False),
        (
            {"enableSpotAndMarginTrading": True, "enableMargin": True},
            "the key may trade spot, borrow",
            False,
        ),
        ({"enableVanillaOptions": True}, "the key may trade options", False),
        ({"enablePortfolioMarginTrading": True}, "the key may trade on portfolio margin", False),
        ({"enableFixApiTrade": True}, "the key may trade by FIX", False),
        ({"enableFutures": False}, "futures are not enabled", False),
        ({"ipRestrict": False}, "futures only, but from any address", True),
    ],
)
async def test_key_that_may_do_more_or_less_than_trade_is_noticed(
    rights: dict[str, bool], found: str, passes: bool
) -> None:
    """Whatever would serve a thief is refused; an address is recommended, aloud."""
    whole = {**ANSWERS["GET /sapi/v1/account/apiRestrictions"], **rights}
    gateway = answering("/sapi/v1/account/apiRestrictions", whole)
    check = (await checked(gateway, wallet=True))["key rights"]
    assert (check.found, check.passed) == (found, passes)
    assert check.caution.startswith("restrict the key to this machine's address") is passes


async def test_account_without_the_asset_has_no_margin() -> None:
    """Nothing there is zero."""
    check = (await checked(answering("/fapi/v3/balance", [])))["margin"]
    assert check.found.startswith("wallet 0.00 USDT, available 0.00")
    assert check.is_mistake


async def test_margin_that_our_own_symbols_hold_is_there() -> None:
    """A restart finds the position and the orders of the run before; those of other symbols do not count."""
    gateway, transport = asked()
    transport.answers["GET /fapi/v3/balance"] = [
        {"asset": "USDT", "balance": "400", "availableBalance": "49"}
    ]
    ours, other = (
        {"symbol": "BTCUSDT", "initialMargin": "101.00"},
        {"symbol": "ETHUSDT", "initialMargin": "200"},
    )
    transport.answers["GET /fapi/v3/positionRisk"] = [ours, other]
    check = (await checked(gateway))["margin"]
    assert check.passed
    assert check.found == (
        "wallet 400.00 USDT, available 49.00 and 101.00 held by position and orders on our symbols,"
        " needed 150.00 at leverage 5"
    )
    transport.answers["GET /fapi/v3/positionRisk"] = [{**ours, "initialMargin": "100.99"}, other]
    assert (await checked(gateway))["margin"].is_mistake


async def test_order_rate_over_the_exchanges_own_limits_is_refused() -> None:
    """They are read from it, not assumed; what it does not name is taken for the usual."""
    limit = {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 100}
    tight = {**ANSWERS["GET /fapi/v1/exchangeInfo"], "rateLimits": [limit]}
    check = (await checked(answering("/fapi/v1/exchangeInfo", tight)))["order rate"]
    assert check.found.endswith("the exchange allows 300 and 100")
    assert not check.passed


@pytest.mark.parametrize("info", [{}, {"symbols": []}, {"rateLimits": [{}], "symbols": []}, []])
async def test_rules_that_cannot_be_read_are_no_answer(info: Any) -> None:
    """Neither a refusal of the configuration nor a fault of this program."""
    with pytest.raises(OutcomeUnknown, match="the exchange's rules could not be read"):
        await checked(answering("/fapi/v1/exchangeInfo", info))


@pytest.mark.parametrize("name", ["BTC\r\nUSDT", "BTCUSDT\x1b[2J", "btcusdt", "币安人生USDT", "B" * 33, ""])
async def test_symbol_with_a_name_that_none_has_is_left_out(name: str) -> None:
    """It cannot be traded here, and its name stands in no message; the others are not touched by it."""
    info = ANSWERS["GET /fapi/v1/exchangeInfo"]
    both = {**info, "symbols": [{**info["symbols"][0], "symbol": name}, *info["symbols"]]}
    check = (await checked(answering("/fapi/v1/exchangeInfo", both)))["symbol"]
    assert check.passed
    assert list((await answering("/fapi/v1/exchangeInfo", both).exchange_info()).rules) == ["BTCUSDT"]


async def test_balance_that_is_no_number_to_count_with_is_no_answer() -> None:
    """Infinity would pay for everything."""
    rich = [{"asset": "USDT", "balance": "5000", "availableBalance": "Infinity"}]
    with pytest.raises(OutcomeUnknown, match="could not be read"):
        await checked(answering("/fapi/v3/balance", rich))


async def test_symbol_that_the_account_does_not_list_is_no_answer() -> None:
    """Its leverage is not guessed."""
    with pytest.raises(OutcomeUnknown, match="the leverage could not be read"):
        await checked(answering("/fapi/v1/symbolConfig", []))


# --- leverage -----------------------------------------------------------------------------------------------


def leverages(*values: int) -> Series:
    """The leverage as it reads, one time after the other."""
    return Series([{"symbol": "BTCUSDT", "leverage": value}] for value in values)


async def test_leverage_is_set_and_read_back() -> None:
    """One change, and then it is so."""
    gateway, transport = asked()
    transport.answers["GET /fapi/v1/symbolConfig"] = leverages(20, 5)
    await apply_leverage(settings(), gateway, ["BTCUSDT"])
    assert transport.changes == ["POST /fapi/v1/leverage symbol=BTCUSDT&leverage=5"]


async def test_leverage_that_is_right_is_left_alone() -> None:
    """Nothing is sent."""
    gateway, transport = asked()
    transport.answers["GET /fapi/v1/symbolConfig"] = leverages(5)
    await apply_leverage(settings(), gateway, ["BTCUSDT"])
    assert transport.changes == []


async def test_leverage_that_the_exchange_refuses_refuses_the_start() -> None:
    """With its reason and what to do."""
    with pytest.raises(
        StartRefused, match=r"refuses 5 for BTCUSDT \(no \(code -4028.*set a smaller leverage"
    ):
        await apply_leverage(settings(), answering("/fapi/v1/leverage", -4028, "POST"), ["BTCUSDT"])


@pytest.mark.parametrize("code", [-4161, -2028])
async def test_leverage_that_is_too_small_for_a_position_is_not_told_to_be_smaller(code: int) -> None:
    """It was lowered while a position is held: back to what it is, or the position has to go."""
    remedy = "set leverage in config.yaml back to the present 20, or close the position first"
    with pytest.raises(StartRefused, match=rf"refuses 5 for BTCUSDT \(no \(code {code}.*\); {remedy}$"):
        await apply_leverage(settings(), answering("/fapi/v1/leverage", code, "POST"), ["BTCUSDT"])


async def test_key_that_is_not_accepted_says_nothing_of_the_leverage() -> None:
    """The checks are asked again, and have the right word for it."""
    with pytest.raises(AuthFailed):
        await apply_leverage(settings(), answering("/fapi/v1/leverage", -2015, "POST"), ["BTCUSDT"])


@pytest.mark.parametrize("code", [-1008, -1003, -1021])
async def test_busy_exchange_that_sets_no_leverage_now_is_no_mistake_of_the_configuration(code: int) -> None:
    """The start waits for what passes by itself, where a refusal would end it for good."""
    with pytest.raises(ExchangeError):
        await apply_leverage(settings(), answering("/fapi/v1/leverage", code, "POST"), ["BTCUSDT"])


async def test_leverage_that_is_not_what_was_accepted_is_a_fault() -> None:
    """The limits would not hold."""
    with pytest.raises(ExchangeError, match="is not 5 although the exchange accepted it"):
        await apply_leverage(settings(), asked()[0], ["BTCUSDT"])
