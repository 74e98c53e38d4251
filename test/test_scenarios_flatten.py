"""A position over its limit is closed through trouble of every kind, and never turned; in virtual time."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from core.engine import Engine
from core.exit_code import ExitCode
from core.halt import HaltLatch
from core.model import OrderStatus
from sim.exchange import Request
from test.daemon import Sent, World, in_a_world, json_reply
from utils.errors import OutcomeUnknown
from utils.http import HttpResponse

OVER_THE_LIMIT = "0.043"
CALM: dict[str, Any] = {"risk": {"max_daily_loss": 0, "max_price_change": 0}}


def fault(world: World, kind: str, **keys: str | int | float) -> None:
    """Let something go wrong from now on."""
    query = urlencode({"fault": kind, **keys})
    reply = world.exchange.handle(Request("POST", "/sim/fault", query, {}, ""), world.clock.time_ms())
    assert reply.status == 200, reply.body


def closing(world: World) -> list[dict[str, Any]]:
    """Our reduce-only orders at the exchange, oldest first."""
    return [order for order in world.record()["orders"] if order["reduceOnly"] and _is_ours(order)]


def _is_ours(order: dict[str, Any]) -> bool:
    return bool(order["clientOrderId"].startswith("qpmm-"))


def assert_only_reduced(world: World) -> None:
    """No fill of a closing order enlarges or turns the position as the exchange had it at that moment."""
    ids = {order["orderId"] for order in closing(world)}
    held = Decimal(0)
    for fill in world.record()["fills"]:
        change = Decimal(fill["qty"]) * (1 if fill["side"] == "BUY" else -1)
        if fill["orderId"] in ids:
            assert held * change < 0
            assert abs(change) <= abs(held)
        held += change
    assert held == world.position()


def told(world: World, kind: str) -> list[str]:
    """The details of all risk events of a kind."""
    return [r["details"] for r in world.rows() if r["metric_name"] == "risk_event" and r["sub_type"] == kind]


async def breach(world: World, *, side: str = "BUY", **config: Any) -> None:
    """Have the account traded over its limit; the faults of the story come right after the gate has closed."""
    world.start(**{**CALM, **config})
    await world.until_quoting()
    world.control("POST", "/sim/fill", symbol=world.symbol, side=side, quantity=OVER_THE_LIMIT)


async def until_flat(world: World, within_s: float, rest: str = "0") -> float:
    """Wait until all is closed but for what rests of the position; the halt is on disk, and nothing was turned."""
    latch = HaltLatch(world.folder / "state", "paper-test", world.symbol)

    def is_halted() -> bool:
        closed = world.position() == Decimal(rest) and not world.ours()
        return closed and world.state.strategy_paused and latch.read() is not None

    took_s = await world.until(is_halted, within_s, "the close")
    await world.until(lambda: bool(told(world, "flat")), 5, "the word that it is closed")
    assert_only_reduced(world)
    return took_s


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("drop-reply", {"method": "POST", "times": 2}),
        ("drop-request", {"method": "POST", "times": 2}),
        ("error", {"method": "POST", "times": 2, "reply": "unknown-503", "executed": "true"}),
        ("error", {"method": "POST", "times": 2, "code": -2022}),
        ("error", {"method": "POST", "times": 2, "code": -4118}),
        ("error", {"method": "POST", "for_s": 3, "reply": "overload-503"}),
        ("error", {"method": "POST", "times": 2, "code": -4016}),
    ],
    ids=["reply lost", "request lost", "unknown", "-2022", "-4118", "-1008", "-4016"],
)
def test_trouble_with_the_closing_order_ends_flat(tmp_path: Path, kind: str, keys: dict[str, Any]) -> None:
    """Refused or unknown, once or for a while: it is asked, read again and closed; no order is sent twice blindly."""

    async def story(world: World) -> None:
        armed: list[str] = []

        async def arm(sent: Sent) -> HttpResponse | None:
            if sent.is_close() and not armed:
                armed.append(sent.query)
                fault(world, kind, path="/fapi/v1/order", **keys)
            return None

        world.tamper = arm
        await breach(world, side="SELL")
        await until_flat(world, 20)
        assert armed
        assert await world.end() is ExitCode.HALTED
        assert len(closing(world)) <= 2
        assert (await world.audit()).is_accounted

    in_a_world(tmp_path, story)


def test_second_order_is_not_sent_before_the_first_is_known(tmp_path: Path) -> None:
    """A closing order that nobody answers for: no other one leaves within its receive window and a second."""

    async def story(world: World) -> None:
        sent_s: list[float] = []

        async def lose_first(sent: Sent) -> HttpResponse | None:
            if sent.is_close():
                sent_s.append(world.now_s)
                if len(sent_s) == 1:
                    return await sent.hang()
            return None

        world.tamper = lose_first
        await breach(world, safety={"request_timeout_s": 0.3})
        await until_flat(world, 10)
        assert len(sent_s) == 2
        assert sent_s[1] - sent_s[0] > 3
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_closing_order_that_never_arrived_is_told_from_those_that_traded_before_it(tmp_path: Path) -> None:
    """The trades of an earlier order of the same close say nothing of it: the record does not leave it in doubt."""

    async def story(world: World) -> None:
        lost: list[str] = []

        async def lose_second(sent: Sent) -> HttpResponse | None:
            if sent.is_close() and not lost and any(Decimal(each["executedQty"]) for each in closing(world)):
                lost.append(dict(parse_qsl(sent.query))["newClientOrderId"])
                raise OutcomeUnknown("lost")
            return None

        world.tamper = lose_second
        world.start(risk={**CALM["risk"], "flatten_max_slippage_bps": 1, "flatten_deadline_s": 10})
        await world.until_quoting()
        fault(world, "thin-book", factor=1_000_000)
        await world.watch(1)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.3")
        await until_flat(world, 30)
        assert world.engine is not None
        takers = world.engine.contexts[0].orders.takers()
        assert {each.client_id: each.status for each in takers}[lost[0]] is OrderStatus.REJECTED
        assert_only_reduced(world)

    in_a_world(tmp_path, story)


def test_fills_during_the_close_are_closed_too(tmp_path: Path) -> None:
    """Whenever a closing order leaves, somebody buys more: the next one has the size that is held then."""

    async def story(world: World) -> None:
        bought: list[str] = []

        async def buy_more(sent: Sent) -> HttpResponse | None:
            if sent.is_close() and len(bought) < 3:
                bought.append(sent.query)
                world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.007")
            return None

        world.tamper = buy_more
        await breach(world)
        await until_flat(world, 5)
        assert [order["origQty"] for order in closing(world)] == ["0.043", "0.007", "0.007", "0.007"]
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_position_that_is_gone_before_the_order_comes_is_done(tmp_path: Path) -> None:
    """The exchange answers -2022, the position is read again, and there is nothing to close and nothing to alarm."""

    async def story(world: World) -> None:
        async def close_elsewhere(sent: Sent) -> HttpResponse | None:
            if sent.is_close():
                world.control("POST", "/sim/fill", symbol=world.symbol, side="SELL", quantity=OVER_THE_LIMIT)
            return None

        world.tamper = close_elsewhere
        await breach(world)
        await until_flat(world, 3)
        assert closing(world) == []
        assert [row["code"] for row in world.record()["rejected"]][-1] == -2022
        assert not told(world, "not_flat")
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("code", [-2022, -4118])
def test_refused_closing_order_is_no_proof_of_being_flat(tmp_path: Path, code: int) -> None:
    """Half of a position within its limit was deleveraged, closing the rest is refused: it is closed all the same."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        fault(world, "error", path="/fapi/v1/order", method="POST", code=code, times=2)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.020")
        fault(world, "adl", fraction=0.5)
        await until_flat(world, 10)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_thin_book_is_taken_step_by_step_and_at_the_deadline_at_any_price(tmp_path: Path) -> None:
    """Orders within 1 bps of the touch fill in part; a second on, what is left goes at market."""
    thrifty = {"flatten_max_slippage_bps": 1, "flatten_deadline_s": 1}

    async def story(world: World) -> None:
        world.start(risk={**CALM["risk"], **thrifty})
        await world.until_quoting()
        fault(world, "thin-book", factor=1_000_000)
        await world.watch(1)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.3")
        began_ms = world.clock.time_ms()
        await until_flat(world, 20)
        *limited, last = closing(world)
        assert len(limited) > 2
        for order in limited:
            assert order["timeInForce"] == "IOC"
            assert Decimal(order["price"]) >= Decimal(order["bid"]) * Decimal("0.9999")
            assert order["time"] - began_ms < 1500
        assert last["type"] == "MARKET"
        assert last["time"] - began_ms >= 1000
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_empty_list_of_positions_is_not_flat(tmp_path: Path) -> None:
    """For six seconds the exchange lists no position: nobody says closed, and then it is."""

    async def story(world: World) -> None:
        armed: list[str] = []

        async def arm(sent: Sent) -> HttpResponse | None:
            if sent.is_close() and not armed:
                armed.append(sent.query)
                fault(world, "empty-list", path="/fapi/v3/positionRisk", for_s=6)
                await sent.hang()
            return None

        world.tamper = arm
        await breach(world, safety={"request_timeout_s": 0.3})
        await world.until(lambda: bool(armed), 3)
        for _ in range(25):
            await world.watch(0.2)
            assert not told(world, "flat")
        assert world.position() != 0
        await until_flat(world, 10)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_restriction_of_all_orders_holds_up_a_close_no_longer_than_it_lasts(tmp_path: Path) -> None:
    """The market stands still, so the refused order is the same each time: it is sent again all the same."""

    async def story(world: World) -> None:
        world.start(**CALM)
        await world.until_quoting()
        fault(world, "restrict", code=-2023, for_s=40)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=OVER_THE_LIMIT)
        await world.watch(39)
        assert world.position() == Decimal(OVER_THE_LIMIT)
        assert len([row for row in world.record()["rejected"] if row["code"] == -2023]) <= 15
        await until_flat(world, 12)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story, events_per_s=0.02)


