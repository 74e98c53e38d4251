"""What the disk says of halts, in words, for commands that look and change nothing."""

from commands.wiring import EMBEDDED_ACCOUNT, account_of
from core.halt import HaltLatch
from core.kill_switch import KillSwitch
from core.settings import Settings
from utils.clock import SystemClock

UNTIL_RESUME = "a start ends with 4 until `python main.py resume`"


def halts_text(settings: Settings) -> list[str]:
    """Return a sentence for the halt file, if it stands, and for each symbol that is halted.

    A new embedded exchange begins without any halt but that of the file, which counts for every daemon of its folder.
    """
    account = account_of(settings)
    switch = KillSwitch(settings.state_directory, SystemClock().monotonic_ns)
    lines = [f"there is a file {switch.path}; {UNTIL_RESUME}"] if switch.file_is_there() else []
    if account == EMBEDDED_ACCOUNT:
        return lines
    for symbol in settings.symbols:
        halt = HaltLatch(settings.state_directory, account, symbol).read()
        if halt is None:
            continue
        if halt.is_closing:
            what = (
                "its position is not verified to be closed; a start goes on closing it, and so does"
                " `python main.py flatten`"
            )
        else:
            what = UNTIL_RESUME
        lines.append(f"{symbol} is halted ({halt.reason}); {what}")
    return lines
