"""Blocking work in a thread: its end comes back, its errors too, and nobody waits for a disk that hangs."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from utils.background import in_daemon_thread

ROOT = Path(__file__).resolve().parents[1]


async def test_work_is_done_when_the_call_returns_and_in_another_thread() -> None:
    """The loop goes on meanwhile."""
    threads: list[threading.Thread] = []
    ticks = 0
    may_end = threading.Event()

    def work() -> None:
        threads.append(threading.current_thread())
        may_end.wait(10)

    working = asyncio.ensure_future(in_daemon_thread(work))
    while ticks < 100:
        await asyncio.sleep(0)
        ticks += 1
    assert not working.done()
    may_end.set()
    await working
    assert [thread.daemon for thread in threads] == [True]
    assert threads[0] is not threading.main_thread()


async def test_error_of_the_work_is_raised_where_it_is_awaited() -> None:
    """As it is."""

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        await in_daemon_thread(fail)


@pytest.mark.parametrize("fails", [False, True])
async def test_work_that_nobody_awaits_any_more_ends_by_itself(fails: bool) -> None:
    """Cancelled while it hangs: the caller goes on at once, and its late end disturbs nobody."""
    may_end, ended = threading.Event(), threading.Event()

    def work() -> None:
        may_end.wait(10)
        ended.set()
        if fails:
            raise OSError("too late")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await in_daemon_thread(work)
    assert not ended.is_set()
    may_end.set()
    await asyncio.to_thread(ended.wait, 10)
    await asyncio.sleep(0.01)  # what it tells the loop has come by now
    assert ended.is_set()


def test_work_that_outlives_its_loop_tells_nobody() -> None:
    """The loop is closed; there is no traceback from the thread."""
    may_end, threads = threading.Event(), list[threading.Thread]()

    def work() -> None:
        threads.append(threading.current_thread())
        may_end.wait(10)

    async def give_up() -> None:
        async with asyncio.timeout(0.01):
            await in_daemon_thread(work)

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    may_end.set()
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_hanging_work_does_not_keep_the_process() -> None:
    """A disk that never answers: the program ends with its exit code all the same."""
    program = (
        "import asyncio, sys, time\n"
        "from utils.background import in_daemon_thread\n"
        "async def main():\n"
        "    try:\n"
        "        async with asyncio.timeout(0.1):\n"
        "            await in_daemon_thread(lambda: time.sleep(3600))\n"
        "    except TimeoutError:\n"
        "        return 7\n"
        "sys.exit(asyncio.run(main()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, timeout=20, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (7, "")
