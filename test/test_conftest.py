"""The shared fixtures keep their word."""

from pathlib import Path

import pytest

from core.state import shared_state

from .conftest import recordings


def test_missing_recordings_skip_the_test_of_a_person(tmp_path: Path) -> None:
    """Who has no recordings can still run the tests, and is told what is left out."""
    with pytest.raises(pytest.skip.Exception, match="QUANT_PMM_DATA"):
        recordings(tmp_path / "none", ci=False)


def test_missing_recordings_fail_the_test_in_ci(tmp_path: Path) -> None:
    """There, a skipped proof would look like a proof."""
    with pytest.raises(pytest.fail.Exception, match="QUANT_PMM_DATA"):
        recordings(tmp_path / "none", ci=True)


def test_recordings_are_used_where_they_are(tmp_path: Path) -> None:
    """An existing folder is returned as it is."""
    assert recordings(tmp_path, ci=True) == tmp_path


def test_seed_is_the_named_one(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure can be repeated with the line that it shows."""
    monkeypatch.setenv("QUANT_PMM_SEED", "42")
    assert request.getfixturevalue("seed") == 42
    assert capsys.readouterr().out == "repeat this with QUANT_PMM_SEED=42\n"


@pytest.mark.parametrize("run", [1, 2])
def test_shared_state_is_as_new_in_every_test(run: int) -> None:
    """What one test leaves in the shared state does not reach the next."""
    assert shared_state.strategy_paused is False
    shared_state.strategy_paused = True
