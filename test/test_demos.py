"""The demos, started as their users start them, from a folder that is not the project's."""

import ast
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from demo import compare, market_fetch, market_stream, order_management
from test.process import ROOT, Exchange, Process, Stage, eventually

pytestmark = pytest.mark.no_cover

DEMO = ROOT / "demo"
SCRIPTS = ("order_management", "market_fetch", "market_stream", "compare")
ENDS_WITHIN_S = 30.0
"""Beyond what a demo was told to last; generous, because machines that test are shared."""


class Demo(Process):
    """A demo that runs, or has run."""

    def __init__(self, folder: Path, script: str, *arguments: str) -> None:
        name = "-".join([script, *arguments]).replace("/", "_")[:80]
        super().__init__([str(DEMO / f"{script}.py"), *arguments], folder, name, cwd=folder)

    def ended(self) -> "Demo":
        """Return it once it has ended by itself, with 0 and without a complaint."""
        try:
            assert self.wait(ENDS_WITHIN_S) == 0, self.err
        finally:
            self.kill()
        assert self.err == ""
        return self

    def number(self, pattern: str) -> float:
        """Return the number that the pattern finds last in what was printed."""
        found = re.findall(pattern, self.out)
        assert found, f"no {pattern!r} in\n{self.out[-3000:]}"
        return float(found[-1])


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    """A simulated exchange whose market is lively."""
    with Stage(tmp_path_factory.mktemp("demos")) as stage:
        yield stage.exchange("--speed", "5")


# --- the order desk ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The order desk, after twelve seconds with a reset every five."""
    folder = tmp_path_factory.mktemp("desk")
    return Demo(folder, "order_management", "--duration", "12", "--reset-interval", "5").ended()


def test_desk_shows_every_state_on_an_orders_way(desk: Demo) -> None:
    """Placed, amended, cancelled: each with the states before and after."""
    for flow in (
        "PENDING_NEW -> ACTIVE",
        "ACTIVE -> PENDING_MODIFY",
        "PENDING_MODIFY -> ACTIVE",
        "ACTIVE -> PENDING_CANCEL",
        "PENDING_CANCEL -> CANCELLED",
    ):
        assert flow in desk.out, flow


def test_desk_amends_orders_with_a_reason_and_counts_what_that_saves(desk: Demo) -> None:
    """A moving market, and fewer requests than cancelling and placing again would have taken."""
    assert re.search(r"amend (buy|sell) \d [\d.]+ -> [\d.]+ .* \d+\.\d\d bps away", desk.out)
    assert desk.number(r"(?m)^orders +placed \d+, amended (\d+)") > 0
    amendments = desk.number(r"(?m)^saved +(\d+) amendments")
    took = desk.number(r"(?m)^saved .* took (\d+)")
    instead = desk.number(r"(?m)^saved .* replace (\d+):")
    assert 0 < took < amendments
    assert instead == took + amendments
    assert desk.number(r"(?m)^saved .*: (\d+) % saved") == round(100 * (1 - took / instead))


def test_desk_counts_down_to_the_reset_and_resets(desk: Demo) -> None:
    """The countdown falls second by second, everything is taken out, and comes back."""
    seconds = [int(text) for text in re.findall(r"next reset in (\d+) s", desk.out)]
    assert max(seconds) <= 5
    assert any(later < sooner for sooner, later in pairwise(seconds))
    assert desk.number(r"(?m)^orders .*resets (\d+)") >= 1
    story = desk.out[desk.out.index("reset started") :]
    assert story.index("-> CANCELLED") < story.index("reset done") < story.index("PENDING_NEW -> ACTIVE")


def test_desk_leaves_no_order_and_no_file(desk: Demo) -> None:
    """It is the daemon's own end: verified; and the folder holds nothing but what the test put there."""
    assert "no order of ours rests: verified" in desk.out
    assert {path.suffix for path in desk_files(desk)} == {".stdout", ".stderr"}


def desk_files(desk: Demo) -> list[Path]:
    """Return what is in the folder in which the demo was started."""
    return list(desk._out.parent.iterdir())


def test_desk_follows_a_recording(data_dir: Path, tmp_path: Path) -> None:
    """The real market of a day, faster than it was."""
    recording = str(data_dir / "usdm-2024-07-18")
    desk = Demo(tmp_path, "order_management", "--duration", "60", "--recording", recording, "--speed", "10")
    try:
        eventually(lambda: "PENDING_MODIFY -> ACTIVE" in desk.out, 30, "no order was amended")
        assert desk.end(signal.SIGINT, 15) == 0
    finally:
        desk.kill()
    assert desk.number(r"(?m)^orders +placed \d+, amended (\d+)") > 0


def test_desk_draws_a_table_on_a_terminal(tmp_path: Path) -> None:
    """With panes for orders, state flow and log; the result stays behind on the terminal."""
    shown = on_a_terminal("order_management.py", "--duration", "3")
    for text in ("client id", "last decision", "state flow", "log", "next reset", "ACTIVE"):
        assert text in shown, text
    assert re.search(r"orders    placed \d+, amended \d+", shown[shown.rindex("\x1b[?1049l") :])


