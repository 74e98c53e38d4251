"""What a run of the daemon does not pay for: imports that it does not need, garbage collection of what lasts."""

import json
from pathlib import Path
from typing import Any

import pytest

from test.process import START_WITHIN_S, Stage

pytestmark = pytest.mark.no_cover

HEAVY = {
    "rich": "logs that go to no terminal need no colours",
    "websockets": "picows is there",
    "cryptography": "no key is an RSA or Ed25519 key",
    "zipfile": "the market is not a recording",
    "sim.relay": "the market is not the real one",
    "commands.check": "it is another command",
    "commands.flatten": "it is another command",
    "commands.orders": "it is another command",
    "unittest": "it is for tests",
    "multiprocessing": "there is one process",
    "numpy": "prices are whole numbers",
    "pandas": "the day's file is written line by line",
    "ccxt": "it is a demo's",
    "demo": "they are programs of their own",
    "bench": "they are programs of their own",
    "test": "they are programs of their own",
}
"""What `python main.py` must not import on its way to its first quotes, and why it need not."""

PROBE = """
import atexit, gc, json, runpy, sys
import commands.signals
atexit.register(lambda: print(json.dumps([sorted(sys.modules), gc.get_freeze_count(), gc.isenabled()])))
runpy.run_path("main.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run on the embedded exchange has imported at its end, how many objects are left alone, and the rest."""
    with Stage(tmp_path_factory.mktemp("lean")) as stage:
        program = stage.program(stage.folder(), "-c", PROBE, "--duration", "2")
        assert program.wait(START_WITHIN_S) == 0
        assert "first quote rests" in program.err
        return json.loads(program.out.splitlines()[-1])


def test_run_imports_nothing_that_it_does_not_need(left: Any) -> None:
    """The way from the start to the first quote is mostly imports."""
    assert {name: HEAVY[name] for name in HEAVY if name in left[0]} == {}


def test_list_of_heavy_modules_names_what_there_is() -> None:
    """A module of ours that was renamed would be guarded against for ever."""
    ours = [name for name in HEAVY if name.partition(".")[0] in ("commands", "sim", "demo", "bench", "test")]
    root = Path(__file__).resolve().parents[1]
    paths = [root.joinpath(*name.split(".")) for name in ours]
    assert [path for path in paths if not (path.is_dir() or path.with_suffix(".py").is_file())] == []


def test_collector_leaves_alone_what_a_start_has_made_and_works_again(left: Any) -> None:
    """A whole search would hold the event loop up for 20 ms."""
    _, left_alone, is_enabled = left
    assert left_alone > 50_000
    assert is_enabled
