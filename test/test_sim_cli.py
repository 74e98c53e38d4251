"""`python -m sim`: its first line, its end, and its refusals."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sim.cli import main
from sim.feeds import RECORDING, FeedSettings, open_market
from sim.market import MarketError

from .conftest import ROOT
from .test_sim_raw_capture import capture, quote
from .test_sim_recording import QUOTES, write_day


@dataclass
class Program:
    """The running program, where it listens, and the summary that it has printed."""

    process: subprocess.Popen[str]
    url: str
    summary: str

    def end(self) -> str:
        """Wait for its end and return what it wrote to stderr."""
        return self.process.communicate(timeout=30)[1]


@contextmanager
def running(*arguments: str) -> Iterator[Program]:
    """The program runs and has said where."""
    command = [sys.executable, "-m", "sim", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        first = process.stdout.readline().rstrip("\n")
        start = "simulated exchange on http://127.0.0.1:"
        if not first.startswith(start):
            process.wait(timeout=30)
            assert process.stderr is not None
            raise AssertionError(f"{first!r}, {process.stderr.read()}")
        assert first.removeprefix(start).isdigit()
        summary = "".join(process.stdout.readline() for _ in range(7))
        yield Program(process, first.removeprefix("simulated exchange on "), summary)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def get(url: str) -> Any:
    """The JSON at a URL of this machine."""
    with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310  # our own loopback server
        return json.load(reply)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_answers_and_ends_on_a_signal(number: signal.Signals) -> None:
    """The first line is the contract's, a summary follows, either signal ends it with 0 and no traceback."""
    with running("--seed", "5", "--symbol", "BTCUSDT,ETHUSDT", "--symbol", "nexousdt") as program:
        assert get(f"{program.url}/fapi/v1/ping") == {}
        program.process.send_signal(number)
        assert program.end() == ""
    assert program.process.returncode == 0
    for part in ("BTCUSDT, ETHUSDT, NEXOUSDT", "synthetic, seed 5", "5000 USDT", "paper-key / paper-secret"):
        assert part in program.summary


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_repeated_signals_while_it_ends_change_nothing(number: signal.Signals) -> None:
    """Issue 3 (both signals end it with 0): a held Ctrl-C, or a supervisor that asks again, gets 0 and no traceback."""
    with running() as program:
        deadline_s = time.monotonic() + 10
        while program.process.poll() is None and time.monotonic() < deadline_s:
            program.process.send_signal(number)
            time.sleep(0.002)
        assert program.end() == ""
    assert program.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_its_start_is_a_stop(number: signal.Signals) -> None:
    """Issue 3: once the first lines have run, a signal ends it with 0, however much is still to be imported."""
    command = [sys.executable, "-m", "sim"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        status = Path(f"/proc/{process.pid}/status")
        deadline_s = time.monotonic() + 10
        while not _catches_sigterm(status) and time.monotonic() < deadline_s:
            time.sleep(0.001)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")


def _catches_sigterm(status: Path) -> bool:
    """Tell whether a process handles SIGTERM, the last one that it takes over, as the kernel has it."""
    [line] = [line for line in status.read_text().splitlines() if line.startswith("SigCgt:")]
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_recording_is_replayed_from_its_first_quote(tmp_path: Path) -> None:
    """Naming a folder is enough to choose it; at its end it stops and the exchange goes on answering."""
    write_day(tmp_path)
    with running("--recording", str(tmp_path), "--no-loop", "--speed", "100") as program:
        deadline_s = time.monotonic() + 5
        bid = ""
        while bid != "64000.40" and time.monotonic() < deadline_s:
            bid = get(f"{program.url}/fapi/v1/ticker/bookTicker?symbol=BTCUSDT")["bidPrice"]
        assert bid == "64000.40"
        program.process.terminate()
        assert program.end() == ""
    assert program.process.returncode == 0
    assert f"recording {tmp_path}, once" in program.summary
    assert "100x" in program.summary


def test_a_bad_line_met_on_the_way_ends_it_with_one_sentence(tmp_path: Path) -> None:
    """The file and line are named, and the exit code is that of a fault."""
    write_day(tmp_path, quotes=[*QUOTES, "20,64000.45,1,64000.60,1,3100,1"])
    with running("--recording", str(tmp_path), "--market", "recording", "--loop") as program:
        err = program.end()
    assert program.process.returncode == 1
    assert err.startswith(
        "python -m sim: BTCUSDT-bookTicker-2024-07-18.csv:5: price 64000.45 is not a multiple"
    )
    assert err.count("\n") == 1


def test_a_script_happens_to_the_market(tmp_path: Path) -> None:
    """The summary names it, and its jump shows in the quotes."""
    script = tmp_path / "events.yaml"
    script.write_text("- {at_s: 0, event: jump, bps: 5000}", encoding="utf-8")
    with running("--events", str(script)) as program:
        assert f"synthetic, seed 1, events of {script}" in program.summary
        bid = float(get(f"{program.url}/fapi/v1/ticker/bookTicker?symbol=BTCUSDT")["bidPrice"])
        with running() as plain:
            other = float(get(f"{plain.url}/fapi/v1/ticker/bookTicker?symbol=BTCUSDT")["bidPrice"])
    assert bid == pytest.approx(1.5 * other, rel=0.05)


def test_a_capture_is_a_recording(tmp_path: Path) -> None:
    """Naming the file is enough."""
    path = capture(tmp_path, [quote(1_000, 10), quote(2_000, 11)])
    with running("--recording", str(path)) as program:
        assert f"recording {path}, in a loop" in program.summary
        bid = get(f"{program.url}/fapi/v1/ticker/bookTicker?symbol=BTCUSDT")["bidPrice"]
    assert bid == "64000.00"


REFUSED = [
    (
        ["--events", "/nowhere.yaml"],
        "/nowhere.yaml cannot be read (No such file or directory): name a YAML file",
    ),
    (
        ["--symbol", "ABCUSDT"],
        "The simulated exchange does not know ABCUSDT: use one of BTCUSDT, ETHUSDT, SOLUSDT",
    ),
    (["--symbol", " , "], "There is no symbol to trade: name one of BTCUSDT"),
    (["--market", "recording"], "A recording needs its folder: add --recording DIR."),
    (["--recording", "/nowhere"], "There is no folder /nowhere"),
    (["--host", "192.0.2.1"], "listens on loopback only, not on 192.0.2.1: use --host 127.0.0.1"),
    (["--api-key", "k" * 64], "argument --api-key: it is empty or looks real"),
    (["--api-secret", "S1" * 32], "argument --api-secret: it is empty or looks real"),
    (["--api-key", ""], "argument --api-key: it is empty or looks real"),
    (["--port", "70000"], "argument --port: 70000 is no port: use 0 to 65535"),
    (["--port", "http"], "argument --port: http is no port"),
    (["--speed", "0"], "argument --speed: 0 is no speed: use a number above 0, at most 10000"),
    (["--speed", "1/0"], "argument --speed: 1/0 is no speed"),
    (["--speed", "fast"], "argument --speed: fast is no speed"),
    (["--wallet", "-5"], "argument --wallet: -5 is no amount: use a number of USDT above 0"),
    (["--wallet", "NaN"], "argument --wallet: NaN is no amount"),
    (["--wallet", "much"], "argument --wallet: much is no amount"),
    (["--latency-ms", "-1"], "argument --latency-ms: -1 is no latency: use 0 to 10000 ms"),
    (["--latency-ms", "nan"], "argument --latency-ms: nan is no latency"),
    (["--latency-ms", "slow"], "argument --latency-ms: slow is no latency"),
    (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
    (["--market", "moon"], "argument --market: invalid choice: 'moon'"),
    (["--market", "live", "--speed", "2"], "A live market runs at its own speed and takes no events"),
    (["--market", "live", "--live-url", "http://192.0.2.1"], "http://192.0.2.1 is not on this machine: use"),
    (["--nothing"], "unrecognized arguments: --nothing"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=lambda value: " ".join(value)[:40])
def test_a_bad_command_line_is_refused_with_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing on stdout, one line on stderr that says what is wrong, exit code 2."""
    try:
        code: object = main(["--port", "0", *arguments])
    except SystemExit as leaving:
        code = leaving.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("python -m sim: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_port_that_is_taken_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A second exchange on the same port says so."""
    with running() as program:
        assert main(["--port", program.url.rpartition(":")[2]]) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_the_help_names_every_option_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    """And leaves with 0."""
    with pytest.raises(SystemExit) as leaving:
        main(["--help"])
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    for option in ("host", "port", "market", "recording", "symbol", "speed", "seed", "api-key", "api-secret"):
        assert f"--{option}" in text


def test_a_market_at_no_speed_is_refused() -> None:
    """The settings are checked where the market is opened, whoever made them."""
    with pytest.raises(MarketError, match="The speed 0 is not above 0"):
        open_market(FeedSettings(speed=Fraction(0)), 0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (FeedSettings(events_per_s=0.0), "0.0 events per second are not above 0"),
        (FeedSettings(events_per_s=float("nan")), "nan events per second are not above 0"),
        (FeedSettings(kind=RECORDING, events_per_s=20.0), "Only a synthetic market has its rate chosen"),
    ],
)
def test_a_rate_that_no_market_can_have_is_refused(settings: FeedSettings, sentence: str) -> None:
    """One sentence each; a recording has the rate that it was recorded with."""
    with pytest.raises(MarketError, match=sentence):
        open_market(settings, 0)


def test_a_recorded_market_is_opened_by_its_settings(tmp_path: Path) -> None:
    """Folder, symbol, speed and loop reach the recording."""
    write_day(tmp_path)
    settings = FeedSettings(kind=RECORDING, recording=tmp_path, speed=Fraction(2), loop=False)
    market = open_market(settings, 1_000)
    times_ms = [market.take().time_ms for _ in range(5)]
    assert (times_ms, market.peek_ms()) == ([1_000, 1_250, 1_250, 1_750, 2_000], None)


def test_faults_of_a_scenario_file_are_in_force(tmp_path: Path) -> None:
    """`--faults FILE` answers as the scenario says, and the summary tells that there is one."""
    scenario = tmp_path / "storm.yaml"
    scenario.write_text("seed: 4\nfaults:\n  - {fault: empty-reply, path: /fapi/v1/time}\n")
    with running("--faults", str(scenario)) as program:
        with urllib.request.urlopen(f"{program.url}/fapi/v1/time", timeout=5) as reply:  # noqa: S310
            assert reply.read() == b""
        assert get(f"{program.url}/fapi/v1/ping") == {}
        assert "1 in the scenario, seed 4" in program.summary


def test_scenario_that_cannot_be_used_ends_the_program_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """File and line are named; exit code 2."""
    scenario = tmp_path / "storm.yaml"
    scenario.write_text("faults:\n  - fault: drop-replies\n")
    with pytest.raises(SystemExit) as ended:
        main(["--faults", str(scenario)])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "storm.yaml line 2: there is no fault 'drop-replies'; the nearest is drop-reply." in err


def test_scenario_that_does_not_fit_the_market_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/faults.md: a fault that this exchange cannot do is named by its line; exit code 2."""
    scenario = tmp_path / "faults.yaml"
    scenario.write_text("faults:\n  - {fault: symbol-rules, tick_size: 0.05}\n")
    assert main(["--faults", str(scenario)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("python -m sim: ")
    assert "faults.yaml line 2: tick_size 0.05 is no multiple of 0.10" in error
