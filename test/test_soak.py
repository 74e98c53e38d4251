"""A long day in twenty minutes; ``python -m test.soak`` has six hours, or a week."""

import json

import pytest

from test.soak import Outcome, main, soak

pytestmark = pytest.mark.no_cover


@pytest.mark.slow
def test_day_with_shocks_halts_and_resets_ends_with_equal_books() -> None:
    """Ledger and orders are the exchange's at the end, and everything that was to happen has happened."""
    outcome = soak(hours=1 / 3)
    assert outcome.violations == []
    assert outcome.counts["resumes"] >= 2
    assert outcome.counts["order resets"] >= 1
    assert outcome.counts["connection resets"] == 48
    assert outcome.counts["cuts"] == 1
    assert outcome.counts["amendments"] > 20
    assert outcome.counts["trades"] > 20
    assert outcome.counts["orders accounted for"] >= 6 * 4


def test_day_that_ends_badly_is_told_by_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a rule that the daemon was not told of: four quotes."""
    monkeypatch.setattr("test.soak.MOST_ORDERS", 4)
    assert main(["--hours", "0.1", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert any("6 orders rest" in violation for violation in found["violations"])
    (mib,), (descriptors,) = found["MiB"], found["descriptors"]
    assert mib > 20
    assert descriptors > 2


def test_outcome_ends_with_whether_it_was_well() -> None:
    """As a text, for whoever runs it by hand."""
    assert str(Outcome()).endswith("ok")
    assert str(Outcome(violations=["6 orders rest"])).endswith("6 orders rest\nfailed")
