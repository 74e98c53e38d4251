"""What the daemon refuses, and how: the right exit code, one sentence with the remedy, nothing sent."""

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from main import main
from test.process import Daemon, Exchange, Folder, Stage, eventually
from utils import config_loader

REFUSED, FAULT = 2, 1
MVP_DOCUMENT = {
    "initial_capital": 200,
    "leverage": 5,
    "order_config": {"levels": 3, "quantity_per_order_usdt": 10, "price_offset_percent": 0.1},
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A place for the processes of this module."""
    with Stage(tmp_path_factory.mktemp("refusals")) as stage:
        yield stage


@pytest.fixture(scope="module")
def exchange(stage: Stage) -> Exchange:
    """One exchange for all: nobody gets as far as an order."""
    return stage.exchange()


def refusal(daemon: Daemon, code: int) -> str:
    """Return the one sentence on stderr with which the daemon ended; fail if it is anything else."""
    assert daemon.wait(8) == code, daemon.err
    lines = daemon.err.splitlines()
    assert len(lines) == 1, daemon.err
    assert daemon.out == ""
    assert "Traceback" not in lines[0]
    return lines[0]


def with_variables(folder: Folder, **variables: str) -> Folder:
    """Return the folder, with this in its .env instead."""
    (folder.path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    return folder


def test_unknown_symbol_is_refused_with_a_known_one(stage: Stage, exchange: Exchange) -> None:
    """The exchange is asked, and the remedy names a symbol that it has."""
    line = refusal(stage.daemon(stage.folder(exchange, symbol="BTCUSDC")), REFUSED)
    assert "BTCUSDC is not known to the exchange; set symbol in config.yaml, for example to BTCUSDT" in line


def test_numbers_of_the_mvp_document_are_refused_with_the_smallest_that_work(
    stage: Stage, exchange: Exchange
) -> None:
    """10 USDT is below what BTCUSDT takes; the values that the message names pass, and so do start and check agree."""
    folder = stage.folder(exchange, **MVP_DOCUMENT)
    line = refusal(stage.daemon(folder), REFUSED)
    check = stage.daemon(folder, "check")
    assert check.wait(8) == REFUSED
    size, capital = _smallest(line)
    assert (size, capital) == _smallest(check.out)
    assert size >= 50

    folder.write_config(initial_capital=capital, order_config={"quantity_per_order_usdt": size})
    passed = stage.daemon(folder, "check")
    assert passed.wait(8) == 0, passed.out


def _smallest(text: str) -> tuple[int, int]:
    flat = " ".join(text.split())
    size = re.search(r"order_config\.quantity_per_order_usdt to at least (\d+)", flat)
    capital = re.search(r"initial_capital to at least (\d+)", flat)
    assert size is not None, text
    assert capital is not None, text
    return int(size[1]), int(capital[1])


def test_position_limit_below_one_side_is_refused(stage: Stage, exchange: Exchange) -> None:
    """Sizes that work one by one, but not all of a side at once."""
    line = refusal(stage.daemon(stage.folder(exchange, initial_capital=100)), REFUSED)
    assert "set initial_capital to at least 750" in line


def test_environments_with_keys_are_refused_without_them(stage: Stage) -> None:
    """Before anything is sent anywhere."""
    for environment in ("testnet", "live"):
        folder = with_variables(stage.folder(live={"max_capital_usdt": 2000}), EXCHANGE_ENV=environment)
        confirmed = ("--live",) if environment == "live" else ()
        line = refusal(stage.daemon(folder, *confirmed), REFUSED)
        assert f"none for {environment}; put BINANCE_API_KEY and BINANCE_SECRET_KEY into .env" in line


def test_live_is_refused_without_each_confirmation(stage: Stage) -> None:
    """The command line and the capital must say so, too."""
    keys = {"BINANCE_API_KEY": "a" * 64, "BINANCE_SECRET_KEY": "b" * 64}
    folder = with_variables(stage.folder(), EXCHANGE_ENV="live", **keys)
    # one after the other: the second would find the first
    assert "add --live to the command line" in refusal(stage.daemon(folder), REFUSED)
    unpaid = refusal(stage.daemon(folder, "--live"), REFUSED)
    assert "set live.max_capital_usdt in config.yaml to at least initial_capital" in unpaid


@pytest.mark.parametrize("command", ["run", "flatten", "status"])
@pytest.mark.parametrize("environment", ["paper", "testnet"])
def test_live_is_refused_where_nothing_is_real(stage: Stage, command: str, environment: str) -> None:
    """A forgotten --env, or a lost line in the file: on paper it would succeed, with the real position as it was."""
    folder = with_variables(stage.folder(), EXCHANGE_ENV=environment)
    line = refusal(stage.daemon(folder, command, "--live", *(["--yes"] * (command == "flatten"))), REFUSED)
    assert f"EXCHANGE_ENV is {environment} (environment file: {folder.path / '.env'})" in line
    assert "name the file that says so with --env" in line


def test_live_is_refused_without_any_environment_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That there is none is said, because it is what was overlooked."""
    monkeypatch.setattr(config_loader, "PROJECT_ROOT", tmp_path)
    monkeypatch.delenv("EXCHANGE_ENV", raising=False)
    (tmp_path / "config.yaml").write_text("leverage: 2\n")
    assert main(["flatten", "--live", "--yes"]) == REFUSED
    assert "EXCHANGE_ENV is paper (environment file: none)" in capsys.readouterr().err


def test_keys_that_others_could_read_are_refused(stage: Stage) -> None:
    """Before they are used, by every command."""
    keys = {"BINANCE_API_KEY": "a" * 64, "BINANCE_SECRET_KEY": "b" * 64}
    folder = with_variables(stage.folder(), EXCHANGE_ENV="live", **keys)
    file = folder.path / ".env"
    file.chmod(0o644)
    line = refusal(stage.daemon(folder, "check"), REFUSED)
    assert line == (
        f"configuration: {file} holds API keys and is open to other users (mode 644): run `chmod 600 {file}`."
    )


def test_wrong_keys_are_refused(stage: Stage) -> None:
    """An exchange that was started with another key, and one with another secret."""
    others = [
        stage.exchange("--api-key", key, "--api-secret", "another-secret")
        for key in ("another-key", "paper-key")
    ]
    daemons = [stage.daemon(stage.folder(exchange)) for exchange in others]
    for daemon in daemons:
        line = refusal(daemon, REFUSED)
        assert "not accepted by the exchange" in line
        assert "the made-up --api-key and --api-secret that the simulated exchange was started with" in line


def test_keys_of_an_account_never_reach_a_simulated_exchange(stage: Stage) -> None:
    """What they sign would count at the real one, whoever passes it on: paper trading goes by made-up ones."""
    exchange = stage.exchange()
    keys = {"BINANCE_API_KEY": "aB3" + "c" * 61, "BINANCE_SECRET_KEY": "dE4" + "f" * 61}
    folder = with_variables(stage.folder(), PAPER_URL=exchange.url, **keys)
    daemon = stage.daemon(folder, "--duration", "3")
    assert daemon.wait(20) == 0
    assert "the keys that are set look like those of an account" in daemon.out + daemon.err
    assert keys["BINANCE_SECRET_KEY"] not in daemon.out + daemon.err


def test_hedge_mode_is_refused(stage: Stage) -> None:
    """With two positions a symbol, nothing of ours would hold."""
    exchange = stage.exchange()
    assert exchange.ask_signed("POST", "/fapi/v1/positionSide/dual", dualSidePosition="true")["code"] == 200
    line = refusal(stage.daemon(stage.folder(exchange)), REFUSED)
    assert "position mode: hedge mode; switch the account to one-way mode" in line


def test_wallet_too_small_is_refused_alike_by_start_and_check(stage: Stage) -> None:
    """The margin of one side must be there; the table of the check marks it, with the remedy."""
    exchange = stage.exchange("--wallet", "100")
    daemon, check = stage.daemon(stage.folder(exchange)), stage.daemon(stage.folder(exchange), "check")
    assert "margin: wallet 100" in refusal(daemon, REFUSED)
    assert (check.wait(8), check.err) == (REFUSED, "")
    [failed] = [line for line in check.out.splitlines() if line.startswith("FAIL  ")]
    assert "margin" in failed
    assert "remedy: transfer USDT into the futures wallet" in check.out


def test_exchange_that_nobody_runs_is_a_fault_with_a_remedy(stage: Stage) -> None:
    """Nothing in the configuration is wrong: exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        line = refusal(stage.daemon(with_variables(stage.folder(), PAPER_URL=url)), FAULT)
    assert f"PAPER_URL={url} cannot be reached" in line
    assert "start it with `python -m sim`" in line


def test_configuration_that_is_wrong_is_refused(stage: Stage) -> None:
    """The sentence names the file, and the key or the line."""
    wrong = {
        "symbol: [BTC": "line 1 is not valid YAML",
        "order_config:\n  levls: 3\n": "unknown key order_config.levls; the nearest known key is",
        "leverage: 126\n": "leverage",
        "initial_capital: nan\n": "initial_capital",
        "refresh_config: 5\n": "refresh_config",
    }
    folders = [stage.folder() for _ in wrong]
    for folder, text in zip(folders, wrong, strict=True):
        (folder.path / "config.yaml").write_text(text)
    daemons = [stage.daemon(folder) for folder in folders]
    for daemon, said in zip(daemons, wrong.values(), strict=True):
        line = refusal(daemon, REFUSED)
        assert line.startswith(f"configuration: {daemon.folder.path / 'config.yaml'}")
        assert said in line


def test_configuration_that_is_missing_is_refused(stage: Stage) -> None:
    """A file that was named has to be there."""
    folder = stage.folder()
    (folder.path / "config.yaml").unlink()
    assert str(folder.path / "config.yaml") in refusal(stage.daemon(folder), REFUSED)


def test_paper_url_elsewhere_is_refused(stage: Stage) -> None:
    """Paper trading talks to this machine only."""
    folder = with_variables(stage.folder(), PAPER_URL="http://192.0.2.1:8000")
    assert "PAPER_URL" in refusal(stage.daemon(folder), REFUSED)


def test_recording_that_is_missing_is_refused_alike_by_start_and_check(stage: Stage) -> None:
    """The embedded market cannot be opened, and the folder that is to blame is named."""
    folder = stage.folder(paper={"market": "recording", "recording": str(stage.path / "nowhere")})
    daemon, check = stage.daemon(folder), stage.daemon(folder, "check")
    assert f"paper market: There is no folder {stage.path / 'nowhere'}" in refusal(daemon, REFUSED)
    assert (check.wait(8), check.err) == (REFUSED, "")
    assert check.out.startswith(f"FAIL  paper market: There is no folder {stage.path / 'nowhere'}")


def test_command_line_that_is_wrong_is_refused(stage: Stage) -> None:
    """Usage and one line, as command lines do; real money is confirmed in full or not at all."""
    for daemon in [
        stage.daemon(stage.folder(), *arguments)
        for arguments in (("--duration", "soon"), ("--duration", "-1"), ("--liv",), ("fly",))
    ]:
        assert daemon.wait(8) == REFUSED
        assert daemon.err.startswith("usage: main.py")
        assert daemon.err.splitlines()[-1].startswith("main.py: error: ")
        assert "Traceback" not in daemon.err


def test_check_passes_on_the_shipped_configuration_and_places_nothing(stage: Stage) -> None:
    """A table with a line for each question, all passed, on an exchange that then has no trace of orders."""
    exchange = stage.exchange()
    daemon = stage.daemon(stage.folder(exchange), "check")
    assert (daemon.wait(8), daemon.err) == (0, "")
    lines = daemon.out.splitlines()
    assert all(line.startswith("pass  ") for line in lines)
    names = {line[6:].split("  ")[0] for line in lines}
    assert names >= {"exchange", "symbol", "order size", "price band", "position limit", "number of orders"}
    assert names >= {"trading", "position mode", "asset mode", "margin", "leverage", "API keys"}
    record = exchange.record()
    assert record["orders"] == []
    changing = {name for name in record["requests"] if not name.startswith("GET ")}
    assert changing == {"POST /fapi/v1/order/test"}  # which places nothing


def test_check_tells_what_a_start_waits_for_from_what_it_refuses(stage: Stage) -> None:
    """A halted symbol is a fault of nobody; with a mistake beside it, it is the mistake that counts."""
    exchange = stage.exchange()
    exchange.ask("POST", "/sim/fault?fault=halt&status=SETTLING&for_s=60")
    folders = [stage.folder(exchange), stage.folder(exchange)]
    halted = stage.daemon(folders[0], "check")
    assert (halted.wait(8), halted.err) == (FAULT, "")
    assert "WAIT  symbol" in halted.out
    assert "BTCUSDT is SETTLING" in halted.out
    assert "remedy: wait until it trades, as a start does by itself" in halted.out
    assert "FAIL" not in halted.out
    assert exchange.ask_signed("POST", "/fapi/v1/positionSide/dual", dualSidePosition="true")["code"] == 200
    both = stage.daemon(folders[1], "check")
    assert both.wait(8) == REFUSED
    assert ("WAIT  symbol" in both.out, "FAIL  position mode" in both.out) == (True, True)


def test_check_can_be_broken_off(stage: Stage) -> None:
    """Ctrl-C during a check of an exchange that does not answer ends it at once."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        folder = with_variables(stage.folder(), PAPER_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        daemon = stage.daemon(folder, "check")
        silent.settimeout(5)
        connection, _ = silent.accept()
        with connection:
            assert daemon.end(signal.SIGINT, within_s=2) == FAULT
    assert daemon.out == "FAIL  the checks were broken off\n"
    assert daemon.err == ""


def test_log_folder_that_cannot_be_made_costs_the_logs_and_not_the_run(
    stage: Stage, exchange: Exchange
) -> None:
    """It says so; quotes go out all the same."""
    blocked = stage.path / "file"
    blocked.write_text("in the way")
    folder = stage.folder(exchange, logging={"log_directory": str(blocked / "logs")})
    daemon = stage.quoting(exchange, folder)
    eventually(lambda: "metrics are not being written" in daemon.err, 4, "it said nothing")
    assert daemon.end() == 0
    assert "no log file" in daemon.err
    assert "Traceback" not in daemon.err


def test_help_explains_every_command(stage: Stage, tmp_path: Path) -> None:
    """And what each option does, from anywhere."""
    daemon = stage.daemon(stage.folder(), "--help", cwd=tmp_path)
    assert (daemon.wait(30), daemon.err) == (0, "")
    assert all(word in daemon.out for word in ("check", "resume", "--duration", "--live", "--config"))
