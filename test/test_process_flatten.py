"""``flatten`` and ``status`` as their users run them: beside a daemon, after one that was killed, and without any."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from core.status_socket import read_status, status_path
from test.process import ROOT, START_WITHIN_S, Exchange, Folder, Stage, eventually
from utils.config_loader import ENV_NAMES

pytestmark = pytest.mark.no_cover

COMMAND_WITHIN_S = 15.0


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Owns every process of these tests."""
    with Stage(tmp_path_factory.mktemp("flatten")) as stage:
        yield stage


def command(stage: Stage, folder: Folder, *arguments: str) -> tuple[int, str]:
    """Run a command of main.py to its end; return its exit code and what it printed."""
    process = stage.daemon(folder, *arguments)
    return process.wait(COMMAND_WITHIN_S), process.out


def socket_of(exchange: Exchange, folder: Folder) -> Path:
    """The status socket of the daemon in this folder."""
    account = "paper-" + exchange.url.removeprefix("http://").replace(":", "-")
    return status_path(folder.path / "state", account, ["BTCUSDT"])


def position(exchange: Exchange) -> Decimal:
    """The position at the exchange."""
    return Decimal(exchange.record()["positions"][0]["positionAmt"])


def test_flatten_and_status_of_a_daemon_that_runs_and_is_killed(stage: Stage) -> None:
    """Beside a daemon nothing is touched and status tells of it; after a kill all is out and closed, verified."""
    exchange = stage.exchange()
    folder = stage.folder(exchange)
    exchange.ask_signed(
        "POST",
        "/fapi/v1/order",
        symbol="BTCUSDT",
        side="BUY",
        type="LIMIT",
        timeInForce="GTC",
        price="50000",
        quantity="0.002",
        newClientOrderId="a-stranger",
    )
    daemon = stage.quoting(exchange, folder, orders=7)
    exchange.fill("BUY", "0.012")
    eventually(lambda: "position 0.012" in daemon.err, START_WITHIN_S, "the fill was not seen")

    code, said = command(stage, folder, "flatten")
    assert (code, position(exchange)) == (2, Decimal("0.012"))
    assert said.startswith(
        "flatten: nothing was done: a daemon is trading BTCUSDT on this account; stop it first"
    )
    assert daemon.is_running

    _assert_status(stage, exchange, folder, daemon.pid)
    path = socket_of(exchange, folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    _assert_clients_do_no_harm(path)

    daemon.end(signal.SIGKILL)
    code, said = command(stage, folder, "status")
    assert code == 1
    assert said.startswith("status: no daemon is running (paper-127.0.0.1-")
    code, said = command(stage, folder, "status", "--json")
    told = json.loads(said)
    assert (code, told["running"], told["halts"]) == (1, False, [])
    assert told["reason"].startswith("no daemon is running (paper-127.0.0.1-")

    code, said = command(stage, folder, "flatten")
    assert code == 0, said
    first, second = said.splitlines()
    assert first == "BTCUSDT: 6 orders of ours cancelled; none rests now (verified)"
    assert second.startswith("BTCUSDT: the position of 0.012 BTC is closed: 0.012 in 1 order at 6")
    assert second.endswith("USDT; flat (verified)")
    assert position(exchange) == 0
    assert [order["clientOrderId"] for order in exchange.open_orders()] == ["a-stranger"]

    code, said = command(stage, folder, "flatten")
    assert (code, said.splitlines()) == (
        0,
        [
            "BTCUSDT: no order of ours rested; none rests now (verified)",
            "BTCUSDT: no position was held (verified)",
        ],
    )
    code, said = command(stage, folder, "orders", "--audit")
    assert code == 0, said


def _assert_status(stage: Stage, exchange: Exchange, folder: Folder, pid: int) -> None:
    """The command says what is true, for people and for programs, and no key is among it."""
    code, said = command(stage, folder, "status", "--json")
    assert code == 0, said
    status = json.loads(said)
    one = status["symbols"]["BTCUSDT"]
    assert (status["env"], status["pid"], status["worker_restarts"]) == ("paper", pid, 0)
    assert status["uptime_s"] > 0
    assert 0 < status["rates"]["weight_1m"]["used"] < status["rates"]["weight_1m"]["limit"]
    assert status["streams"]["account"]["up"] is True
    assert (one["quoting"], one["gate"], one["posture"]["step"]) == (True, [], "normal")
    assert one["position"] == {"ours": "0.012", "exchange": "0.012", "asset": "BTC"}
    there = {order["clientOrderId"] for order in exchange.open_orders()} - {"a-stranger"}
    assert one["orders_total"] == 6
    assert len(there & {order["client_id"] for order in one["orders"]}) >= 4  # a refresh may come between
    assert one["dead_man"]["armed"] is True
    assert one["dead_man"]["ack_age_s"] < one["dead_man"]["window_s"] == 20
    assert one["reconciled_s_ago"] > 0
    assert one["book_age_ms"] < 3000
    code, said = command(stage, folder, "status")
    assert code == 0
    assert "BTCUSDT: quoting, posture normal" in said
    assert "dead-man switch armed" in said


def _assert_clients_do_no_harm(path: Path) -> None:
    """Twenty clients that say much and read nothing: those beyond eight are sent away, and later all is well again."""
    clients = []
    for _ in range(20):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        _reach(client, path)
        clients.append(client)
    for client in clients:
        try:
            client.send(b"GET / HTTP/1.1\r\n\r\n" * 1000)
        except OSError:
            continue
    began_s = time.monotonic()
    status = eventually(lambda: read_status(path), 5)
    assert status["symbols"]["BTCUSDT"]["orders_total"] == 6
    assert time.monotonic() - began_s < 5
    for client in clients:
        client.close()


def _reach(client: socket.socket, path: Path) -> None:
    """Connect by a short name: the folders of tests are deep."""
    short = Path("/tmp") / f"f-{time.monotonic_ns()}"  # noqa: S108 - a link of a moment
    short.symlink_to(path)
    try:
        client.connect(str(short))
    except OSError:
        pass
    finally:
        short.unlink()


def test_gate_that_is_closed_is_shown_with_its_reason_and_since_when(stage: Stage) -> None:
    """A halted daemon says so, flat and with nothing resting."""
    exchange = stage.exchange()
    folder = stage.folder(exchange)
    daemon = stage.quoting(exchange, folder)
    exchange.fill("SELL", "0.05")
    eventually(lambda: "the position is closed" in daemon.err, 10, "it did not halt")
    time.sleep(0.5)
    status = read_status(socket_of(exchange, folder))
    one = status["symbols"]["BTCUSDT"]
    assert one["quoting"] is False
    assert one["paused"] is True
    assert one["posture"]["step"] == "halt"
    [risk] = [each for each in one["gate"] if each["key"] == "risk"]
    assert risk["reason"] == "halted by risk"
    assert 0 < risk["since_s"] < 30
    assert one["orders"] == []
    assert daemon.end(signal.SIGTERM) == 4
    assert not socket_of(exchange, folder).exists()


def test_flatten_on_the_embedded_exchange_has_nothing_to_do(stage: Stage) -> None:
    """One sentence, which names the environment, as somebody may have meant another one; exit code 0."""
    folder = stage.folder()
    assert command(stage, folder, "flatten") == (
        0,
        "flatten: the embedded exchange ends with its daemon, so there is nothing to flatten; EXCHANGE_ENV is paper"
        f" (environment file: {folder.path / '.env'})\n",
    )


def test_flatten_that_cannot_verify_says_so(stage: Stage) -> None:
    """No exchange at the address: exit code 3, and the sentence says what was not verified."""
    folder = stage.folder()
    (folder.path / ".env").write_text("PAPER_URL=http://127.0.0.1:9\n")
    code, said = command(stage, folder, "flatten")
    assert code == 3
    assert said.startswith("flatten: NOT VERIFIED: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "flatten: nothing was done: live confirmation: EXCHANGE_ENV=live without --live; add --live"),
        (("--live",), "flatten: not confirmed; type the symbol on a terminal, or add --yes"),
    ],
    ids=["without --live", "without --yes"],
)
def test_flatten_with_real_money_asks_to_be_confirmed(
    stage: Stage, arguments: tuple[str, ...], says: str
) -> None:
    """Exit code 2, and no request leaves."""
    folder = stage.folder()
    env = folder.path / ".env"
    env.write_text("EXCHANGE_ENV=live\nBINANCE_API_KEY=some-key\nBINANCE_SECRET_KEY=some-secret\n")
    env.chmod(0o600)
    code, said = command(stage, folder, "flatten", *arguments)
    assert (code, said[: len(says)]) == (2, says)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_flatten_that_asks_can_be_broken_off(stage: Stage, number: signal.Signals) -> None:
    """Ctrl-C at the question is a no: one line, exit code 2, and no request leaves."""
    folder = stage.folder()
    env = folder.path / ".env"
    env.write_text("EXCHANGE_ENV=live\nBINANCE_API_KEY=some-key\nBINANCE_SECRET_KEY=some-secret\n")
    env.chmod(0o600)
    files = ["--config", str(folder.path / "config.yaml"), "--env", str(env)]
    person, terminal = os.openpty()
    arguments = [sys.executable, "-W", "error", "main.py", "flatten", "--live", *files]
    environment = {key: value for key, value in os.environ.items() if key not in ENV_NAMES}
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    try:
        said = b""
        while not said.endswith(b"Type BTCUSDT to go on: "):
            said += os.read(person, 4096)

        def has_ended() -> bool:
            process.send_signal(number)  # one between the question and the wait for an answer is not heard
            return process.poll() is not None

        eventually(has_ended, 10, "it went on asking")
        assert process.returncode == 2
        last = os.read(person, 4096).decode().split()
        assert " ".join(last).startswith("flatten: not confirmed; type the symbol on a terminal")
    finally:
        process.kill()
        process.wait()
        os.close(person)