def test_price_band_that_lets_nobody_sell_is_alarmed_and_waited_out(tmp_path: Path) -> None:
    """The mark price stands 7 percent above the market: no order can be; an alarm each ten seconds, then it closes."""

    async def story(world: World) -> None:
        world.start(**CALM)
        await world.until_quoting()
        fault(world, "symbol-rules", symbol=world.symbol, multiplier_down="1.02", for_s=35)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=OVER_THE_LIMIT)
        await world.watch(30)
        assert world.position() == Decimal(OVER_THE_LIMIT)
        assert not world.ours()
        refused = [row["code"] for row in world.record()["rejected"]]
        assert {-4024, -4131} <= set(refused)
        await until_flat(world, 30)
        assert 2 <= len(told(world, "not_flat")) <= 5
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_raised_step_leaves_dust_that_is_named(tmp_path: Path) -> None:
    """The step is 0.01 by now: 0.04 are closed, 0.003 stay and are called DUST; nobody tries for ever."""

    async def story(world: World) -> None:
        world.start(**CALM)
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.013")
        await world.watch(1)
        fault(world, "symbol-rules", symbol=world.symbol, step_size="0.01", min_qty="0.01", for_s=300)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.030")
        await until_flat(world, 10, rest="0.003")
        assert told(world, "flat") == ["DUST: 0.003 BTC stay: less than the smallest order"]
        placed = world.count("orders")
        await world.watch(5)
        assert world.count("orders") == placed
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_lowered_step_leaves_dust_of_less_than_the_old_one(tmp_path: Path) -> None:
    """The run began with a step of 0.002, and learns of 0.001 from a refusal: 0.001 of 0.043 has no unit in it."""

    async def story(world: World) -> None:
        fault(world, "symbol-rules", symbol=world.symbol, step_size="0.002", min_qty="0.002", for_s=3)
        world.start(**CALM)
        await world.until_quoting()
        await world.watch(3)
        refused: list[str] = []

        async def refuse_once(sent: Sent) -> HttpResponse | None:
            if not sent.is_close() or refused:
                return None
            refused.append(sent.query)
            return json_reply(400, {"code": -4014, "msg": "Price not increased by tick size."})

        world.tamper = refuse_once
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=OVER_THE_LIMIT)
        await until_flat(world, 10, rest="0.001")
        [told_of] = told(world, "flat")
        assert told_of.startswith("DUST: 0.001 BTC stay: less than the step with which this run began")
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


