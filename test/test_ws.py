"""Streams: one that comes back by itself, and says when it is up and down."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.virtual_time import VirtualClock, run_virtual
from utils.errors import Disconnected, NotSent
from utils.ws import Backoff, DeliversReceived, Stream, WsConnection, rotation_age_s
from utils.ws_governor import ConnectionGovernor

END = "end"
"""In a script: the other side closes."""


class ScriptedConnection(DeliversReceived):
    """A connection that brings what its script says, each after so many seconds, and is silent after it."""

    def __init__(self, script: list[tuple[float, str]], diary: list[str]) -> None:
        self.script = list(script)
        self.diary = diary

    async def receive(self) -> str:
        """The next message of the script."""
        if not self.script:
            await asyncio.sleep(10**9)
        wait_s, message = self.script.pop(0)
        await asyncio.sleep(wait_s)
        if message == END:
            raise Disconnected("closed by the other side")
        return message

    async def send(self, text: str) -> None:
        """Nothing is sent in these scripts."""
        raise AssertionError(text)

    def send_now(self, text: str | bytes) -> None:
        """It is put into the diary."""
        self.diary.append(f"sent {text!s}")

    async def close(self) -> None:
        """The end of it."""
        self.diary.append("closed")


class ScriptedTransport:
    """Connections by their scripts, one after the other; None is an attempt that fails."""

    def __init__(
        self, clock: VirtualClock, scripts: list[list[tuple[float, str]] | None], diary: list[str]
    ) -> None:
        self.clock = clock
        self.scripts = list(scripts)
        self.diary = diary
        self.attempts_s: list[float] = []
        self.targets: list[str] = []

    async def connect(self, target: str) -> WsConnection:
        """The next connection."""
        self.attempts_s.append(self.clock.monotonic_ns() / 1e9)
        self.targets.append(target)
        script = self.scripts.pop(0) if self.scripts else []
        if script is None:
            raise Disconnected("no connection (refused)")
        return ScriptedConnection(script, self.diary)

    async def close(self) -> None:
        """Nothing is held."""


class Bench:
    """A stream with everything around it, and a diary of what it said."""

    def __init__(
        self,
        clock: VirtualClock,
        *scripts: list[tuple[float, str]] | None,
        max_age_s: float = 1000,
        target: Callable[[], Awaitable[str]] | None = None,
        on_message: Callable[[str | bytes], None] | None = None,
    ) -> None:
        self.diary: list[str] = []
        self.transport = ScriptedTransport(clock, list(scripts), self.diary)
        self.stream = Stream(
            "market",
            self.transport,
            clock,
            Backoff(random.Random(1)),
            target=target or self.target,
            on_message=on_message or (lambda message: self.diary.append(f"message {message!s}")),
            on_up=lambda: self.diary.append(f"up {self.stream.is_up}"),
            on_down=lambda reason: self.diary.append(f"down: {reason}"),
            on_rotated=lambda: self.diary.append("rotated"),
            max_age_s=max_age_s,
        )

    @staticmethod
    async def target() -> str:
        """Where the market's streams are."""
        return "/public/stream?streams=btcusdt@bookTicker"

    async def run(self, seconds: float) -> None:
        """Let the stream run for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.stream.run()
        except TimeoutError:
            pass


def ran(*scripts: list[tuple[float, str]] | None, seconds: float, max_age_s: float = 1000) -> Bench:
    """Return everything after the stream ran for so long over these connections."""

    async def main(clock: VirtualClock) -> Bench:
        bench = Bench(clock, *scripts, max_age_s=max_age_s)
        await bench.run(seconds)
        return bench

    return run_virtual(main)


# --- backoff ------------------------------------------------------------------------------------------------


@given(seed=st.integers(), first_s=st.floats(0.01, 2), cap_s=st.floats(2, 60))
def test_waits_double_up_to_the_cap_with_half_of_each_drawn(seed: int, first_s: float, cap_s: float) -> None:
    """Each lies between half and the whole of its ceiling."""
    backoff = Backoff(random.Random(seed), first_s=first_s, cap_s=cap_s)
    ceiling = first_s
    for _ in range(12):
        assert ceiling / 2 <= backoff.next_s() <= ceiling
        ceiling = min(ceiling * 2, cap_s)
    backoff.reset()
    assert backoff.next_s() <= first_s


def test_waits_are_repeated_by_their_seed() -> None:
    """And differ with another, so that many clients do not knock together."""
    first, same, other = (Backoff(random.Random(seed)) for seed in (1, 1, 2))
    waits = [[backoff.next_s() for _ in range(4)] for backoff in (first, same, other)]
    assert waits[0] == waits[1] != waits[2]


# --- stream -------------------------------------------------------------------------------------------------


def test_stream_says_up_then_delivers_then_says_down_and_closes() -> None:
    """In this order, and again for the next connection."""
    bench = ran([(1, "a"), (1, "b"), (1, END)], [(1, "c")], seconds=6)
    assert bench.diary == [
        "up True",
        "message a",
        "message b",
        "down: closed by the other side",
        "closed",
        "up True",
        "message c",
        "closed",
    ]
    assert bench.stream.connects == 2
    assert not bench.stream.is_up
    assert bench.transport.targets == ["/public/stream?streams=btcusdt@bookTicker"] * 2


def test_failed_attempts_are_repeated_with_growing_waits_and_no_word() -> None:
    """A stream that was never up does not go down."""
    bench = ran(*[None] * 8, [(1, "a")], seconds=30)
    waits_s = [after - before for before, after in pairwise(bench.transport.attempts_s)]
    for wait_s, ceiling_s in zip(waits_s, [0.25, 0.5, 1, 2, 4, 4, 4, 4], strict=True):
        assert ceiling_s / 2 <= wait_s <= ceiling_s
    assert bench.diary[:2] == ["up True", "message a"]
    assert bench.stream.connects == 1


def test_connection_that_held_makes_the_next_wait_short_again() -> None:
    """Ten seconds are health; less is not."""

    def wait_after(held_s: float) -> float:
        bench = ran(*[None] * 5, [(held_s, END)], seconds=60)
        return bench.transport.attempts_s[6] - bench.transport.attempts_s[5] - held_s

    assert wait_after(10) <= 0.25
    assert wait_after(9) >= 2


def test_reason_of_a_lost_stream_is_logged_with_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each loss."""
    with caplog.at_level(logging.WARNING, "utils.ws"):
        ran([(1, END)], seconds=3)
    assert "market stream ended: closed by the other side; reconnecting in 0." in caplog.text


