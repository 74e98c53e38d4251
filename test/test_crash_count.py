"""How often it ended badly: what a start has to wait for, and when it needs an operator."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.run import restarts_of
from core.crash_count import LONGEST_WAIT_S, WINDOW_MS, CrashCount, Ends, crashes, wait_s
from core.exit_code import ExitCode
from core.gate import Gate
from core.halt import HaltLatch
from core.restarts import Restarts, StartProof
from core.settings import settings_from
from core.shutdown import StopRequest
from core.systemd import to_nobody
from sim.virtual_time import VirtualClock, run_virtual
from utils.config_loader import ConfigLoaderError, get_config
from utils.errors import NotSent, StartRefused

NOW_MS = 1_790_000_000_000


async def at_once(work: Callable[[], None]) -> None:
    """Do blocking work here and now."""
    work()


def test_third_bad_end_waits_and_each_more_waits_twice_as_long() -> None:
    """Up to five minutes; those that lie an hour back count no more."""
    waits = [wait_s(Ends([NOW_MS] * number), NOW_MS) for number in range(11)]
    assert waits == [0, 0, 0, 5, 10, 20, 40, 80, 160, 300, 300]
    assert wait_s(Ends([NOW_MS - WINDOW_MS] * 10), NOW_MS) == 0
    assert wait_s(Ends([NOW_MS] * 2, [NOW_MS]), NOW_MS) == 5
    assert crashes(Ends([NOW_MS - WINDOW_MS, NOW_MS], [NOW_MS]), NOW_MS) == 1


def test_most_bad_ends_that_can_be_allowed_come_within_the_hour(tmp_path: Path) -> None:
    """Where each run takes a minute to fail, and waits as it has to; of more the first would be forgotten by then."""
    now_ms, ends = NOW_MS, Ends()
    for _ in range(15):
        now_ms += int(wait_s(ends, now_ms) * 1000) + 60_000
        ends.crashed.append(now_ms)
    assert crashes(ends, now_ms) == 15
    (tmp_path / "config.yaml").write_text("safety: {max_crashes_per_hour: 16}\n")
    with pytest.raises(ConfigLoaderError, match="max_crashes_per_hour"):
        get_config(tmp_path / ".env", tmp_path / "config.yaml")


@given(times=st.lists(st.integers(0, 2**53), max_size=50), now_ms=st.integers(0, 2**53))
def test_wait_is_bounded_whatever_the_file_holds(times: list[int], now_ms: int) -> None:
    """A clock that was set back makes no wait of years."""
    assert 0 <= wait_s(Ends(times, times), now_ms) <= LONGEST_WAIT_S


def test_file_that_is_cut_anywhere_holds_nobody_up(tmp_path: Path) -> None:
    """It counts as none, and the next run writes a whole one."""
    count = CrashCount(tmp_path, "paper-x", ["BTCUSDT"])
    count.end_badly(NOW_MS)
    whole = count.path.read_bytes()
    for length in range(len(whole)):
        count.path.write_bytes(whole[:length])
        assert count.begin(NOW_MS) == Ends()
        count.path.write_bytes(whole)
        assert count.read().crashed == [NOW_MS]


class Runs:
    """Runs on a virtual clock, one after the other, with what each waited for."""

    def __init__(self, clock: VirtualClock, folder: Path) -> None:
        self.clock = clock
        self.told: list[str] = []
        self.latch = HaltLatch(folder, "paper-x", "BTCUSDT")
        self.count = CrashCount(folder, "paper-x", ["BTCUSDT"])
        self.stop = StopRequest()

    async def once(self, end: ExitCode | BaseException) -> float:
        """Let one run end like this; return how long it waited before."""
        restarts = Restarts(self.count, [self.latch], self.clock, 5, self.told.append)
        asked_ns, began_ns = self.clock.monotonic_ns(), [0]

        async def run() -> ExitCode:
            began_ns[0] = self.clock.monotonic_ns()
            if isinstance(end, BaseException):
                raise end
            return end

        if isinstance(end, BaseException):
            with pytest.raises(type(end)):
                await restarts.counted(self.stop, run)
        else:
            assert await restarts.counted(self.stop, run) is end
        return (began_ns[0] - asked_ns) / 1e9


def test_runs_that_end_badly_wait_longer_and_are_halted_at_last(tmp_path: Path) -> None:
    """Crashes, faults and unverified ends count; an end in order forgives, and a supervisor is kept patient."""

    async def story(clock: VirtualClock) -> None:
        runs = Runs(clock, tmp_path)
        ends = [ExitCode.FAULT, ValueError(), ExitCode.NOT_VERIFIED]
        assert [await runs.once(end) for end in ends] == [0, 0, 0]
        assert await runs.once(StartRefused("no")) == 5
        assert await runs.once(ExitCode.HALTED) == 5
        assert runs.told[0].startswith("EXTEND_TIMEOUT_USEC=30000000\nWATCHDOG=1\nSTATUS=waiting for 5 s")
        assert await runs.once(ExitCode.STOPPED) == 5
        assert await runs.once(asyncio.CancelledError()) == 0
        for _ in range(3):
            await runs.once(ExitCode.FAULT)
        assert runs.latch.read() is None
        await runs.once(ExitCode.FAULT)
        assert runs.latch.read() is None  # four before it
        await runs.once(ExitCode.HALTED)
        halt = runs.latch.read()
        assert halt is not None
        assert halt.reason == "5 runs ended badly within an hour"
        assert runs.count.clear()
        assert await runs.once(ExitCode.FAULT) == 0

    run_virtual(story)


def test_exchange_that_cannot_be_reached_makes_starts_wait_and_no_halt(tmp_path: Path) -> None:
    """A night without a network ends by itself."""

    async def story(clock: VirtualClock) -> None:
        runs = Runs(clock, tmp_path)
        waits = [await runs.once(NotSent("no connection")) for _ in range(12)]
        assert waits[:4] == [0, 0, 0, 5]
        assert waits[8:] == [160, 300, 300, 300]
        assert runs.latch.read() is None

    run_virtual(story)


def test_killed_run_counts_when_the_next_one_begins(tmp_path: Path) -> None:
    """It had no chance to say so."""
    count = CrashCount(tmp_path, "paper-x", ["BTCUSDT"])
    assert count.begin(NOW_MS) == Ends()
    assert count.begin(NOW_MS + 1).crashed == [NOW_MS + 1]
    assert count.begin(NOW_MS + 2).crashed == [NOW_MS + 1, NOW_MS + 2]
    count.end_well()
    assert count.begin(NOW_MS + 3) == Ends()


def test_run_that_was_killed_after_it_had_quoted_does_not_count(tmp_path: Path) -> None:
    """The next start goes at once; a fault of that run would count all the same."""

    async def story(clock: VirtualClock) -> None:
        runs, gate = Runs(clock, tmp_path), Gate()
        gate.close("start", "starting")
        for _ in range(5):
            restarts = Restarts(runs.count, [runs.latch], clock, 3)
            proof = StartProof(restarts, [gate], at_once)

            async def quote(proof: StartProof = proof) -> ExitCode:
                working = asyncio.ensure_future(proof.run())
                await asyncio.sleep(1)
                assert runs.count.read().running_since
                gate.open("start")
                await asyncio.sleep(1)
                assert not runs.count.read().running_since
                working.cancel()
                await asyncio.Event().wait()
                raise AssertionError

            began_ns = clock.monotonic_ns()
            killed = asyncio.ensure_future(restarts.counted(runs.stop, quote))
            await asyncio.sleep(2.5)
            before = runs.count.path.read_bytes()
            killed.cancel()
            await asyncio.gather(killed, return_exceptions=True)
            runs.count.path.write_bytes(before)  # a killed process writes nothing any more
            gate.close("start", "starting")
            assert clock.monotonic_ns() - began_ns == 2_500_000_000
        assert await runs.once(ExitCode.FAULT) == 0
        assert len(runs.count.read().crashed) == 1

    run_virtual(story)


def test_stop_while_a_start_waits_ends_it_at_once(tmp_path: Path) -> None:
    """And counts as no bad end."""

    async def story(clock: VirtualClock) -> None:
        runs = Runs(clock, tmp_path)
        for _ in range(4):
            await runs.once(ExitCode.FAULT)
        asyncio.get_running_loop().call_later(3, runs.stop.ask, "SIGTERM")
        began_ns = clock.monotonic_ns()
        restarts = Restarts(runs.count, [runs.latch], clock, 5)

        async def never() -> ExitCode:
            raise AssertionError

        assert await restarts.counted(runs.stop, never) is None
        assert clock.monotonic_ns() - began_ns == 3_000_000_000
        assert len(runs.count.read().crashed) == 4

    run_virtual(story)


@pytest.mark.parametrize(
    ("url", "most", "is_counted"),
    [("http://127.0.0.1:1", 3, True), ("http://127.0.0.1:1", 0, False), ("", 3, False)],
)
def test_ends_are_counted_where_somebody_could_be_hammered(
    tmp_path: Path, url: str, most: int, is_counted: bool
) -> None:
    """Not on the embedded exchange, and not where the configuration says so."""
    (tmp_path / ".env").write_text(f"PAPER_URL={url}\n" if url else "")
    (tmp_path / "config.yaml").write_text(f"safety: {{max_crashes_per_hour: {most}}}\n")
    settings = settings_from(get_config(tmp_path / ".env", tmp_path / "config.yaml"))
    assert (restarts_of(settings, to_nobody) is not None) is is_counted