def on_a_terminal(script: str, *arguments: str) -> str:
    """Return what a demo writes to a terminal; it has to end with 0."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(DEMO / script), *arguments]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "45"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as demo:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        os.close(ours)
        assert demo.wait(ENDS_WITHIN_S) == 0
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other side is closed
        return b""


def test_desk_can_reach_no_exchange_but_the_embedded_one() -> None:
    """The only demo that orders knows of no origin but that of a simulated exchange."""
    for name in ("order_management", "_paper", "_desk", "_desk_view"):
        tree = ast.parse((DEMO / f"{name}.py").read_text("utf-8"))
        venues = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "utils.venue"
            for alias in node.names
        }
        assert venues <= {"paper_venue"}, name


# --- polling, streaming, and both -------------------------------------------------------------------------------


def test_polling_measures_its_delay_and_the_limit(exchange: Exchange, tmp_path: Path) -> None:
    """Ticker, book and trades come; their age is a number, and the weight is what the exchange counts."""
    demo = Demo(tmp_path, "market_fetch", "--url", exchange.url, "--duration", "6").ended()
    for kind in ("ticker", "book", "trades"):
        assert re.search(rf"(?m)^[\d:.]+  {kind} ", demo.out), kind
    assert demo.number(r"book delay +p50 (\d+) ms") >= 0
    assert demo.number(r"trade delay +p50 (\d+) ms") > 0
    assert demo.number(r"data age +mean (\d+) ms") > 0
    weights = {
        kind: demo.number(rf"(?m)^{kind} .* of weight (\d+),") for kind in ("ticker", "book", "trades")
    }
    assert weights == {"ticker": 1, "book": 2, "trades": 20}
    assert demo.number(r"used \d+ of (\d+) weight") == 2400
    assert demo.number(r"at most one each (\d+) ms") == 575


def test_streams_are_analysed(exchange: Exchange, tmp_path: Path) -> None:
    """Volatility, flow, price change, significant trades and delays are printed as they are known."""
    demo = Demo(tmp_path, "market_stream", "--url", exchange.url, "--duration", "5").ended()
    assert demo.number(r"volatility +([\d.]+) bps in a minute") > 0
    assert -1 <= demo.number(r"flow +([+-][\d.]+) in") <= 1
    assert demo.number(r"change ([\d.]+) bps in 60 s") > 0
    assert re.search(
        r"(?m)^[\d:.]+  (buy |sell) [\d.]+ @ [\d.]+  = [\d,]+ USDT  \((size|interval)\)$", demo.out
    )
    assert demo.number(r"quote delay +p50 (\d+) ms") >= 0
    assert 0 < demo.number(r"significant +(\d+) of") < demo.number(r"significant +\d+ of (\d+) trades")


@pytest.mark.parametrize("more", [(), ("--spot",)])
def test_streams_are_shown_as_they_come(exchange: Exchange, tmp_path: Path, more: tuple[str, ...]) -> None:
    """--basic prints quotes and trades; with --spot the trades are those of the `trade` stream."""
    demo = Demo(tmp_path, "market_stream", "--basic", *more, "--url", exchange.url, "--duration", "4").ended()
    assert re.search(r"(?m)^[\d:.]+  quote  [\d.]+ @ [\d.]+  \|  [\d.]+ @ [\d.]+$", demo.out)
    assert re.search(r"(?m)^[\d:.]+  trade  (buy |sell) [\d.]+ @ [\d.]+  -?\d+ ms late$", demo.out)


@pytest.mark.parametrize("script", ["market_fetch", "market_stream"])
def test_feed_brings_its_own_exchange(tmp_path: Path, script: str) -> None:
    """Without --url the exchange is embedded: no network and no keys are needed."""
    demo = Demo(tmp_path, script, "--duration", "3", "--json").ended()
    final = json.loads(demo.out.splitlines()[-1])
    assert final["final"] is True
    assert final["quotes"] > 0
    assert final["age_mean_ms"] > 0


@pytest.mark.slow
def test_comparison_ends_with_a_table(exchange: Exchange, tmp_path: Path) -> None:
    """Streaming knows the market sooner, with no request, and more of it."""
    demo = Demo(tmp_path, "compare", "--url", exchange.url, "--duration", "5").ended()
    rows = dict(re.findall(r"│ ([\w ,]+?) +│ +([^│]+ +│ +[^│]+) │", demo.out))
    assert {"data age, mean", "trade delay, p50", "requests", "cpu", "cpu a book change"} <= set(rows)
    values = {name: [float(text.split()[0]) for text in row.split("│")] for name, row in rows.items()}
    polling, streaming = values["data age, mean"]
    assert polling > streaming > 0
    polling, streaming = values["requests"]
    assert polling > 0 == streaming
    polling, streaming = values["book changes seen"]
    assert streaming > polling > 0
    assert all(value > 0 for value in values["cpu"])


# --- ends, refusals, words --------------------------------------------------------------------------------------


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[list[Demo]]:
    """One of each, all running; none is left behind."""
    started = [Demo(tmp_path, script, "--duration", f"600.{os.getpid()}") for script in SCRIPTS]
    yield started
    for demo in started:
        demo.kill()


def test_ctrl_c_during_the_start_ends_a_demo_on_the_spot(demos: list[Demo]) -> None:
    """While it is still being imported there is nothing to be ended well: exit code 0 and no complaint."""
    for demo in demos:
        eventually(partial(demo.catches, signal.SIGTERM), 20)  # SIGINT is Python's own before that
        demo.send(signal.SIGINT)
    assert [demo.wait(10) for demo in demos] == [0, 0, 0, 0]
    assert [demo.err for demo in demos] == [""] * 4


@pytest.mark.slow
def test_ctrl_c_at_work_ends_a_demo_well(demos: list[Demo]) -> None:
    """Exit code 0, the result is told, and no process is left behind."""
    for demo in demos:
        eventually(lambda demo=demo: demo.out.count("status") > 2, 60, f"{demo.name} never got to work")
        demo.send(signal.SIGINT)
    assert [demo.wait(20) for demo in demos] == [0, 0, 0, 0]
    assert [demo.err for demo in demos] == [""] * 4
    for demo, last in zip(demos, ("saved ", "rate limit ", "messages ", "└"), strict=True):
        assert demo.out.splitlines()[-1].startswith(last), demo.out[-500:]
    assert processes_with(f"600.{os.getpid()}") == []


def processes_with(text: str) -> list[str]:
    """Return the command lines of running processes that hold the text."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:  # it has ended meanwhile
            continue
    return [line for line in lines if text in line]


