"""The simulated exchange and the daemon as real processes, started as their users start them, over loopback.

A ``Stage`` owns every process that a test starts, gives each daemon a folder of its own, and leaves nothing running.
"""

import csv
import hashlib
import hmac
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import yaml

from core.metrics import COLUMNS
from utils.config_loader import ENV_NAMES

ROOT = Path(__file__).resolve().parents[1]
PAPER_KEY, PAPER_SECRET = "paper-key", "paper-secret"
START_WITHIN_S = 30.0
"""How long a process may take to get going; generous, because machines that test are shared."""

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) +\S.*")

OF_CCXT = "ignore:enable_cleanup_closed ignored:DeprecationWarning"
"""It asks aiohttp for something that a newer Python does itself."""
T = TypeVar("T")
Json = dict[str, Any]


def eventually(what: Callable[[], T], within_s: float, why: str = "it never became true") -> T:
    """Return the first true answer of ``what``, asked again and again; fail when there is none in time."""
    deadline_s = time.monotonic() + within_s
    while not (answer := what()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{why} within {within_s:g} s; the last answer was {answer!r:.500}")
        time.sleep(0.02)
    return answer


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of ``base`` with those of ``changes`` put over them, section by section."""
    both = dict(base)
    for name, value in changes.items():
        section = both.get(name)
        both[name] = (
            merged(section, value) if isinstance(section, dict) and isinstance(value, dict) else value
        )
    return both


_LAUNCHER = """
import ctypes, os, sys
number, parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, int(number))
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""
"""Becomes the program, after having asked the kernel for a signal at the end of the thread that started it.

Whoever kills the tests, or the black box, without a last word leaves no process behind. Source: prctl(2),
PR_SET_PDEATHSIG.
"""


class Process:
    """One running program; what it prints goes to files in its folder. It does not outlive who has started it."""

    ends_with = signal.SIGKILL
    """The signal that it gets when the thread that has started it ends; one that stands still heeds no other."""

    def __init__(self, arguments: Iterable[str], folder: Path, name: str, cwd: Path = ROOT) -> None:
        self._out, self._err = folder / f"{name}.stdout", folder / f"{name}.stderr"
        ours = (*ENV_NAMES, "PYTHONPATH", "PYTHONWARNINGS")
        environment = {key: value for key, value in os.environ.items() if key not in ours}
        self.name = name
        self.started_s = time.time()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._popen = subprocess.Popen(
                [
                    *(
                        sys.executable,
                        "-I",
                        "-S",
                        "-c",
                        _LAUNCHER,
                        str(int(self.ends_with)),
                        str(os.getpid()),
                    ),
                    *(sys.executable, "-W", "error", "-W", OF_CCXT, *arguments),
                ],
                cwd=cwd,
                env=environment | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # a Ctrl-C at the tests is not meant for it
            )

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._popen.pid

    @property
    def out(self) -> str:
        """Return what it has written to stdout so far."""
        return self._out.read_text("utf-8")

    @property
    def err(self) -> str:
        """Return what it has written to stderr so far."""
        return self._err.read_text("utf-8")

    @property
    def is_running(self) -> bool:
        """Tell whether it has not ended yet."""
        return self._popen.poll() is None

    @property
    def kept_waiting_s(self) -> float:
        """Return for how long its threads were ready to run and found no free processor. Source: proc(5), schedstat."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[1]) for task in tasks) / 1e9

    def catches(self, number: signal.Signals) -> bool:
        """Tell whether the process itself handles this signal by now, as the kernel has it."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
        return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def wait(self, within_s: float) -> int:
        """Return its exit code; fail if it does not end in time."""
        try:
            return self._popen.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {within_s:g} s\n{self.err}") from None

    def end(self, number: signal.Signals = signal.SIGTERM, within_s: float = 5.0) -> int:
        """Send a signal and return the exit code that follows."""
        self.send(number)
        return self.wait(within_s)

    def kill(self) -> None:
        """Have it gone, at once and without a last word."""
        self._popen.kill()
        self._popen.wait()


