"""``python main.py``: make a market until asked to stop."""

import argparse
import asyncio
import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from commands.busy_poll import Awake, awake_if
from commands.loops import new_event_loop
from commands.signals import signals_go_to
from commands.wiring import EMBEDDED_ACCOUNT, account_of, wired
from core.append_file import is_being_written
from core.crash_count import CrashCount
from core.day_file import DayFile
from core.engine import Engine, latches_of
from core.exit_code import ExitCode
from core.halt import HaltLatch
from core.journal import journal_paths
from core.kill_switch import KillSwitch
from core.last_look import path_of
from core.restarts import Restarts
from core.runs import run_engine
from core.settings import Settings
from core.shutdown import StopRequest
from core.state import SharedState
from core.status_board import StatusBoard, build_of
from core.status_socket import StatusSocket, status_path
from core.systemd import Notify, notify_socket, to_nobody
from core.wiring import Wiring
from utils.clock import SystemClock
from utils.config_loader import PROJECT_ROOT, Config
from utils.errors import DiskRefused, ExchangeError, StartRefused

log = logging.getLogger("quant_pmm")

GIVE_WAY_S = 0.0002
"""A thread that is at work, on a file for example, gives way to the event loop so soon; by default it is 5 ms."""


def run(settings: Settings, config: Config, parsed: argparse.Namespace, state: SharedState) -> int:
    """Make a market; return the exit code."""
    sys.setswitchinterval(GIVE_WAY_S)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            return runner.run(_run_until_stopped(settings, config, parsed, state))
        except StartRefused as refusal:
            log.error("refused to start: %s", refusal)
            return ExitCode.REFUSED
        except ExchangeError as error:
            log.error("could not start: %s", error)
            return ExitCode.FAULT


async def _run_until_stopped(
    settings: Settings, config: Config, parsed: argparse.Namespace, state: SharedState
) -> int:
    stop = StopRequest()
    if parsed.duration is not None:
        asyncio.get_running_loop().call_later(
            parsed.duration, stop.want, f"{parsed.duration:g} s have passed"
        )
    switch = KillSwitch(settings.state_directory, SystemClock().monotonic_ns)
    switch.on_throw = lambda: log.error(  # until an engine follows it
        "HALT: %s; no quote leaves until `python main.py resume`", switch.reason()
    )
    if account_of(settings) == EMBEDDED_ACCOUNT:
        begin_embedded_account(settings)
    busy_poll, monotonic_ns = settings.execution.busy_poll, SystemClock().monotonic_ns
    with (
        signals_go_to(stop.ask, switch, partial(note_halt, settings)),
        awake_if(is_asked=busy_poll, monotonic_ns=monotonic_ns) as awake,
    ):
        async with wired(settings, config, state, live_confirmed=parsed.live) as wiring:
            _keep_for_good()
            with _service_manager() as notify:
                restarts = restarts_of(settings, notify)
                wiring = replace(wiring, kill_switch=switch, notify=notify, restarts=restarts)
                return await _run_in_sight(settings, wiring, stop, awake)


def note_halt(settings: Settings, reason: str) -> None:
    """Have a halt stand on disk for each symbol, so that it outlives this process, however soon that is killed."""
    for symbol, latch in latches_of(settings, account_of(settings)).items():
        try:
            latch.engage_first(reason, SystemClock().time_ms())
        except OSError as error:
            log.critical("%s: the halt (%s) could not be written: %s", symbol, reason, error.strerror)


def begin_embedded_account(settings: Settings) -> None:
    """Have neither halt nor day stand on the embedded exchange, whose account is new with each process.

    They stay while another daemon has an embedded exchange of its own in the same folder: cleared, its halt would end.
    Which journal it writes is not in the names: one of a clock that was ahead has a later day. Raises DiskRefused.
    """
    journals = journal_paths(settings.state_directory, EMBEDDED_ACCOUNT)
    if any(is_being_written(path) for path in journals):
        log.warning(
            "another daemon on an embedded exchange runs in %s: its halt counts", settings.state_directory
        )
        return
    try:
        for symbol in settings.symbols:
            HaltLatch(settings.state_directory, EMBEDDED_ACCOUNT, symbol).clear()
            DayFile(settings.state_directory, EMBEDDED_ACCOUNT, symbol).remove()
            path_of(settings.state_directory, EMBEDDED_ACCOUNT, symbol).unlink(missing_ok=True)
    except OSError as error:
        raise DiskRefused.of(settings.state_directory, error) from error


async def _run_in_sight(settings: Settings, wiring: Wiring, stop: StopRequest, awake: Awake) -> int:
    """Run the engine beside its status socket."""
    board = StatusBoard(settings, wiring.account, wiring.clock, build_of(PROJECT_ROOT))
    path = status_path(settings.state_directory, wiring.account, settings.symbols)
    async with StatusSocket(path, board.snapshot) as door:

        def show(engine: Engine) -> None:
            _keep_for_good()
            board.follow(engine)
            awake.begin(engine.orders.rehearse)
            door.open()

        def show_wait(reason: str) -> None:
            board.waits_for(reason)
            door.open()

        return await run_engine(settings, replace(wiring, on_wait=show_wait), stop, show)


def _keep_for_good() -> None:
    """Have garbage be looked for from now on, and never again in what is there already, as it lasts as long as we do.

    ``main.py`` has held the search up. A whole search takes 18 ms otherwise, for fifty thousand objects.
    """
    gc.freeze()
    gc.enable()


@contextmanager
def _service_manager() -> Iterator[Notify]:
    """Give the way to whatever started this process, if it wants to be told how it goes."""
    found = notify_socket(os.environ)
    try:
        yield found.tell if found is not None else to_nobody
    finally:
        if found is not None:
            found.close()


def restarts_of(settings: Settings, notify: Notify) -> Restarts | None:
    """Return what holds a start back after bad ends; None on the embedded exchange, which nobody can hammer."""
    account, most = account_of(settings), settings.safety.max_crashes_per_hour
    if account == EMBEDDED_ACCOUNT or not most:
        return None
    latches = [HaltLatch(settings.state_directory, account, symbol) for symbol in settings.symbols]
    return Restarts(crash_count_of(settings), latches, SystemClock(), most, notify)


def crash_count_of(settings: Settings) -> CrashCount:
    """Return the count of bad ends on this account."""
    return CrashCount(settings.state_directory, account_of(settings), settings.symbols)
