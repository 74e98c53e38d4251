"""What the status tells of a running daemon, before anybody prints it."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.engine import Engine
from core.status import status_line
from core.status_board import PACKAGES, StatusBoard, as_text, build_of
from test.daemon import World, in_a_world
from utils.config_loader import PROJECT_ROOT, Secret
from utils.redaction import redactor

CANARY = "canaryK7f3a9c2Lq8Zt5Vb1Nx4"


def test_reason_that_repeats_a_secret_is_masked_before_any_client_reads_it(tmp_path: Path) -> None:
    """A client of the socket reads the words as they are; nobody masks them on the way."""
    redactor.learn(Secret(CANARY))

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        board = StatusBoard(world.settings(), "paper-test", world.clock, "build")
        board.follow(world.engine)
        [context] = world.engine.contexts
        context.gate.close("words of others", f"the exchange says: {CANARY} is no key of mine")
        told = json.dumps(board.snapshot())
        assert "the exchange says: " in told
        assert CANARY not in told
        context.gate.open("words of others")
        await world.end()

    try:
        in_a_world(tmp_path, story)
    finally:
        redactor.forget()


def test_position_is_unknown_and_not_zero_until_the_books_are_open(tmp_path: Path) -> None:
    """A run that finishes a close never opens them; a person reads what the exchange has said, or that nobody knows."""

    async def story(world: World) -> None:
        board = StatusBoard(world.settings(), "paper-test", world.clock, "build")
        told: list[tuple[Any, str]] = []

        def look(engine: Engine) -> None:
            board.follow(engine)
            line = status_line(engine.contexts[0], Decimal(0), world.clock.monotonic_ns())
            told.append((board.snapshot(), line))

        world.start(watch=look)
        await world.until_quoting()
        await world.end()
        [(status, line)] = told
        assert status["symbols"]["BTCUSDT"]["position"] == {"ours": None, "exchange": None, "asset": "BTC"}
        assert "  position unknown BTC (exchange: unknown), 0 fills" in as_text(status)
        assert " | position unknown | " in line

    in_a_world(tmp_path, story)


def test_build_is_named_by_all_sources_of_the_program(tmp_path: Path) -> None:
    """Another line in any of its packages makes it another build."""
    assert build_of(PROJECT_ROOT) == build_of(PROJECT_ROOT)
    builds = set()
    for name in ("", *PACKAGES):
        (tmp_path / "main.py").write_text("")
        for package in PACKAGES:
            (tmp_path / package).mkdir(exist_ok=True)
            (tmp_path / package / "a.py").write_text("changed" if package == name else "")
        builds.add(build_of(tmp_path))
    assert len(builds) == 1 + len(PACKAGES)
