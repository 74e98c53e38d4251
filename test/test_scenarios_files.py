"""The scenarios that come with the exchange: the daemon lives through each, quotes again and knows what it has."""

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from core.exit_code import ExitCode
from sim.fault_file import load_script
from sim.fault_rules import Acts

from .daemon import MODES, World, in_a_world

FOLDER = Path(__file__).resolve().parents[1] / "sim" / "scenarios"
LENGTH_S = {
    "crossed-events": 75,
    "flaky-reads": 95,
    "halt": 45,
    "rate-limited": 125,
    "silent-streams": 135,
    "stormy-night": 125,
    "unknown-outcomes": 65,
}


def test_every_scenario_file_is_played() -> None:
    """A file that nobody runs is a file that does not work."""
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(LENGTH_S)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", sorted(LENGTH_S))
def test_daemon_quotes_again_with_equal_books_after_the_scenario(
    tmp_path: Path, name: str, mode: str
) -> None:
    """Never more than its six quotes at a time; within 60 s after the last fault six rest, and books are equal."""
    script = load_script(FOLDER / f"{name}.yaml")

    async def story(world: World) -> None:
        world.start(
            refresh_config={"refresh_mode": mode},
            order_management={"modify_threshold": 0, "patience_bps_s": 0},
        )
        for _ in range(LENGTH_S[name] * 10):
            await asyncio.sleep(0.1)
            assert len(world.ours()) <= 6
            assert world.running is not None
            assert not world.running.done(), world.running.result()
        await world.until_quoting(60)
        await asyncio.sleep(5)
        await world.until_quoting(10)
        assert world.state.position == world.position()
        await world.until(lambda: world.disagreements() == [], 10, "equal books of orders")
        assert await world.end(10) is ExitCode.STOPPED
        assert world.ours() == []
        counted = world.exchange.faults.counts
        missed = Counter(rule.kind.name for rule in script.rules if not counted[rule.kind.name])
        assert missed == Counter()

    in_a_world(tmp_path, story, faults=script)


@pytest.mark.parametrize("name", sorted(LENGTH_S))
def test_scenario_says_what_it_is_for_and_ends(name: str) -> None:
    """Each file begins with a comment, and no fault on messages lasts beyond the length that the tests give it."""
    assert (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")
    for rule in load_script(FOLDER / f"{name}.yaml").rules:
        assert rule.from_ms < LENGTH_S[name] * 1000
        if Acts.TIME not in rule.kind.acts and rule.times is None:
            assert rule.until_ms is not None, rule.where
            assert Decimal(rule.until_ms) / 1000 <= LENGTH_S[name], rule.where
