"""No secret is seen anywhere, whatever fails: every seam raises in turn, with the secrets in the error's own text.

Everything that a run leaves is searched for the key, the secret, listen keys and signatures, and for parts of them.
"""

import asyncio
import gc
import logging
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.log_setup import Logs, RedactingFormatter, guard_last_words
from test import daemon
from test.canary import Canaries, SeamClock, SeamHttp, SeamRandom, Seams, SeamWs, failing_disk, seam_blocking
from test.daemon import World, in_a_world
from test.process import Stage, eventually
from utils import redaction
from utils.http import HttpTransport
from utils.redaction import redactor
from utils.secret import Secret
from utils.ws import WsTransport

pytestmark = pytest.mark.no_cover

MOST_RUNS = 150
PAUSE_S = 20.0
"""Virtual time between two runs, in which the exchange forgives some of the requests of the last one."""
QUIET_S = 4.0
"""Virtual time in which every place that is not new any more has been passed."""


@pytest.fixture
def canaries(seed: int) -> Iterator[Canaries]:
    """Secrets of this test, which the process knows as the ones of its configuration."""
    made = Canaries(random.Random(seed))
    for secret in (made.key, made.secret):
        redactor.learn(Secret(secret))
    yield made
    redactor.forget()


@pytest.fixture
def last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What escapes is told as main.py has it told."""
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    guard_last_words()


def seamed_world(seams: Seams) -> type[World]:
    """Return a world in which the daemon meets the failing seams."""

    class SeamedWorld(World):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.clock: Any = SeamClock(self.clock, seams)
            self.run_blocking = seam_blocking(seams)
            self.has_wallet = True
            self.has_plain_streams = True

        def _http(self) -> HttpTransport:
            return SeamHttp(super()._http(), seams)

        def _streams(self) -> WsTransport:
            return SeamWs(super()._streams(), seams)

        def _order_api(self) -> WsTransport:
            return SeamWs(super()._order_api(), seams)

    return SeamedWorld


def fail_on_disk(monkeypatch: pytest.MonkeyPatch, seams: Seams) -> None:
    """Have the disk fail where the program writes."""
    for module, name in ((os, "write"), (os, "fsync"), (os, "ftruncate"), (Path, "replace"), (Path, "open")):
        monkeypatch.setattr(module, name, failing_disk(seams, getattr(module, name), f"disk {name}"))


async def one_run(world: World, seams: Seams, canaries: Canaries, *, transport: str) -> None:
    """Start a daemon, have its seams fail in turn while it starts, works and stops, and tell how it ended."""
    for halt in (world.folder / "state").glob("halt-*"):
        halt.unlink()  # as `resume` does

    def watch(engine: Any) -> None:
        engine.bus.subscribe(lambda _fact: seams.pass_by("bus handler", place=type(_fact).__name__))

    running = world.start(
        key=Secret(canaries.key),
        secret=Secret(canaries.secret),
        watch=watch,
        execution={"order_transport": transport},
        refresh_config={"orderbook_refresh_interval": 1},
        order_management={"modify_threshold": 0, "patience_bps_s": 0},
    )
    seams.arm()
    quiet_s = 0.0
    while not running.done() and quiet_s < QUIET_S:
        await asyncio.sleep(0.5)
        quiet_s = quiet_s + 0.5 if seams.is_armed else 0.0
        seams.arm()
    world.stop.ask("the test is over")
    for _ in range(40):
        if not running.done():
            await asyncio.sleep(0.5)
            seams.arm()
    seams.disarm()
    running.cancel()
    [result] = await asyncio.gather(running, return_exceptions=True)
    if isinstance(result, Exception):
        sys.excepthook(type(result), result, result.__traceback__)


def play_all(folder: Path, seams: Seams, canaries: Canaries, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run daemons until no seam is new to them; return how many it took."""
    monkeypatch.setattr(daemon, "KEY", canaries.key)
    monkeypatch.setattr(daemon, "SECRET", canaries.secret)
    monkeypatch.setattr(daemon, "World", seamed_world(seams))
    monkeypatch.setattr(daemon, "random", SimpleNamespace(Random=SeamRandom))
    monkeypatch.setattr(SeamRandom, "seams", seams)
    runs = 0

    async def story(world: World) -> None:
        nonlocal runs
        for transport in ("rest", "ws"):
            quiet = 0
            while quiet < 2 and runs < MOST_RUNS:
                known, runs = len(seams.raised), runs + 1
                await one_run(world, seams, canaries, transport=transport)
                quiet = quiet + 1 if len(seams.raised) == known else 0
                await asyncio.sleep(PAUSE_S)

    with monkeypatch.context() as disk:
        fail_on_disk(disk, seams)
        in_a_world(folder, story)
    return runs


