"""What a run of the daemon is connected to: the outside world, handed in."""

import random
from dataclasses import dataclass

from core.kill_switch import KillSwitch
from core.restarts import Restarts
from core.start import OnWait
from core.state import SharedState
from core.systemd import Notify, to_nobody
from utils.background import RunBlocking
from utils.clock import Clock
from utils.http import BinanceRest
from utils.machine import Machine
from utils.ws import WsTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Everything that a run is connected to.

    ``wallet`` is the host that knows the rights of a key, None where there is none. ``account`` names the account in
    the files that outlive the run; ``is_shared`` says that another process could trade on it, too.
    """

    state: SharedState
    rest: BinanceRest
    wallet: BinanceRest | None
    streams: WsTransport
    clock: Clock
    rng: random.Random
    run_blocking: RunBlocking
    account: str
    is_shared: bool
    has_keys: bool
    live_confirmed: bool
    order_api: WsTransport | None = None
    """Where the WebSocket API is; without it, all orders go by REST."""
    kill_switch: KillSwitch | None = None
    """What a signal throws; without it only the file in the state directory is looked for."""
    machine: Machine | None = None
    """Where memory and disks are asked for; without it nobody does."""
    restarts: Restarts | None = None
    """Holds a start back after runs that ended badly; without it none is counted."""
    notify: Notify = to_nobody
    """Tells the service manager that started this process."""
    on_wait: OnWait = to_nobody
    """Is told what a start waits for, with the locks held."""