@pytest.mark.parametrize("script", SCRIPTS)
def test_missing_package_is_named_with_its_remedy(tmp_path: Path, script: str) -> None:
    """Without the packages, which -S hides, there is one sentence and no traceback."""
    result = subprocess.run(
        [sys.executable, "-S", str(DEMO / f"{script}.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "rich" in result.stderr
    assert ("ccxt" in result.stderr) is (script in ("market_fetch", "compare"))
    assert "`make demo`" in result.stderr
    assert "`pip install -r requirements-demo.txt`" in result.stderr


@pytest.mark.parametrize(
    ("demo", "arguments", "complaint"),
    [
        (order_management, "--duration 0", "not a number above 0"),
        (order_management, "--duration soon", "not a number above 0"),
        (order_management, "--levels 99", "from 1 to 50"),
        (order_management, "--market recording", "add --recording DIR"),
        (order_management, "--speed fast", "0.01 to 10000"),
        (order_management, "--live --speed 2", "leave --market"),
        (market_fetch, "--what weather", "ticker, book, trades"),
        (market_fetch, "--interval -1", "0 s or more"),
        (market_stream, "--live --url http://127.0.0.1:1", "leave --market"),
        (compare, "--live --market synthetic", "leave --market"),
        (compare, "--url http://127.0.0.1:1 --speed 2", "has its market already"),
        (compare, "--interval soon", "invalid float value"),
    ],
)
def test_bad_command_line_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], demo: ModuleType, arguments: str, complaint: str
) -> None:
    """Exit code 2, what is wrong, and nothing else."""
    try:
        code = demo.main(arguments.split())
    except SystemExit as end:
        code = end.code
    told = capsys.readouterr()
    assert code == 2
    assert complaint in told.err
    assert (told.err.count("\n"), told.out) == (1, "")


@pytest.mark.parametrize(
    ("demo", "arguments", "complaint"),
    [
        (market_fetch, "--url http://127.0.0.1:9", "start `python -m sim`"),
        (market_stream, "--url http://127.0.0.1:9", "start `python -m sim`"),
        (compare, "--url http://127.0.0.1:9", "start `python -m sim`"),
        (market_stream, "--symbol NOPEUSDT", "does not know NOPEUSDT"),
        (order_management, "--recording no-such-folder", "no-such-folder"),
    ],
)
def test_market_that_cannot_be_had_is_one_sentence(
    capsys: pytest.CaptureFixture[str], demo: ModuleType, arguments: str, complaint: str
) -> None:
    """Exit code 1, and what to do about it."""
    assert demo.main(["--duration", "20", *arguments.split()]) == 1
    told = capsys.readouterr()
    assert complaint in told.err
    assert told.err.count("\n") == 1


def test_reader_that_goes_away_ends_a_demo(tmp_path: Path) -> None:
    """`| head -3` is an end like any other."""
    command = f"'{sys.executable}' '{DEMO}/market_stream.py' --basic --duration 600 | head -3"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 3


def test_every_demo_and_option_is_documented() -> None:
    """docs/demos.md has each command with its options, and the README leads there."""
    words = (ROOT / "docs" / "demos.md").read_text("utf-8")
    assert "docs/demos.md" in (ROOT / "README.md").read_text("utf-8")
    assert {path.stem for path in DEMO.glob("[a-z]*.py")} == set(SCRIPTS)
    for script in SCRIPTS:
        assert f"python demo/{script}.py" in words
        shown = subprocess.run(
            [sys.executable, str(DEMO / f"{script}.py"), "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in set(re.findall(r"--[a-z-]+", shown)) - {"--help"}:
            assert f"`{option}" in words, option