@contextmanager
def only_our_logs(folder: Path) -> Iterator[None]:
    """Log as main.py does, at the most talkative; pytest's handlers would keep every error, and with it every task."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers
    root.handlers = []
    try:
        with Logs("DEBUG", folder):
            yield
    finally:
        root.handlers, root.level = handlers, level


def outputs(folder: Path) -> str:
    """Return everything that stands in the folder's files, their names included."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "\n".join(f"{path}\n{path.read_bytes().decode('utf-8', 'replace')}" for path in files)


def test_no_secret_is_seen_when_every_seam_fails_in_turn(
    tmp_path: Path,
    canaries: Canaries,
    last_words: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Logs at their most talkative, metrics, journal, state, stderr and tracebacks, over the whole life of a daemon."""
    seams = Seams(canaries)
    with only_our_logs(tmp_path / "logs"):
        runs = play_all(tmp_path, seams, canaries, monkeypatch)
        gc.collect()
    text = "".join((outputs(tmp_path), *capfd.readouterr()))
    kinds = {seam for seam, _, _ in seams.raised}
    assert kinds >= {
        *("http request", "http reply", "ws connect", "ws receive", "ws send"),
        *("wall clock", "monotonic clock", "dice", "bus handler", "blocking work"),
        *("disk write", "disk fsync", "disk replace"),
    }
    assert len(seams.raised) > 150
    assert runs < MOST_RUNS, "there were always new places"
    assert canaries.listen_keys
    assert canaries.signatures
    assert text.count("Traceback") > 20, "the errors were told"
    assert text.count("POST https://host/fapi/v1/order") > 100
    assert canaries.found_in(text) == []


@pytest.mark.parametrize("hole", ["handlers", "files", "fragments", "listen keys"])
def test_search_finds_what_a_hole_in_the_redaction_lets_through(
    hole: str, tmp_path: Path, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: each part of the redaction is needed."""
    canaries.listen_keys.append("".join(random.Random(1).choices("abcdefghijkmnpqrstuvwxyz", k=64)))
    as_is: Callable[[str], str] = lambda text: text  # noqa: E731
    if hole == "handlers":
        monkeypatch.setattr("core.log_setup.redact", as_is)
    elif hole == "fragments":
        monkeypatch.setattr(redaction.Redactor, "_without_fragments", lambda _self, text: text)
    elif hole == "listen keys":
        redactor.learn_minted("another")
    else:
        monkeypatch.setattr("core.metrics_file.redact", as_is)
        from core.metrics import Row
        from core.metrics_file import MetricsFile

        file = MetricsFile(tmp_path, "mm1", "paper")
        rows = [Row("x", "1", "count", details=canaries.as_an_error_would())]
        file.append(file.lines([("2026-01-01T00:00:00.000+00:00", rows)]))
    shown = RedactingFormatter("%(message)s").format(
        logging.makeLogRecord({"msg": canaries.as_an_error_would()})
    )
    assert canaries.found_in(shown + outputs(tmp_path)) != []


def test_no_secret_of_a_real_process_is_seen(tmp_path: Path, canaries: Canaries) -> None:
    """Its output, files, arguments and children, while requests fail with everything that they carry in the error.

    It listens to nobody, either.
    """
    script = (
        "import runpy, sys\n"
        "from utils.http import AiohttpTransport\n"
        "send = AiohttpTransport.request\n"
        "async def request(self, method, path, query, headers, timeout_s):\n"
        "    if 'countdown' in path:\n"
        "        raise RuntimeError(f'{headers} {query} {dict(headers)!r:.60}')\n"
        "    return await send(self, method, path, query, headers, timeout_s)\n"
        "AiohttpTransport.request = request\n"
        "sys.argv[0] = 'main.py'\n"
        "runpy.run_path('main.py', run_name='__main__')\n"
    )
    with Stage(tmp_path) as stage:
        exchange = stage.exchange("--api-key", canaries.key, "--api-secret", canaries.secret)
        folder = stage.folder(exchange, logging={"log_level": "DEBUG"}, safety={"worker_restart_budget": 1})
        with (folder.path / ".env").open("a") as file:
            file.write(f"BINANCE_API_KEY={canaries.key}\nBINANCE_SECRET_KEY={canaries.secret}\n")
        running = stage.program(folder, "-c", script)
        eventually(lambda: "a worker failed" in running.err, 15, "the failure")
        proc = Path(f"/proc/{running.pid}")
        argv = (proc / "cmdline").read_bytes().decode()
        assert (listening(running.pid), listening(exchange.pid)) == (0, 1)
        children = "".join(path.read_text() for path in proc.glob("task/*/children"))
        assert running.wait(20) in (1, 3)
        shown = running.out + running.err + argv + outputs(folder.logs) + outputs(folder.path / "state")
        modes = {path.stat().st_mode & 0o077 for path in (folder.path / "state").rglob("*")}
    assert children == "", "a child could have been left the environment"
    assert modes == {0}
    assert "X-MBX-APIKEY" in shown
    assert "signature=***" in shown
    assert canaries.found_in(shown) == []


def listening(pid: int) -> int:
    """Return how many TCP sockets of a process wait for connections."""
    ours = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    tables = (Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6"))
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return sum(1 for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in ours)