class Broken:
    """Raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"broken: {name}")

    def __call__(self, *_values: object) -> Any:
        """Raise."""
        raise RuntimeError("broken")


BREAKABLE = ("logs", "bus", "journal", "disk", "posture", "day", "listener")
LOGS = (
    *("core.risk_controller", "core.halt_keeper", "core.flattening"),
    *("core.execution", "core.posture_keeper", "utils.quietly"),
)


async def fails(_work: object) -> None:
    """Be a disk that takes nothing, for a reason of its own."""
    raise RuntimeError("broken: disk")


def break_part(part: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one thing raise that a halt touches and does not need."""
    broken = Broken()
    places: dict[str, list[tuple[object, str]]] = {
        "bus": [(engine.risk, "_bus"), (engine.execution, "_bus")],
        "journal": [(engine.journal, "_add")],
        "posture": [(engine.risk, "postures")],
        "day": [(engine.days, "save")],
    }
    for owner, name in places.get(part, []):
        monkeypatch.setattr(owner, name, broken)
    if part == "logs":
        for module in LOGS:
            monkeypatch.setattr(f"{module}.log", broken)
    elif part == "disk":
        monkeypatch.setattr(engine.risk._halts, "_run_blocking", fails)
    elif part == "listener":
        engine.contexts[0].gate._listeners.insert(0, broken)