def test_drop_ends_the_connection_with_its_reason() -> None:
    """And a new one is opened."""

    async def main(clock: VirtualClock) -> Bench:
        bench = Bench(clock, [(100, "never")], [(1, "a")])
        running = asyncio.ensure_future(bench.run(20))
        await asyncio.sleep(5)
        bench.stream.drop("silent for too long")
        await running
        return bench

    assert run_virtual(main).diary[:5] == [
        "up True",
        "down: silent for too long",
        "closed",
        "up True",
        "message a",
    ]


def test_drop_without_a_connection_does_not_end_the_next_one() -> None:
    """It was about the one before."""

    async def main(clock: VirtualClock) -> Bench:
        bench = Bench(clock, [(1, END)], [(5, "a")])
        running = asyncio.ensure_future(bench.run(10))
        await asyncio.sleep(1.05)
        assert not bench.stream.is_up
        bench.stream.drop("too late")
        await running
        return bench

    assert run_virtual(main).diary[3:] == ["up True", "message a", "closed"]


EVERY_7_S = [(7.0, f"old {number}") for number in range(100)]


def test_old_connection_is_replaced_while_it_still_speaks() -> None:
    """The new one is open and has spoken before the old one is closed: up all the time, and nothing is missed."""
    bench = ran(EVERY_7_S, [(1, "new 1"), (5, "new 2"), (500, "x")], seconds=80, max_age_s=60)
    assert bench.diary[-7:] == [
        "message old 7",
        "message new 1",
        "message old 8",
        "rotated",
        "closed",
        "message new 2",
        "closed",
    ]
    assert [line for line in bench.diary if line.startswith(("up", "down"))] == ["up True"]
    assert 60 <= bench.transport.attempts_s[1] < 61


@pytest.mark.parametrize("new", [None, [], [(1, END)], [(100, "too late")]])
def test_new_connection_that_does_not_speak_is_not_taken(new: list[tuple[float, str]] | None) -> None:
    """The old one goes on, and another attempt is made later."""
    bench = ran(EVERY_7_S, new, [(1, "new"), (999, "x")], seconds=450, max_age_s=60)
    assert [line for line in bench.diary if line.startswith(("up", "down", "rot"))] == ["up True", "rotated"]
    assert 360 <= bench.transport.attempts_s[2] < 425
    told = [line for line in bench.diary if line.startswith("message old")]
    assert len(told) >= 50


def test_quiet_stream_is_replaced_by_one_that_is_as_quiet() -> None:
    """An account on which nothing happens: the old one would be cut all the same."""
    bench = ran([], [(80, "new")], seconds=150, max_age_s=60)
    assert bench.diary == ["up True", "rotated", "closed", "message new", "closed"]


def test_connection_that_ends_during_the_replacement_leaves_a_gap_that_is_told() -> None:
    """The new one was not proven: everything begins anew."""
    bench = ran([(70, END)], [(100, "unproven")], [(1, "a")], seconds=100, max_age_s=60)
    assert bench.diary[:2] == ["up True", "closed"]
    assert bench.diary[2] == "down: closed by the other side"
    assert bench.diary[-2:] == ["message a", "closed"]


