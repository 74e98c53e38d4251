"""Virtual time: waiting takes no time, order is kept, and standing still is an error."""

import asyncio
import os
import signal
import socket
import time

import pytest

from sim.virtual_time import VirtualClock, VirtualDeadlock, VirtualTimeLoop, run_virtual

EPOCH_MS = 1_700_000_000_000


def test_an_hour_of_waiting_passes_at_once() -> None:
    """The clock has moved by exactly an hour, the machine's by less than a second."""

    async def main(clock: VirtualClock) -> int:
        await asyncio.sleep(3600)
        return clock.time_ms()

    started_s = time.perf_counter()
    assert run_virtual(main, epoch_ms=EPOCH_MS) == EPOCH_MS + 3_600_000
    assert time.perf_counter() - started_s < 1


def test_time_starts_at_zero_and_steps_exactly_by_milliseconds() -> None:
    """Ten thousand sleeps of a millisecond add up to ten seconds to the nanosecond, also late in a long run."""

    async def main(clock: VirtualClock) -> tuple[int, int]:
        before_ns = clock.monotonic_ns()
        await asyncio.sleep(100_000)
        for _ in range(10_000):
            await asyncio.sleep(0.001)
        return before_ns, clock.monotonic_ns()

    assert run_virtual(main) == (0, 100_010_000_000_000)


def test_timers_fire_in_the_order_of_their_times() -> None:
    """Tasks wake by due time and not by the order of their creation."""

    async def main(_clock: VirtualClock) -> list[int]:
        woken: list[int] = []

        async def wake(after_s: int) -> None:
            await asyncio.sleep(after_s)
            woken.append(after_s)

        await asyncio.gather(*(wake(after_s) for after_s in (5, 1, 3, 2, 4)))
        return woken

    assert run_virtual(main) == [1, 2, 3, 4, 5]


def test_timers_of_one_instant_fire_in_the_order_in_which_they_were_set() -> None:
    """A heap alone would mix them up, and so would a set that depends on the process."""

    async def main(_clock: VirtualClock) -> list[int]:
        fired: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(100):
            loop.call_at(1 + number % 3, fired.append, number)
        await asyncio.sleep(3)
        return fired

    assert run_virtual(main) == [number for rest in range(3) for number in range(rest, 100, 3)]


def test_cancelled_timers_neither_fire_nor_pile_up() -> None:
    """Of ten thousand timeouts of an hour that were not needed, the loop keeps a few hundred at most."""

    async def main(clock: VirtualClock) -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        for _ in range(10_000):
            async with asyncio.timeout(3600):
                await asyncio.sleep(0)
        assert isinstance(loop, VirtualTimeLoop)
        return len(loop._timers), clock.monotonic_ns()

    kept, passed_ns = run_virtual(main)
    assert kept < 300
    assert passed_ns == 0


def test_a_socket_that_has_something_is_read_before_the_clock_jumps() -> None:
    """Sockets get their turn although the next timer is near."""

    async def main(clock: VirtualClock) -> tuple[bytes, int]:
        async def read(ours: socket.socket) -> tuple[bytes, int]:
            return await asyncio.get_running_loop().sock_recv(ours, 3), clock.monotonic_ns()

        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            reading = asyncio.ensure_future(read(ours))
            await asyncio.sleep(0)
            theirs.send(b"now")
            await asyncio.sleep(0.001)
            return await reading

    assert run_virtual(main) == (b"now", 0)


def test_a_timeout_ends_a_wait_that_nothing_else_would_end() -> None:
    """asyncio.timeout runs on virtual time too."""

    async def main(clock: VirtualClock) -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return clock.time_ms() - EPOCH_MS

    assert run_virtual(main, epoch_ms=EPOCH_MS) == 30_000


def test_a_wait_longer_than_a_day_is_not_cut_short() -> None:
    """The loop waits a day at most at a time; a longer timer is still met exactly."""

    async def main(clock: VirtualClock) -> int:
        await asyncio.sleep(200_000)
        return clock.monotonic_ns()

    assert run_virtual(main) == 200_000 * 10**9


def test_standing_still_raises_and_names_the_tasks_that_wait() -> None:
    """A wait that nothing can end is an error that says who waits."""

    async def main(_clock: VirtualClock) -> None:
        names = [f"waiter-{number}" for number in range(10)]
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(asyncio.Event().wait(), name=name)

    with pytest.raises(VirtualDeadlock, match=r"waiting forever: .*waiter-0.*…"):
        run_virtual(main)


def test_work_for_a_thread_is_done_at_once_and_its_result_returned() -> None:
    """A call in an executor takes no virtual time and cannot race with the jumps."""

    async def main(clock: VirtualClock) -> tuple[int, int]:
        product = await asyncio.to_thread(lambda: 6 * 7)
        return product, clock.monotonic_ns()

    assert run_virtual(main) == (42, 0)


def test_an_exception_in_work_for_a_thread_reaches_the_one_who_awaits_it() -> None:
    """The executor hands errors on."""

    async def main(_clock: VirtualClock) -> None:
        await asyncio.to_thread(int, "no number")

    with pytest.raises(ValueError, match="no number"):
        run_virtual(main)


def test_a_signal_reaches_its_handler() -> None:
    """Signals are noticed although the loop never sleeps."""

    async def main(clock: VirtualClock) -> int:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, stopped.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(5):
            await stopped.wait()
        return clock.monotonic_ns()

    assert run_virtual(main) <= 5 * 10**9


def test_the_loop_closes_without_leaving_file_descriptors_open() -> None:
    """A loop that was only made and closed leaves nothing behind."""
    before = len(os.listdir("/proc/self/fd"))
    VirtualTimeLoop().close()
    assert len(os.listdir("/proc/self/fd")) == before