@pytest.mark.parametrize("what", [*BREAKABLE, "all"])
def test_halt_gets_through_whatever_is_broken_beside_it(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log, bus, journal, disk, posture, record of the day, a listener of the gate: all is closed all the same."""

    async def story(world: World) -> None:
        world.start(**CALM)
        await world.until_quoting()
        engine = world.engine
        assert engine is not None
        for part in BREAKABLE if what == "all" else (what,):
            break_part(part, engine, monkeypatch)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=OVER_THE_LIMIT)
        await world.until(lambda: world.state.strategy_paused, 2)
        assert not engine.contexts[0].gate.is_open
        await world.until(lambda: world.position() == 0 and not world.ours(), 4)
        assert_only_reduced(world)
        monkeypatch.undo()

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("without", ["an answer", "agreement"])
def test_loss_that_no_reading_of_the_exchange_bears_out_closes_nothing(tmp_path: Path, without: str) -> None:
    """A loss in our books alone, by a position that cannot be read or is another one: quotes out, and no halt."""

    async def story(world: World) -> None:
        silent = False

        async def answer(sent: Sent) -> HttpResponse | None:
            if silent and sent.path == "/fapi/v3/positionRisk":
                await sent.hang()
            return None

        world.tamper = answer
        world.start(risk={"max_daily_loss": 20, "max_price_change": 0}, safety={"request_timeout_s": 0.3})
        await world.until_quoting()
        assert world.engine is not None
        [context] = world.engine.contexts
        assert context.day is not None
        if without == "an answer":
            silent = True
        else:
            context.ledger.position_quantity += Decimal("0.001")
        context.day = replace(context.day, realized_quote=Decimal(-1000))
        await world.until(lambda: not world.ours(), 2.5)
        await world.watch(1.5)
        assert not world.state.strategy_paused
        if without == "an answer":  # a difference that nothing explains is a pause of its own
            silent = False
            await world.until_quoting(30)
        assert await world.end() is ExitCode.STOPPED
        assert not told(world, "breach")

    in_a_world(tmp_path, story)