class Exchange(Process):
    """``python -m sim``, ready: ``url`` answers."""

    ends_with = signal.SIGTERM

    def __init__(self, folder: Path, name: str, arguments: Iterable[str]) -> None:
        super().__init__(["-m", "sim", "--port", "0", *arguments], folder, name)
        first = eventually(self._first_line, START_WITHIN_S, f"{name} did not say where it is")
        assert first.startswith("simulated exchange on http://127.0.0.1:"), first
        self.url = first.removeprefix("simulated exchange on ")

    def _first_line(self) -> str:
        assert self.is_running, f"{self.name} ended with {self.wait(0)}: {self.err}"
        line, end, _ = self.out.partition("\n")
        return line if end else ""

    def ask(self, method: str, target: str, headers: Mapping[str, str] | None = None) -> Any:
        """Return the JSON that it replies with."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=5)
        try:
            connection.request(method, target, headers=dict(headers or {}))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def ask_signed(self, method: str, path: str, **params: str) -> Any:
        """Return its reply to a signed request of the account's owner."""
        query = urlencode({**params, "timestamp": str(time.time_ns() // 10**6)})
        signature = hmac.new(PAPER_SECRET.encode(), query.encode(), hashlib.sha256).hexdigest()
        return self.ask(method, f"{path}?{query}&signature={signature}", {"X-MBX-APIKEY": PAPER_KEY})

    def record(self, symbol: str = "BTCUSDT") -> Json:
        """Return the exchange's own record."""
        record: Json = self.ask("GET", f"/sim/record?symbol={symbol}")
        assert "orders" in record, record
        return record

    def open_orders(self, symbol: str = "BTCUSDT") -> list[Json]:
        """Return the orders that rest at this moment."""
        resting = ("NEW", "PARTIALLY_FILLED")
        return [order for order in self.record(symbol)["orders"] if order["status"] in resting]

    def filters(self, symbol: str) -> dict[str, Json]:
        """Return the filters of a symbol by their type."""
        symbols = self.ask("GET", "/fapi/v1/exchangeInfo")["symbols"]
        [entry] = [entry for entry in symbols if entry["symbol"] == symbol]
        return {each["filterType"]: each for each in entry["filters"]}

    def outage(self, seconds: float) -> None:
        """Drop every connection, and refuse new ones for so long."""
        assert self.ask("POST", f"/sim/outage?seconds={seconds}") == {"seconds": seconds}

    def silence(self, stream: str, seconds: float) -> None:
        """Withhold a stream for so long, with every socket open."""
        assert self.ask("POST", f"/sim/silence?stream={stream}&seconds={seconds}")["stream"] == stream

    def fill(self, side: str, quantity: str, symbol: str = "BTCUSDT") -> None:
        """Let a taker fill from elsewhere happen to the account."""
        reply = self.ask("POST", f"/sim/fill?symbol={symbol}&side={side}&quantity={quantity}")
        assert reply["status"] == "FILLED", reply


class Folder:
    """Where one daemon has its configuration, logs, metrics and state; a restart finds them again."""

    def __init__(self, path: Path, config: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        self.path = path
        self.logs, self.state = path / "logs", path / "state"
        self.runs = 0
        path.mkdir()
        own = {"logging": {"log_directory": str(self.logs)}, "state_directory": str(self.state)}
        self.config = merged(own, config)
        self.write_config()
        (path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        (path / ".env").chmod(0o600)

    def write_config(self, **changes: Any) -> None:
        """Change some settings, for the next run."""
        self.config = merged(self.config, changes)
        (self.path / "config.yaml").write_text(yaml.safe_dump(self.config), "utf-8")

    def move_to(self, path: Path) -> None:
        """Have logs, metrics and state in this folder, for the next run."""
        self.logs, self.state = path / "logs", path / "state"
        self.write_config(logging={"log_directory": str(self.logs)}, state_directory=str(self.state))

    @property
    def log(self) -> str:
        """Return the log file."""
        return (self.logs / "quant_pmm.log").read_text("utf-8")

    @property
    def torn(self) -> str:
        """Return what the metrics hold behind the last whole line: nothing, unless a daemon is just writing."""
        return "".join(path.read_text("utf-8").rpartition("\n")[2] for path in self._metrics())

    def _metrics(self) -> list[Path]:
        return sorted(self.logs.glob("metrics-*.csv"))

    def rows(self, name: str = "", sub_type: str = "") -> list[dict[str, str]]:
        """Return the metrics of this name and kind; a line that is not of the columns fails."""
        rows = [row for path in self._metrics() if path.stat().st_size for row in read_metrics(path)]
        return [row for row in rows if name in ("", row["metric_name"]) and sub_type in ("", row["sub_type"])]

    def last(self, name: str) -> str:
        """Return the last value of a metric, nothing if there is none yet."""
        rows = self.rows(name)
        return rows[-1]["value"] if rows else ""


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Return the whole lines of a metrics file; fail where they are not the CSV of the contract."""
    whole = path.read_bytes().rpartition(b"\n")[0].decode("utf-8")
    header, *lines = csv.reader(io.StringIO(whole, newline=""), strict=True)
    assert tuple(header) == COLUMNS
    for line in lines:
        assert len(line) == len(COLUMNS), line
        assert tuple(line) != COLUMNS, "a second header"
    return [dict(zip(COLUMNS, line, strict=True)) for line in lines]


class Daemon(Process):
    """``python main.py`` on a folder's configuration."""

    def __init__(self, folder: Folder, arguments: Iterable[str], cwd: Path) -> None:
        self.folder = folder
        folder.runs += 1
        files = ["--config", str(folder.path / "config.yaml"), "--env", str(folder.path / ".env")]
        name = f"{folder.path.name}-{folder.runs}"
        super().__init__([str(ROOT / "main.py"), *arguments, *files], folder.path, name, cwd)


class Stage:
    """Owns the processes of a test; a process that still runs when the stage is left is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._processes: list[Process] = []
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if kind is not None:  # pytest shows this beside the failure
                sys.stdout.write(f"--- {process.name}:\n{process.err[-4000:]}\n")
            # A daemon has been ended by its test. An exchange ends by itself, which saves what was covered.
            if process.is_running and isinstance(process, Exchange):
                process.send(signal.SIGTERM)
        for process in self._processes:
            try:
                if isinstance(process, Exchange):
                    process.wait(5)
            finally:
                process.kill()

    def exchange(self, *arguments: str) -> Exchange:
        """Return a simulated exchange that runs."""
        exchange = Exchange(self.path, f"exchange-{next(self._numbers)}", arguments)
        self._processes.append(exchange)
        return exchange

    def folder(self, exchange: Exchange | None = None, /, **config: Any) -> Folder:
        """Return a new folder of a daemon that is to trade on ``exchange``, or on its embedded one."""
        variables = {"PAPER_URL": exchange.url} if exchange is not None else {}
        return Folder(self.path / f"daemon-{next(self._numbers)}", config, variables)

    def daemon(self, folder: Folder, *arguments: str, cwd: Path = ROOT) -> Daemon:
        """Return a daemon that has just been started."""
        daemon = Daemon(folder, arguments, cwd)
        self._processes.append(daemon)
        return daemon

    def program(self, folder: Folder, *arguments: str) -> Process:
        """Return another program with the command line of a daemon behind its own, just started."""
        files = ["--config", str(folder.path / "config.yaml"), "--env", str(folder.path / ".env")]
        program = Process([*arguments, *files], folder.path, f"program-{next(self._numbers)}")
        self._processes.append(program)
        return program

    def quoting(self, exchange: Exchange, folder: Folder, orders: int = 6, symbol: str = "BTCUSDT") -> Daemon:
        """Return a daemon whose orders rest on the exchange, and nobody's besides; ``orders`` counts all."""
        daemon = self.daemon(folder)

        def rest() -> bool:
            assert daemon.is_running, f"ended with {daemon.wait(0)}: {daemon.err}"
            return "first quote rests" in daemon.err and len(exchange.open_orders(symbol)) == orders

        eventually(rest, START_WITHIN_S, f"there were never {orders} orders")
        return daemon