@pytest.mark.parametrize("why", ["its end", "a drop"])
def test_end_of_a_connection_is_told_at_once_while_its_replacement_is_being_opened(why: str) -> None:
    """Opening takes seconds, which nobody can wait for who relies on the stream; and it is given up."""

    async def main(clock: VirtualClock) -> tuple[Bench, list[str]]:
        asked: list[str] = []

        async def target() -> str:
            asked.append("asked")
            if len(asked) == 2:
                try:
                    await asyncio.sleep(9)
                finally:
                    asked.append("given up")
            return "/private/ws"

        bench = Bench(clock, [(63, END)] if why == "its end" else [], [(1, "a")], max_age_s=60, target=target)
        running = asyncio.ensure_future(bench.run(68))
        await asyncio.sleep(63)
        if why == "a drop":
            bench.stream.drop("silent about our orders")
        await asyncio.sleep(0.1)
        assert not bench.stream.is_up
        await running
        return bench, asked

    bench, asked = run_virtual(main)
    assert asked == ["asked", "asked", "given up", "asked"]
    reason = "silent about our orders" if why == "a drop" else "closed by the other side"
    assert bench.diary == ["up True", f"down: {reason}", "closed", "up True", "message a", "closed"]


def test_replacement_that_opens_just_when_the_stream_is_cancelled_is_closed() -> None:
    """The end of the daemon leaves no socket."""

    async def main(clock: VirtualClock) -> Bench:
        second = asyncio.get_running_loop().create_future()
        answers: list[asyncio.Future[None] | None] = [None, second]

        async def target() -> str:
            if (answer := answers.pop(0)) is not None:
                await answer
            return "/private/ws"

        bench = Bench(clock, max_age_s=60, target=target)
        running = asyncio.ensure_future(bench.run(100))
        await asyncio.sleep(61)
        second.set_result(None)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return bench

    bench = run_virtual(main)
    assert len(bench.transport.attempts_s) == 2
    assert bench.diary == ["up True", "closed", "closed"]


def test_week_of_rotations_is_never_down_and_never_as_old_as_a_day() -> None:
    """With the ages of real life: each connection is replaced before 24 h, at a moment of its own."""
    rng = random.Random(5)
    scripts = [[(3600.0, f"{day} {hour}") for hour in range(48)] for day in range(9)]

    async def main(clock: VirtualClock) -> Bench:
        bench = Bench(clock, *scripts, max_age_s=rotation_age_s(rng))
        await bench.run(7 * 86_400)
        return bench

    bench = run_virtual(main)
    assert [line for line in bench.diary if line.startswith(("up", "down"))] == ["up True"]
    attempts_s = bench.transport.attempts_s
    assert len(attempts_s) >= 8
    assert all(20 * 3600 < later - earlier < 24 * 3600 - 120 for earlier, later in pairwise(attempts_s))
    assert rotation_age_s(rng) != rotation_age_s(rng)


# --- governor -----------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 2), min_size=1, max_size=400))
def test_no_five_minutes_see_more_attempts_than_are_allowed(pauses_s: list[float]) -> None:
    """However they come, none is refused and their order is kept."""
    governor, now_s, made_s = ConnectionGovernor(), 1.0, list[float]()
    for pause_s in pauses_s:
        now_s += pause_s
        made_s.append(now_s + governor.wait_s(int(now_s * 1e9)))
    assert made_s == sorted(made_s)
    assert made_s[0] == 1.0 + pauses_s[0]
    for start_s in made_s:
        assert sum(start_s <= at_s < start_s + 300 for at_s in made_s) <= 251


def test_target_is_asked_before_every_attempt() -> None:
    """A listen key is made there; that it cannot be made is a failed attempt."""
    asked: list[int] = []

    async def target() -> str:
        asked.append(len(asked))
        if len(asked) == 2:
            raise NotSent("POST /fapi/v1/listenKey: no connection")
        return f"/private/ws?listenKey={len(asked)}"

    async def main(clock: VirtualClock) -> Bench:
        bench = Bench(clock, [(1, END)], [(1, "a")], target=target)
        await bench.run(10)
        return bench

    bench = run_virtual(main)
    assert bench.transport.targets == ["/private/ws?listenKey=1", "/private/ws?listenKey=3"]
    assert "message a" in bench.diary


def test_reader_that_fails_ends_the_stream_with_its_own_fault() -> None:
    """It is the supervisor's business; the connection is closed all the same."""

    def fail(message: str | bytes) -> None:
        raise ValueError("cannot read this")

    async def main(clock: VirtualClock) -> Bench:
        bench = Bench(clock, [(1, "a")], on_message=fail)
        with pytest.raises(ValueError, match="cannot read this"):
            await bench.run(10)
        return bench

    bench = run_virtual(main)
    assert bench.diary == ["up True", "down: its reader failed", "closed"]
    assert not bench.stream.is_up


def test_cancelled_stream_closes_its_connection() -> None:
    """The end of the daemon leaves no socket; whoever cancels knows that the stream is down."""
    assert ran([(100, "never")], seconds=5).diary == ["up True", "closed"]


def test_stream_sends_by_the_connection_that_it_has() -> None:
    """Without one there is nobody to hand a message to."""

    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, [(1, "a"), (1, END)])
        with pytest.raises(Disconnected, match="there is no connection"):
            bench.stream.send_now("too early")
        running = asyncio.ensure_future(bench.run(2.1))
        await asyncio.sleep(0.5)
        bench.stream.send_now("in time")
        await running
        assert bench.diary[:3] == ["up True", "sent in time", "message a"]
        with pytest.raises(Disconnected, match="there is no connection"):
            bench.stream.send_now("too late")

    run_virtual(main)
