"""docs/quoting.md names every key of quoting, order keeping, execution and risk, each with a test that exists."""

import ast
import re
from pathlib import Path

from utils.config_loader import known_keys

ROOT = Path(__file__).resolve().parents[1]
GROUPS = ("strategy.", "order_management.", "execution.", "risk.")


def rows() -> list[tuple[str, str]]:
    """Each row of the table of keys: its keys, and the name of its test."""
    text = (ROOT / "docs" / "quoting.md").read_text(encoding="utf-8")
    return re.findall(
        r"^\| (`(?:strategy|order_management|execution|risk)\.[^|]*) \|[^|]*\| `(test_\w+)` \|$", text, re.M
    )


def names_of_tests() -> set[str]:
    """The names of all tests of this project."""
    return {
        node.name
        for path in (ROOT / "test").glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_key_is_in_the_table() -> None:
    """Of the four groups, by its full path."""
    listed = {key for keys, _ in rows() for key in re.findall(r"`([\w.]+)`", keys)}
    assert listed == {key for key in known_keys() if key.startswith(GROUPS)}


def test_every_test_in_the_table_exists() -> None:
    """A test that is renamed takes its row with it."""
    assert {test for _, test in rows()} <= names_of_tests()
