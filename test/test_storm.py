"""A handful of storms with fixed seeds; ``python -m test.storm`` makes as many as one has time for."""

import pytest

from test.daemon import MODES
from test.storm import Outcome, main, storm

pytestmark = pytest.mark.no_cover

SECONDS = 60.0


@pytest.mark.usefixtures("_each_order_transport")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", [3, 4, 10, 59])
def test_daemon_lives_through_a_storm(seed: int, mode: str) -> None:
    """Never more than it may quote, back by itself, its books right, and nothing left at the end."""
    _assert_went_well(storm(seed, mode=mode, seconds=SECONDS))


@pytest.mark.parametrize("seed", [2, 7])
def test_daemon_lives_through_a_storm_in_which_readings_and_events_lag(seed: int) -> None:
    """The same, with an exchange whose copies are seconds behind."""
    _assert_went_well(storm(seed, lag=True, seconds=SECONDS))


def _assert_went_well(outcome: Outcome) -> None:
    assert outcome.violations == [], "\n".join(outcome.log)
    assert outcome.requests > 50
    assert outcome.quoted_s > 0
    assert outcome.halted or outcome.recovered_s is not None


def test_seed_always_makes_the_same_storm() -> None:
    """What failed once can be looked at again."""
    first, second = (storm(5, seconds=15) for _ in range(2))
    assert first.log == second.log
    assert (first.requests, first.quoted_s, first.recovered_s) == (
        second.requests,
        second.quoted_s,
        second.recovered_s,
    )


def test_table_names_each_seed_and_the_exit_code_tells(capsys: pytest.CaptureFixture[str]) -> None:
    """A line each, and a last one with those that failed."""
    assert main(["1", "2", "--seconds", "5"]) == 0
    header, line, _, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["seed", "mode", "most", "orders", "quoted", "recovered", "requests"]
    assert line.split()[:4] == ["1", "replace", "ok", "6"]
    assert last.startswith("failed: none (")


def test_storm_that_breaks_a_rule_is_named_with_what_happened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a rule that the daemon was not told of: two quotes a side."""
    monkeypatch.setattr("test.storm.LEVELS", 2)
    assert main(["4", "4", "--seconds", "5", "--log"]) == 1
    shown = capsys.readouterr().out
    assert "s: too many bids: 3" in shown
    assert "the storm is over" in shown
    assert "failed: 4 (" in shown
