"""Clocks, chance, threads and tasks that nobody awaits stay in the seams: that is what makes a seed repeat a run."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("core", "sim", "utils")
    for path in (ROOT / package).rglob("*.py")
)

CLOCKS = {
    "time": {
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "perf_counter_ns",
        "clock_gettime",
        "clock_gettime_ns",
        "sleep",
        "localtime",
    },
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
CHANCE = {
    "random": {
        "random",
        "randint",
        "choice",
        "choices",
        "shuffle",
        "sample",
        "uniform",
        "gauss",
        "seed",
        "SystemRandom",
    },
    "uuid": {"uuid1", "uuid4"},
    "os": {"urandom", "getrandom"},
    "secrets": {"token_hex", "token_bytes", "token_urlsafe", "randbelow", "choice", "randbits"},
}
THREADS = {
    "threading": {"Thread", "Timer"},
    "asyncio": {"to_thread"},
    "loop": {"run_in_executor"},
    "futures": {"ThreadPoolExecutor", "ProcessPoolExecutor"},
    "multiprocessing": {"Process", "Pool"},
}

MAY: Mapping[str, Mapping[str, str]] = {
    "clocks": {
        "utils/clock.py": "is the clock",
    },
    "chance": {},
    "threads": {
        "utils/background.py": "is where blocking work leaves the loop; simulations do it at once",
    },
    "tasks": {
        "core/engine.py": "holds, cancels and gathers its workers, and the end races a second request to stop",
        "core/runs.py": "races a start against a request to stop; both are cancelled and gathered",
        "core/risk_controller.py": "holds the flattening beside the record of a breach, and cancels it with itself",
        "core/halt_keeper.py": "holds the one write of a halt that is under way: nobody waits for a disk for long",
        "core/flatten_command.py": "holds the look-out for other instances, cancels and gathers it at the end",
        "core/status_socket.py": "holds its server, and cancels and gathers it at the end",
        "core/questions.py": "holds what is being asked: whoever takes the answer has its error, the end cancels it",
        "core/day_keeper.py": "holds the one write of a day that is under way, and finishes it at the end",
        "core/last_look.py": "holds the one write of a look that is under way, and finishes it at the end",
        "core/amend_queue.py": "holds amendments under way: an answer is noted whoever has stopped to wait",
        "utils/ws.py": "races a reader against being dropped; both are cancelled and gathered",
        "utils/ws_picows.py": "holds the opening of a connection, and ends it when nobody waits for it any more",
        "sim/cli.py": "is a command line",
        "sim/embedded.py": "holds the clockwork of an exchange for as long as the exchange runs",
        "sim/stream_client.py": "holds its subscriptions, cancels and gathers them",
        "sim/server.py": "holds the end of an outage",
    },
}
"""The modules that may, each with the reason why it does no harm."""

REASONED = [(what, path) for what, paths in MAY.items() for path in paths]


@cache
def found(path: str) -> dict[str, list[str]]:
    """Return what a source uses of each sort, with lines."""
    uses: dict[str, list[str]] = {what: [] for what in MAY}
    for what, text, line in _uses(ast.parse((ROOT / path).read_text("utf-8"))):
        uses[what].append(f"{path}:{line} {text}")
    return uses


def _uses(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                for what, names in (("clocks", CLOCKS), ("chance", CHANCE), ("threads", THREADS)):
                    if alias.name in names.get((node.module or "").split(".")[-1], ()):
                        yield what, f"{node.module}.{alias.name}", node.lineno
        if not isinstance(node, ast.Attribute):
            continue
        base = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
        text = f"{base}.{node.attr}"
        for what, names in (("clocks", CLOCKS), ("chance", CHANCE), ("threads", THREADS)):
            if node.attr in names.get(base, ()):
                yield what, text, node.lineno
        if node.attr in ("ensure_future", "create_task") and not base.lstrip("_").startswith("group"):
            yield "tasks", text, node.lineno


@pytest.mark.parametrize("what", MAY)
def test_only_seams_use_clocks_chance_threads_and_bare_tasks(what: str) -> None:
    """Everything else is given a clock, a random generator or a task group; a seed could not repeat it otherwise."""
    assert [use for path in SOURCES if path not in MAY[what] for use in found(path)[what]] == []


@pytest.mark.parametrize(("what", "path"), REASONED)
def test_every_exception_is_needed(what: str, path: str) -> None:
    """An allowance that nobody uses is a hole."""
    assert found(path)[what]


def test_lint_finds_each_of_what_it_forbids() -> None:
    """Shown on a source that does it all."""
    source = (
        "from time import monotonic\nimport random\nimport datetime\nimport uuid\n"
        "random.choice([1])\ndatetime.datetime.now()\nuuid.uuid4()\nself._loop.run_in_executor(None, f)\n"
        "asyncio.create_task(f())\nasyncio.to_thread(f)\ngroup.create_task(f())\nrng.choice([1])\nclock.monotonic_ns()\n"
    )
    assert sorted({what for what, _, _ in _uses(ast.parse(source))}) == [
        "chance",
        "clocks",
        "tasks",
        "threads",
    ]
    assert [line for what, _, line in _uses(ast.parse(source)) if what == "tasks"] == [9]
    assert max(line for _, _, line in _uses(ast.parse(source))) == 10
