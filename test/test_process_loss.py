"""The loss limit of a day as its operator meets it: processes, exit codes, and what `resume` prints."""

import signal
from decimal import Decimal
from pathlib import Path

import pytest

from .process import Exchange, Stage, eventually

pytestmark = pytest.mark.no_cover


def lose(exchange: Exchange, at_least: str) -> None:
    """Trade there and back on the account, until fees have cost that much."""
    while Decimal(exchange.record()["feesTotal"]) < Decimal(at_least):
        exchange.fill("BUY", "0.02")
        exchange.fill("SELL", "0.02")


def test_loss_halts_and_only_accepting_it_or_a_new_day_lets_the_daemon_quote_again(tmp_path: Path) -> None:
    """Halted with 4; cleared but not accepted it halts again without a quote; accepted, it quotes."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange, risk={"max_daily_loss": 5, "max_price_change": 0})
        daemon = stage.quoting(exchange, folder)
        lose(exchange, "6")
        eventually(lambda: "the position is closed" in daemon.err, 8, "it did not halt")
        assert "RISK: today's result is -" in daemon.err
        assert daemon.end(signal.SIGTERM) == 4
        orders = len(exchange.record()["orders"])

        resume = stage.daemon(folder, "resume")
        assert resume.wait(30) == 0
        assert "BTCUSDT: halt cleared (today's result is -" in resume.out
        assert "BTCUSDT: today's loss limit still stands: -" in resume.out
        assert "`python main.py resume --accept-loss`" in resume.out
        daemon = stage.daemon(folder)
        eventually(lambda: "RISK: today's result is -" in daemon.err, 10, "it did not halt again")
        assert daemon.end(signal.SIGTERM) == 4
        assert len(exchange.record()["orders"]) == orders

        resume = stage.daemon(folder, "resume", "--accept-loss")
        assert resume.wait(30) == 0
        assert "is accepted; the count of the loss limit begins anew" in resume.out
        assert "is accepted; the count of the loss limit begins anew" in folder.log
        assert stage.quoting(exchange, folder).end(signal.SIGTERM) == 0


def test_accepting_a_loss_belongs_to_resume(tmp_path: Path) -> None:
    """With any other command it is a bad command line."""
    with Stage(tmp_path) as stage:
        daemon = stage.daemon(stage.folder(), "check", "--accept-loss")
        assert daemon.wait(30) == 2
        assert "--accept-loss belongs to the command resume" in daemon.err
