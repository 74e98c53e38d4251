"""``python main.py status``: what the running daemon does, from its status socket."""

import json

from commands.halts import halts_text
from commands.printing import show
from commands.wiring import account_of
from core.exit_code import ExitCode
from core.instance_lock import is_held
from core.settings import Settings
from core.status_board import as_text
from core.status_socket import NoStatus, read_status, status_path


def status(settings: Settings, *, as_object: bool) -> int:
    """Print what the running daemon tells of itself; return the exit code."""
    account = account_of(settings)
    try:
        told = read_status(status_path(settings.state_directory, account, settings.symbols))
    except NoStatus as reason:
        is_there = any(is_held(settings.state_directory, account, symbol) for symbol in settings.symbols)
        text = "a daemon is there, but does not tell: it is starting, ending or stuck" if is_there else reason
        why = f"{text} ({account}, {', '.join(settings.symbols)}, in {settings.state_directory})"
        halts = halts_text(settings)
        if as_object:
            show(json.dumps({"running": is_there, "reason": why, "halts": halts}, indent=2))
        else:
            for line in (why, *halts):
                show(f"status: {line}")
        return ExitCode.FAULT
    for line in [json.dumps(told, indent=2)] if as_object else as_text(told):
        show(line)
    return ExitCode.STOPPED
