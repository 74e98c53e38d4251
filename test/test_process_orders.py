"""``python main.py orders``: what became of every order while the daemon runs, after its stop, after its murder."""

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from test.process import START_WITHIN_S, Exchange, Folder, Stage, eventually

pytestmark = pytest.mark.no_cover

QUICK = {"refresh_config": {"orderbook_refresh_interval": 1, "refresh_mode": "replace"}}


def audited(stage: Stage, folder: Folder, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code of an audit, and what it found."""
    process = stage.daemon(folder, "orders", "--audit", "--json", *arguments)
    code = process.wait(20)
    assert process.err == ""
    found: dict[str, Any] = json.loads(process.out)
    return code, found


def noted(state: Path) -> str:
    """All that the journals hold."""
    return "".join(path.read_text(encoding="utf-8") for path in state.glob("orders-*.jsonl"))


def ours(exchange: Exchange) -> dict[str, str]:
    """Our orders as the exchange's own record has them, with their status there."""
    orders = exchange.record()["orders"]
    return {one["clientOrderId"]: one["status"] for one in orders if one["clientOrderId"].startswith("qpmm-")}


def standing(found: dict[str, Any]) -> dict[str, str]:
    """Each client id once, with what became of it."""
    states = {order["client_id"]: order["state"] for order in found["orders"]}
    assert len(states) == len(found["orders"])
    return states


def test_audit_accounts_for_every_order_while_the_daemon_runs_and_after_its_stop(tmp_path: Path) -> None:
    """Open ones are said to be open; in the end each has the one final state that the exchange has, the order that
    closed the position included."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange, **QUICK)
        daemon = stage.quoting(exchange, folder)
        code, found = audited(stage, folder)
        assert (code, found["problems"]) == (0, [])
        assert (found["running"], found["compared"], found["accounted"]) == (True, True, True)
        assert "open" in {order["standing"] for order in found["orders"]}

        exchange.fill("BUY", "0.05")
        eventually(lambda: "the position is closed" in daemon.err, 5, "the position was not closed")
        assert daemon.end(signal.SIGTERM) == 4
        code, found = audited(stage, folder)
        assert (code, found["problems"], found["running"]) == (0, [], False)
        truth = {name: status.replace("CANCELED", "CANCELLED") for name, status in ours(exchange).items()}
        states = standing(found)
        assert {name: states[name] for name in truth} == truth
        assert {states[name] for name in states.keys() - truth.keys()} <= {"REJECTED"}
        assert "FILLED" in truth.values()

        shown = stage.daemon(folder, "orders", "--audit")
        assert shown.wait(20) == 0
        *lines, summary = shown.out.splitlines()
        assert len(lines) == len(states)
        assert summary.endswith("every order is accounted for")


def test_audit_of_a_murdered_daemon_takes_the_exchange_at_its_word(tmp_path: Path) -> None:
    """What rests without a daemon is a problem; once the next run has cleared up, there is none."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange, **QUICK)
        daemon = stage.quoting(exchange, folder)
        journal = folder.path / "state"
        eventually(lambda: all(name in noted(journal) for name in ours(exchange)), 5, "nothing was noted")
        daemon.kill()
        resting = exchange.open_orders()
        code, found = audited(stage, folder)
        assert resting
        assert (code, found["running"], found["accounted"]) == (1, False, False)
        assert [text.split(": ", 1)[1] for text in found["problems"]].count(
            "it rests at the exchange, and no daemon runs"
        ) >= len(resting) - 1

        assert stage.quoting(exchange, folder).end(signal.SIGTERM) == 0
        code, found = audited(stage, folder)
        assert (code, found["problems"]) == (0, [])
        assert standing(found).keys() >= ours(exchange).keys()


def test_audit_says_in_a_sentence_that_the_exchange_is_away(tmp_path: Path) -> None:
    """Then the journal speaks alone, what it does not know the end of is a problem, and nothing was verified."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange, **QUICK)
        assert stage.quoting(exchange, folder).end(signal.SIGTERM) == 0
        exchange.end(signal.SIGTERM)
        code, found = audited(stage, folder)
        assert (code, found["compared"], found["problems"]) == (3, False, [])
        assert found["note"].startswith("the exchange could not be asked: ")


def test_audit_that_gets_no_list_of_orders_is_not_verified(tmp_path: Path) -> None:
    """Whatever else the exchange answers; without an audit nobody asks it, and the command has done its work."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange, **QUICK)
        assert stage.quoting(exchange, folder).end(signal.SIGTERM) == 0
        exchange.ask("POST", "/sim/fault?fault=error&path=/fapi/v1/allOrders&code=-1000&status=503&for_s=60")
        code, found = audited(stage, folder)
        assert (code, found["compared"], found["problems"]) == (3, False, [])
        assert "allOrders: HTTP 503" in found["note"]
        assert stage.daemon(folder, "orders").wait(20) == 0


def test_orders_of_the_embedded_exchange_are_told_by_the_journal_alone(tmp_path: Path) -> None:
    """Open while the daemon runs; ended, each of them, after its stop, though its exchange has ended with it."""
    with Stage(tmp_path) as stage:
        folder = stage.folder(**QUICK)
        daemon = stage.daemon(folder)
        eventually(lambda: "first quote rests" in daemon.err, 10, "no quote ever rested")
        code, found = audited(stage, folder)
        assert (code, found["running"], found["compared"], found["problems"]) == (0, True, False, [])
        assert daemon.end(signal.SIGTERM) == 0
        code, found = audited(stage, folder)
        assert (code, found["running"], found["problems"]) == (0, False, [])
        assert found["note"] == "the embedded exchange ends with its daemon"
        assert {order["standing"] for order in found["orders"]} == {"ended"}
        assert len(found["orders"]) >= 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_audit_that_waits_for_the_exchange_can_be_broken_off(tmp_path: Path, number: signal.Signals) -> None:
    """At once, with one line and the code of an audit that could not be made."""
    with Stage(tmp_path) as stage, socket.create_server(("127.0.0.1", 0)) as silent:
        folder = stage.folder()
        (folder.path / ".env").write_text(f"PAPER_URL=http://127.0.0.1:{silent.getsockname()[1]}\n")
        audit = stage.daemon(folder, "orders", "--audit", "--json")
        silent.settimeout(START_WITHIN_S)
        connection, _ = silent.accept()
        with connection:
            assert audit.end(number, within_s=5) == 3
        assert (audit.out, audit.err) == ("", "orders: broken off\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_orders_can_be_broken_off_while_a_journal_is_read(tmp_path: Path, number: signal.Signals) -> None:
    """There may be millions of lines, and no turn of the event loop before the last one."""
    with Stage(tmp_path) as stage:
        folder = stage.folder()
        folder.state.mkdir()
        journal = folder.state / "orders-paper-embedded-20260101.jsonl"
        os.mkfifo(journal)
        reading = stage.daemon(folder, "orders")
        with journal.open("wb"):  # returns once the other side reads, which then waits for the first line
            time.sleep(0.2)
            assert reading.end(number, within_s=5) == 1
        assert (reading.out, reading.err) == ("", "orders: broken off\n")


def test_orders_of_a_daemon_that_never_ran_are_none(tmp_path: Path) -> None:
    """And the flags belong to this command only."""
    with Stage(tmp_path) as stage:
        folder = stage.folder()
        shown = stage.daemon(folder, "orders")
        assert (shown.wait(30), shown.err) == (0, "")
        assert (
            shown.out
            == "paper-embedded: 0 orders by the journal alone (as asked): none; every order is accounted for\n"
        )
        refused = stage.daemon(folder, "check", "--json")
        assert refused.wait(30) == 2
        assert "--json belongs to the commands orders and status" in refused.err
