"""Who may import whom, and what stays pure: read from the source, so that it cannot rot."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("commands", "core", "sim", "utils")
SOURCES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PURE = (
    "account_rules",
    "analysis",
    "book",
    "brake",
    "cash",
    "client_ids",
    "daily_loss",
    "day_trades",
    "event_queue",
    "event_statistics",
    "flatten",
    "flow",
    "foreign_trades",
    "gate",
    "ledger",
    "live_order",
    "market_model",
    "market_wire",
    "metrics",
    "model",
    "order",
    "order_life",
    "posture",
    "pressure",
    "price_watch",
    "price_window",
    "rate_budget",
    "rate_hold",
    "request_costs",
    "risk",
    "rules_change",
    "strategy",
    "timestamp_hold",
    "volatility",
    "wire",
)
"""Modules of core that decide: values in, values out."""

CLOCKS_AND_CHANCE = {
    "time",
    "datetime",
    "random",
    "secrets",
    "asyncio",
    "threading",
    "os",
    "socket",
    "logging",
}
SEAM_FOR_SIM = {"utils.clock", "utils.errors", "utils.http", "utils.ws"}
"""What the simulated exchange shares with the daemon: the clock, the errors, the interfaces of its transports."""
PROTOCOLS_FOR_SIM = {"HttpResponse", "HttpTransport", "WsConnection", "WsTransport"}


@cache
def tree_of(path: Path) -> ast.Module:
    """The parsed source."""
    return ast.parse((ROOT / path).read_text("utf-8"), str(path))


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Every import as (module, name); the name is empty where a whole module is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            for alias in node.names:
                yield node.module or "", alias.name


def attributes(tree: ast.AST) -> set[str]:
    """Every name after a dot."""
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def methods_called(tree: ast.AST) -> set[str]:
    """Every name after a dot that is called there."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {called.attr for called in calls if isinstance(called, ast.Attribute)}


def packages_of(path: Path) -> set[str]:
    """The project's packages that a source imports, its own left out."""
    found = {module.split(".")[0] for module, _ in imports(tree_of(path))}
    return found & {*PACKAGES, "main", "test"} - {path.parts[0]}


def test_package_imports_only_those_below_it() -> None:
    """core and sim stand on utils and not on each other, commands on all of them; utils stands on nothing."""
    below = {"commands": {"core", "sim", "utils"}, "core": {"utils"}, "sim": {"utils"}, "utils": set()}
    assert [path for path in SOURCES if not packages_of(path) <= below[path.parts[0]]] == []


def test_exchange_shares_the_seam_and_nothing_else() -> None:
    """Not a codec, not a rule: one mistake must not hide in both."""
    shared = {
        (module, name)
        for path in SOURCES
        if path.parts[0] == "sim"
        for module, name in imports(tree_of(path))
        if module.split(".")[0] == "utils"
    }
    assert {module for module, _ in shared} <= SEAM_FOR_SIM
    assert {name for module, name in shared if module in ("utils.http", "utils.ws")} <= PROTOCOLS_FOR_SIM


def test_only_main_fetches_the_shared_state_by_name() -> None:
    """Everybody else receives it."""
    assert [path for path in SOURCES if ("core.state", "shared_state") in set(imports(tree_of(path)))] == []
    assert [path for path in SOURCES if "shared_state" in attributes(tree_of(path))] == []


def test_main_fetches_the_shared_state() -> None:
    """There is one who does."""
    assert ("core.state", "shared_state") in set(imports(tree_of(Path("main.py"))))


@pytest.mark.parametrize("name", PURE)
def test_module_that_decides_waits_for_nothing(name: str) -> None:
    """No coroutine, no await: what is decided is decided in one turn."""
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert [
        node for node in ast.walk(tree_of(Path("core") / f"{name}.py")) if isinstance(node, waiting)
    ] == []


@pytest.mark.parametrize("name", PURE)
def test_module_that_decides_reads_no_clock_and_no_dice(name: str) -> None:
    """Time is a parameter, and there is nothing to log, to open or to draw."""
    tree = tree_of(Path("core") / f"{name}.py")
    assert {module.split(".")[0] for module, _ in imports(tree)}.isdisjoint(CLOCKS_AND_CHANCE)
    assert {module for module, _ in imports(tree)}.isdisjoint(
        {"utils.clock", "core.gateway", "core.execution"}
    )
    assert methods_called(tree).isdisjoint({"time_ms", "monotonic_ns", "now", "sleep"})


def test_clock_is_read_in_one_place() -> None:
    """utils/clock.py; everybody else is given the time or a Clock."""
    readers = [path for path in SOURCES if "time" in {module for module, _ in imports(tree_of(path))}]
    assert readers == [Path("utils/clock.py")]


def test_every_module_says_what_it_is_for() -> None:
    """In its first line; the empty package files have nothing to say."""
    trees = {path: tree_of(path) for path in SOURCES}
    assert [path for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


def test_no_source_is_without_a_rank() -> None:
    """The program is main.py and these packages."""
    assert {path.name for path in ROOT.glob("*.py")} == {"main.py"}
    assert len(SOURCES) > 50
