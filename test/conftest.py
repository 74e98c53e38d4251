"""What all tests share: the recordings, the seeds, and a clean shared state."""

import os
import re
import secrets
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("QUANT_PMM_DATA") or ROOT.parent / "shared" / "data")

# print_blob: a failure shows the line that repeats it. No deadline: machines that test are shared.
hypothesis.settings.register_profile("fast", max_examples=100, deadline=None, print_blob=True)
hypothesis.settings.register_profile("deep", max_examples=5000, deadline=None, print_blob=True)
hypothesis.settings.load_profile("deep" if os.environ.get("QUANT_PMM_DEEP") == "1" else "fast")


LONG_FILES = re.compile(r"test_(simulation|blackbox|demos|soak|process_\w+|scenarios_\w+)\.py")
"""What takes a minute, or mostly waits. A file goes to one worker, with what its tests share, and these begin first."""

_TRACES_PROGRAMS = "COVERAGE_PROCESS_CONFIG"


def pytest_configure(config: pytest.Config) -> None:
    """In a worker pytest-cov begins twice: what it began first would trace on while the second pauses."""
    plugin = config.pluginmanager.getplugin("_cov")
    if "PYTEST_XDIST_WORKER" in os.environ and plugin is not None and plugin.cov_controller is not None:
        plugin.cov_controller.pause()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Nor is a worker traced as a program that a test has started."""
    os.environ.pop(_TRACES_PROGRAMS, None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """There is one worker more than there are cores, because tests of real processes mostly wait."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first; and of a scenario with several sets of parameters, the coverage of the first is measured.

    What is traced takes three times as long. The other sets, and all tests marked ``no_cover``, are there for what
    they prove, and not for lines that nothing else reaches: they run as fast as the program does.
    """
    items.sort(key=lambda item: LONG_FILES.fullmatch(item.path.name) is None)
    measured: set[tuple[Path, str]] = set()
    for item in items:
        if isinstance(item, pytest.Function) and item.path.name.startswith("test_scenarios_"):
            story = (item.path, item.originalname)
            if story in measured:
                item.add_marker("no_cover")
            measured.add(story)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """The programs that a test marked ``no_cover`` starts are not traced either; pytest-cov sees to the test."""
    if item.get_closest_marker("no_cover") is None or _TRACES_PROGRAMS not in os.environ:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(_TRACES_PROGRAMS)
        return (yield)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the recordings; without it the test is skipped, and fails where CI=true."""
    return recordings(DATA, ci=os.environ.get("CI") == "true")


def recordings(folder: Path, *, ci: bool) -> Path:
    """Return `folder`, or end the test: a person may lack the recordings, CI may not."""
    if not folder.is_dir():
        reason = f"no recordings at {folder}: put them there, or name their folder with QUANT_PMM_DATA"
        if ci:
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture
def seed() -> int:
    """A seed that differs from run to run, or QUANT_PMM_SEED; pytest shows it beside a failure."""
    number = int(os.environ.get("QUANT_PMM_SEED") or secrets.randbits(32))
    print(f"repeat this with QUANT_PMM_SEED={number}")  # noqa: T201 - captured, and shown on failure only
    return number


@pytest.fixture(params=["rest", "ws"])
def _each_order_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs twice: the daemons in its world send their orders by REST, then by the WebSocket API."""
    monkeypatch.setenv("QUANT_PMM_ORDER_TRANSPORT", request.param)


@pytest.fixture(autouse=True)
def _clean_shared_state() -> Iterator[None]:
    """The one shared state is as new before and after each test, where anybody has imported it at all."""
    _reset_shared_state()
    yield
    _reset_shared_state()


def _reset_shared_state() -> None:
    if (module := sys.modules.get("core.state")) is not None:
        module.shared_state.reset()
