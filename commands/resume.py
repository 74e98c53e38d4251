"""``python main.py resume``: the operator clears a halt, and accepts a loss if told to."""

import logging
import sys
from threading import Event

from commands.printing import show
from commands.run import crash_count_of
from commands.signals import signals_break_off
from commands.wiring import EMBEDDED_ACCOUNT, account_of
from core.daily_loss import day_of
from core.day_file import DamagedDay, DayFile, DayRecord
from core.exit_code import ExitCode
from core.halt import HaltLatch
from core.instance_lock import is_held
from core.kill_switch import KillSwitch
from core.settings import Settings
from utils.clock import SystemClock

log = logging.getLogger("quant_pmm")

CLOSE_PATIENCE_S, LOOK_EVERY_S = 15.0, 0.1


def resume(settings: Settings, *, accept_loss: bool) -> int:
    """Have no halt stand on the account any more; return the exit code.

    Nothing is cleared while a position waits to be closed: quoting would go on over a limit.
    """
    account = account_of(settings)
    try:
        with signals_break_off():
            unclosed = _unclosed(settings, account)
    except KeyboardInterrupt:
        print("resume: broken off, nothing was cleared", file=sys.stderr)
        return ExitCode.FAULT
    if unclosed:
        for symbol in unclosed:
            show(_refusal(symbol, is_at_it=is_held(settings.state_directory, account, symbol)))
        return ExitCode.REFUSED
    try:
        _clear(settings, account, accept_loss=accept_loss)
    except OSError as error:
        show(
            f"{', '.join(settings.symbols)}: not resumed: {settings.state_directory} cannot be written to"
            f" ({error.strerror}); make room on its disk, or run this as its owner"
        )
        return ExitCode.FAULT
    return ExitCode.STOPPED


def _clear(settings: Settings, account: str, *, accept_loss: bool) -> None:
    """Clear what halts, and say what that was. Raises OSError.

    First comes what a full disk does not take, so that everything stands then that stood.
    """
    about_loss = {
        symbol: _about_todays_loss(settings, account, symbol, accept=accept_loss)
        for symbol in settings.symbols
    }
    switch = KillSwitch(settings.state_directory, SystemClock().monotonic_ns)
    if switch.remove_file():  # before the latches: a daemon that sees them cleared may quote
        print(f"{switch.path} removed")
    crash_count_of(settings).clear()
    for symbol in settings.symbols:
        latch = HaltLatch(settings.state_directory, account, symbol)
        halt = latch.read()
        latch.clear()
        none = f"no halt stands on {account} in {settings.state_directory}"
        show(f"{symbol}: {f'halt cleared ({halt.reason})' if halt else none}")
        if about_loss[symbol]:
            print(f"{symbol}: {about_loss[symbol]}")


def _unclosed(settings: Settings, account: str) -> list[str]:
    """Return the symbols the close of whose halt is not finished; one that a daemon is at is waited for, not for long.

    All are looked at together: while one is waited for, another one may have to be closed.
    """
    unclosed: list[str] = []
    if account == EMBEDDED_ACCOUNT:  # its position has ended with its process
        return unclosed
    for _ in range(int(CLOSE_PATIENCE_S / LOOK_EVERY_S)):
        unclosed = [each for each in settings.symbols if _is_closing(settings, account, each)]
        if not all(is_held(settings.state_directory, account, each) for each in unclosed) or not unclosed:
            break
        Event().wait(LOOK_EVERY_S)
    return unclosed


def _is_closing(settings: Settings, account: str, symbol: str) -> bool:
    halt = HaltLatch(settings.state_directory, account, symbol).read()
    return halt is not None and halt.is_closing


def _refusal(symbol: str, *, is_at_it: bool) -> str:
    remedy = (
        "a daemon is at it: try again, and look at its log"
        if is_at_it
        else "run `python main.py flatten`, or start the daemon, which closes it and ends; then resume"
    )
    return (
        f"{symbol}: not resumed: nobody has verified yet that the position over its limit is closed; {remedy}"
    )


def _about_todays_loss(settings: Settings, account: str, symbol: str, *, accept: bool) -> str:
    """Return what there is to say of today's loss; accept it if asked to, before a daemon sees the halt cleared."""
    now_ms = SystemClock().time_ms()
    file, today = DayFile(settings.state_directory, account, symbol), day_of(now_ms)
    record: DayRecord | None = None
    damage = ""
    try:
        record = file.read(today)
    except DamagedDay as error:
        damage = f"the record of today's result cannot be used: {error}; "
    except OSError as error:
        damage = f"the record of today's result, {file.path}, cannot be read ({error.strerror}); "
    is_todays = record is not None and record.day == today
    if accept:
        lost = record.whole_quote if record is not None and is_todays else None
        file.accept(today, lost, now_ms)
        known = f"{lost:+.2f}" if lost is not None else "unknown"
        text = f"{damage}today's result ({known}) is accepted; the count of the loss limit begins anew"
        log.warning("%s: %s", symbol, text)
        return text
    if record is not None and is_todays and record.is_over and not _is_accepted(file, record):
        return (
            f"today's loss limit still stands: {record.result_quote:+.2f} ({record.text}) of the allowed loss of"
            f" {record.limit_quote:f}; until 00:00 UTC the daemon halts again at once, unless the loss is accepted with"
            " `python main.py resume --accept-loss`"
        )
    return damage.removesuffix("; ")


def _is_accepted(file: DayFile, record: DayRecord) -> bool:
    accepted = file.acceptance(record.day)
    return accepted is not None and accepted.accepted_ms > record.saved_ms
