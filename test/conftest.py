"""What all tests share: the recordings, the seeds, and a clean shared state."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("QUANT_PMM_DATA") or ROOT.parent / "shared" / "data")

# print_blob: a failure shows the line that repeats it. No deadline: machines that test are shared.
hypothesis.settings.register_profile("fast", max_examples=100, deadline=None, print_blob=True)
hypothesis.settings.register_profile("deep", max_examples=5000, deadline=None, print_blob=True)
hypothesis.settings.load_profile("deep" if os.environ.get("QUANT_PMM_DEEP") == "1" else "fast")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the recordings; without it the test is skipped, and fails where CI=true."""
    if not DATA.is_dir():
        reason = f"no recordings at {DATA}: put them there, or name their folder with QUANT_PMM_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return DATA


@pytest.fixture(autouse=True)
def _clean_shared_state() -> Iterator[None]:
    """The one shared state is as new before and after each test, where anybody has imported it at all."""
    _reset_shared_state()
    yield
    _reset_shared_state()


def _reset_shared_state() -> None:
    if (module := sys.modules.get("core.state")) is not None:
        module.shared_state.reset()
