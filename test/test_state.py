"""The shared state: its names, its all-or-nothing update, its symbols."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import state as state_module
from core.state import SharedState, StateSnapshot

INITIAL = StateSnapshot("", Decimal(0), Decimal(0), 0.0, 0.0, False)
CHANGES: dict[str, Any] = {
    "mark_price": Decimal("65000.5"),
    "position": Decimal("-0.003"),
    "last_order_time": 1721260800.25,
    "last_risk_check": 1721260801.0,
    "strategy_paused": True,
}
NAMES = list(CHANGES)


def test_state_starts_at_zero_never_and_not_paused() -> None:
    """The initial values are those of the contract, and of its types."""
    state = SharedState()
    assert state.snapshot() == INITIAL
    assert [type(getattr(state, name)) for name in NAMES] == [Decimal, Decimal, float, float, bool]


@pytest.mark.parametrize("name", NAMES)
def test_name_reads_back_what_was_assigned(name: str) -> None:
    """Each of the five names is readable and assignable."""
    state = SharedState()
    setattr(state, name, CHANGES[name])
    assert getattr(state, name) == CHANGES[name]


def test_number_is_kept_as_a_decimal_that_equals_it() -> None:
    """Callers may give a float or an int; calculations inside still are exact."""
    state: Any = SharedState()
    for value in (0.1, 65000.5, 3, Decimal("0.003")):
        state.position = value
        assert state.position == value
        assert isinstance(state.position, Decimal)
    state.last_order_time = 5
    assert isinstance(state.last_order_time, float)


def test_unknown_name_cannot_be_assigned() -> None:
    """A misspelt name is an error, not a new attribute."""
    state: Any = SharedState()
    with pytest.raises(AttributeError):
        state.mark_prise = Decimal(1)


def test_safe_update_is_done_when_it_returns() -> None:
    """Nobody has to await it."""
    state = SharedState()
    state.safe_update(**CHANGES)
    assert state.snapshot() == StateSnapshot("", **CHANGES)


async def test_safe_update_may_be_awaited() -> None:
    """Callers that treat it as a coroutine work too, in each way that a coroutine is run."""
    state = SharedState()
    assert await state.safe_update(position=Decimal(1)) is None
    await asyncio.gather(state.safe_update(position=Decimal(2)), state.safe_update(strategy_paused=True))
    await asyncio.wait_for(state.safe_update(mark_price=Decimal(3)), timeout=1)
    assert (state.position, state.strategy_paused, state.mark_price) == (2, True, 3)


def test_safe_update_may_be_run() -> None:
    """It can be handed to asyncio.run from code without a loop."""
    state = SharedState()
    asyncio.run(state.safe_update(position=Decimal(1)))
    assert state.position == 1


def test_result_of_safe_update_behaves_as_a_finished_coroutine() -> None:
    """What is thrown into it comes out; closing it is harmless."""
    applied = SharedState().safe_update()
    applied.close()
    with pytest.raises(asyncio.CancelledError):
        applied.throw(asyncio.CancelledError)
    with pytest.raises(ValueError, match="given"):
        applied.throw(ValueError, ValueError("given"))


REFUSED: dict[str, tuple[dict[str, object], type[Exception], str]] = {
    "unknown name": (
        {"mark_prise": Decimal(1)},
        AttributeError,
        "has no mark_prise; it has mark_price, position",
    ),
    "private name": ({"_lock": 1}, AttributeError, "has no _lock"),
    "name that is no value": ({"symbols": {}}, AttributeError, "has no symbols"),
    "text price": ({"mark_price": "65000"}, TypeError, "mark_price must be a Decimal, not str"),
    "switch as price": ({"mark_price": True}, TypeError, "mark_price must be a Decimal, not bool"),
    "no position": ({"position": None}, TypeError, "position must be a Decimal, not NoneType"),
    "price that is not a number": (
        {"mark_price": Decimal("nan")},
        ValueError,
        "mark_price must be a finite number",
    ),
    "signalling price": ({"mark_price": Decimal("snan")}, ValueError, "mark_price must be a finite number"),
    "infinite position": ({"position": float("-inf")}, ValueError, "position must be a finite number"),
    "text time": ({"last_order_time": "now"}, TypeError, "last_order_time must be epoch seconds as a float"),
    "switch as time": ({"last_risk_check": False}, TypeError, "last_risk_check must be epoch seconds"),
    "time that is not a number": (
        {"last_risk_check": float("nan")},
        ValueError,
        "finite number of epoch seconds",
    ),
    "infinite time": ({"last_order_time": float("inf")}, ValueError, "finite number of epoch seconds"),
    "time beyond floats": ({"last_order_time": 10**400}, ValueError, "finite number of epoch seconds"),
    "number as switch": ({"strategy_paused": 1}, TypeError, "strategy_paused must be True or False, not int"),
}


@pytest.mark.parametrize(("wrong", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_safe_update_applies_nothing_when_one_value_is_wrong(
    wrong: dict[str, object], error: type[Exception], message: str
) -> None:
    """Right values beside a wrong one are not applied either, whatever their order."""
    state = SharedState()
    right = {name: value for name, value in CHANGES.items() if name not in wrong}
    for values in (right | wrong, wrong | right):
        with pytest.raises(error, match=message):
            state.safe_update(**values)
        assert state.snapshot() == INITIAL


@pytest.mark.parametrize("name", NAMES)
def test_assignment_refuses_what_safe_update_refuses(name: str) -> None:
    """Both ways have one set of rules."""
    state: Any = SharedState()
    with pytest.raises(TypeError, match=name):
        setattr(state, name, "text")
    assert state.snapshot() == INITIAL


def test_flat_name_asked_of_the_class_is_the_attribute_itself() -> None:
    """Tools that look at classes find no value there and no error."""
    assert SharedState.mark_price is vars(SharedState)["mark_price"]


def test_first_symbol_adopts_what_was_set_before_it() -> None:
    """Nothing that was assigned early is lost."""
    state = SharedState()
    state.mark_price = Decimal(5)
    first = state.add("BTCUSDT")
    assert (first.symbol, first.mark_price) == ("BTCUSDT", 5)
    assert state.snapshot().symbol == "BTCUSDT"


def test_flat_names_belong_to_the_first_symbol_only() -> None:
    """Each symbol has its own values; the flat names are those of the first."""
    state = SharedState()
    first, second = state.add("BTCUSDT"), state.add("ETHUSDT")
    state.position = Decimal(1)
    second.position = Decimal(2)
    assert (first.position, state.position, state.of("ETHUSDT").position) == (1, 1, 2)
    assert state.snapshot("ETHUSDT").position == 2
    assert list(state.symbols) == ["BTCUSDT", "ETHUSDT"]


def test_adding_a_symbol_again_changes_nothing() -> None:
    """Everybody gets the same object."""
    state = SharedState()
    first = state.add("BTCUSDT")
    first.position = Decimal(1)
    assert state.add("BTCUSDT") is first is state.of("BTCUSDT")
    assert first.position == 1


@pytest.mark.parametrize("ask", [SharedState.of, SharedState.snapshot])
def test_unknown_symbol_is_refused_with_the_known_ones(ask: Callable[[SharedState, str], object]) -> None:
    """A typo does not make a new symbol."""
    state = SharedState()
    with pytest.raises(KeyError, match="BTCUSD is not a symbol of this state; known: none"):
        ask(state, "BTCUSD")
    state.add("BTCUSDT")
    with pytest.raises(KeyError, match="known: BTCUSDT"):
        ask(state, "BTCUSD")


def test_snapshot_does_not_change_with_the_state() -> None:
    """It holds the values of one moment, and cannot be assigned to."""
    state = SharedState()
    before: Any = state.snapshot()
    state.safe_update(**CHANGES)
    assert before == INITIAL
    with pytest.raises(FrozenInstanceError):
        before.position = Decimal(1)


def test_reset_restores_the_initial_state_in_place() -> None:
    """Whoever holds the state sees it as new."""
    state = held = SharedState()
    state.safe_update(**CHANGES)
    state.add("BTCUSDT")
    assert state != SharedState()
    state.reset()
    assert held.snapshot() == INITIAL
    assert held == SharedState()
    assert held.symbols == {}


def test_state_is_compared_by_value_and_has_no_hash() -> None:
    """It changes in place, so it can be no key."""
    assert SharedState() == SharedState()
    assert SharedState() != INITIAL
    with pytest.raises(TypeError):
        hash(SharedState())


def test_shared_state_is_as_new_after_the_import() -> None:
    """Importing the program changes nothing."""
    assert state_module.shared_state == SharedState()
    assert repr(state_module.shared_state).startswith("<SharedState symbol=none mark_price=0 ")


def test_lock_is_free_after_a_refusal() -> None:
    """An exception in one thread stops no other."""
    state = SharedState()
    with pytest.raises(TypeError):
        state.safe_update(position="text")
    with pytest.raises(KeyError):
        state.of("BTCUSDT")
    other = threading.Thread(target=state.safe_update, kwargs={"position": Decimal(1)}, daemon=True)
    other.start()
    other.join(timeout=10)
    assert state.position == 1


def test_snapshot_never_shows_half_an_update() -> None:
    """Two values that are updated together are read together, with threads in between."""
    state = SharedState()
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            state.safe_update(mark_price=number, position=number)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    seen = [state.snapshot() for _ in range(5000)]
    stop.set()
    writer.join(timeout=10)
    assert [snapshot for snapshot in seen if snapshot.mark_price != snapshot.position] == []
    assert not writer.is_alive()


ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.decimals(), st.text(max_size=3))


@given(st.dictionaries(st.one_of(st.sampled_from(NAMES), st.sampled_from(["symbol", "of"])), ANYTHING))
def test_any_update_is_applied_whole_or_not_at_all(values: dict[str, object]) -> None:
    """Either every value reads back, or the state is untouched."""
    state = SharedState()
    try:
        state.safe_update(**values)
    except (AttributeError, TypeError, ValueError):
        assert state.snapshot() == INITIAL
    else:
        assert {name: getattr(state, name) for name in values} == values


def test_demonstration_shows_the_three_states(capsys: pytest.CaptureFixture[str]) -> None:
    """Initial, updated by assignment, and after one update under the lock."""
    state_module._demonstrate()
    initial, updated, batch = capsys.readouterr().out.splitlines()
    assert initial.startswith("initial state: ")
    assert updated.startswith("updated state: ")
    assert "mark_price=65000.5" in updated
    assert batch.startswith("after safe_update: ")
    assert "strategy_paused=True" in batch
