"""From the first question to the last verified cancel: a start, and one run of the engine after the other."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

from core.boot_number import next_boot
from core.closing_start import Prepared, prepare_to_close, unfinished
from core.engine import Engine, latches_of, records_of
from core.exit_code import ExitCode
from core.gateway import Gateway
from core.instance_lock import InstanceLock
from core.settings import Settings
from core.shutdown import StopRequest
from core.start import Start
from core.status import position_text
from core.wiring import Wiring
from utils.errors import DiskRefused, ExchangeError, NotSent, StartRefused

log = logging.getLogger(__name__)

T = TypeVar("T")


async def run_engine(
    settings: Settings,
    wiring: Wiring,
    stop: StopRequest,
    on_engine: Callable[[Engine], None] | None = None,
) -> ExitCode:
    """Make a market until asked to stop; return what the end means.

    ``on_engine`` is given the engine before it runs, to look at it meanwhile: it may subscribe and read, no more. When
    the exchange changes tick or step, the run ends in order and another one begins, with another engine.

    Raises StartRefused where configuration or account do not allow to start, and ExchangeError where what is in the
    way, such as an exchange that cannot be asked, did not pass in time; or a disk that takes nothing after a run that
    may have left something behind: that may pass, and must be tried again; or what refuses the run after one that
    keeps a position. Nothing was sent then that could rest.
    """
    with ExitStack() as held:
        symbols = settings.symbols if wiring.is_shared else ()
        locks = [
            held.enter_context(InstanceLock(settings.state_directory, wiring.account, symbol))
            for symbol in symbols
        ]
        try:
            work = partial(_run_watched, locks, settings, wiring, stop, on_engine)
            code = await (work() if wiring.restarts is None else wiring.restarts.counted(stop, work))
            return _stopped_early(locks, settings, wiring) if code is None else code
        except DiskRefused as refusal:
            if _say_not_watched(locks):
                raise NotSent(str(refusal)) from refusal
            if not any(lock.was_left_running for lock in locks):
                raise
            text = "NOT VERIFIED what the last run has left, a position over its limit perhaps"
            raise NotSent(f"{refusal}; {text}") from refusal


async def _run_watched(
    locks: Sequence[InstanceLock],
    settings: Settings,
    wiring: Wiring,
    stop: StopRequest,
    on_engine: Callable[[Engine], None] | None,
) -> ExitCode | None:
    """Run with the locks held; where no run can begin, say which position of the last one nobody holds to its limits.

    That is no refusal then, after which nobody would try again.
    """
    try:
        return await _run_with(locks, settings, wiring, stop, on_engine)
    except (StartRefused, ExchangeError) as error:
        if _say_not_watched(locks) and isinstance(error, StartRefused):
            raise NotSent(str(error)) from error
        raise


def _say_not_watched(locks: Sequence[InstanceLock]) -> bool:
    """Say which kept position no run holds to its limits; return whether there is any."""
    kept = [lock.kept for lock in locks if lock.kept]
    for position in kept:
        log.critical(
            "NOT WATCHED: %s is kept, and no run holds it to its limits; run `python main.py flatten`",
            position,
        )
    return bool(kept)


async def _run_with(
    locks: Sequence[InstanceLock],
    settings: Settings,
    wiring: Wiring,
    stop: StopRequest,
    on_engine: Callable[[Engine], None] | None,
) -> ExitCode | None:
    """Make a market, with the locks held; return None if a stop was asked for before the start was complete."""
    gateway = Gateway(wiring.rest, wiring.clock)
    symbols = settings.symbols if wiring.is_shared else ()
    after_crash = any(lock.was_left_running for lock in locks)
    start = Start(
        settings=settings,
        gateway=gateway,
        wallet=wiring.wallet,
        clock=wiring.clock,
        has_keys=wiring.has_keys,
        confirmed=wiring.live_confirmed,
        machine=wiring.machine,
        notify=wiring.notify,
        on_wait=wiring.on_wait,
    )
    closes = unfinished(latches_of(settings, wiring.account).values())
    preparing = prepare_to_close(start) if closes else _prepare(start)
    prepared = await unless_stopped(stop, preparing)
    if prepared is None:
        return None
    records = records_of(settings, wiring.account)
    while True:
        boot = next_boot(
            *(settings.state_directory, wiring.account, symbols, wiring.clock.time_ms()),
            at_any_cost=bool(closes),
        )
        _mark_begun(locks, at_any_cost=bool(closes))
        engine = Engine(
            *(settings, wiring, gateway, prepared, stop),
            records=records,
            closes=closes,
            after_crash=after_crash,
            boot=boot,
        )
        if on_engine is not None:
            on_engine(engine)
        code = await engine.run()
        is_clean = code is not ExitCode.NOT_VERIFIED and engine.is_close_noted
        follows = engine.begins_anew and code is ExitCode.STOPPED
        is_halted_between = code is ExitCode.HALTED and engine.begins_anew
        _leave(
            locks,
            _kept_by(engine) if follows or is_halted_between or not engine.has_begun else {},
            is_clean=is_clean,
        )
        if not follows:
            _say_not_watched(locks)
            return code
        prepared = await unless_stopped(stop, _prepare(start))
        if prepared is None:
            _leave(locks, {}, is_clean=is_clean)
            return code
        after_crash = False
        for symbol in settings.symbols:
            wiring.state.of(symbol).begin_anew()


def _mark_begun(locks: Sequence[InstanceLock], *, at_any_cost: bool) -> None:
    """Note that a run has begun; what is kept is watched only when each symbol's mark is on disk."""
    for lock in locks:
        lock.mark_running(at_any_cost=at_any_cost)
    for lock in locks:
        lock.mark_watched()


def _kept_by(ended: Engine) -> dict[str, str]:
    """Return in words what position of which symbol a run has kept, or may have."""
    return {
        context.symbol: f"an unknown position of {context.symbol}"
        if context.told_position is None
        else f"a position of {position_text(context)} {context.rules.base_asset}"
        for context in ended.contexts
        if context.told_position != 0
    }


def _leave(locks: Sequence[InstanceLock], kept: Mapping[str, str], *, is_clean: bool) -> None:
    """Note whether no order was left at the exchange, and which positions wait for the next run."""
    for lock in locks:
        if lock.symbol in kept:
            lock.leave_kept(kept[lock.symbol], is_clean=is_clean)
        elif is_clean:
            lock.leave_clean()


def _stopped_early(locks: Sequence[InstanceLock], settings: Settings, wiring: Wiring) -> ExitCode:
    """Say how a start has ended that was not complete; return what that means."""
    log.info("stopped before the start was complete; no order was sent")
    if unfinished(latches_of(settings, wiring.account).values()):
        log.critical("NOT FLAT: what an earlier run had to close is not verified to be closed")
        return ExitCode.FAULT
    if not any(lock.was_left_running for lock in locks):
        return ExitCode.STOPPED
    log.critical(
        "could not verify that no order of the last run rests, which did not end well; the exchange's dead-man switch"
        " cancels them within %.0f s of its end. Look at the open orders.",
        settings.safety.dead_man_window_s,
    )
    return ExitCode.NOT_VERIFIED


async def _prepare(start: Start) -> Prepared:
    found = await start.prepared()
    return Prepared({symbol: facts.rules for symbol, facts in found.facts.items()}, found.wallet_quote)


async def unless_stopped(stop: StopRequest, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of the work, or None if a stop was asked for before it was done."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wanted())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() and not stop.is_wanted else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
