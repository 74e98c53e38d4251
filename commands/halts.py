"""What the disk says of halts, in words, for commands that look and change nothing."""

from commands.wiring import EMBEDDED_ACCOUNT, account_of
from core.halt import HaltLatch
from core.settings import Settings


def halts_text(settings: Settings) -> list[str]:
    """Return a sentence for each symbol that is halted; a new embedded exchange begins without any."""
    account = account_of(settings)
    if account == EMBEDDED_ACCOUNT:
        return []
    lines = []
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
            what = "a start ends with 4 until `python main.py resume`"
        lines.append(f"{symbol} is halted ({halt.reason}); {what}")
    return lines
