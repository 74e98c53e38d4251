"""The page about security says what is so, and the program does nothing that it rules out."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
PROGRAM = [path for part in (".", "core", "utils", "sim") for path in (ROOT / part).glob("*.py")]


def test_every_test_that_the_page_names_is_there() -> None:
    """A line that is held by nothing would not be true for long."""
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    there = {
        name
        for file in (ROOT / "test").rglob("*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", file.read_text("utf-8"), re.MULTILINE)
    }
    assert len(named) > 40
    assert named - there == set()


def test_every_line_of_the_list_is_answered() -> None:
    """Forty lines, in their order, each with something said about it."""
    rows = re.findall(r"^\| (\d+)(?:–(\d+))? \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    numbers = [number for first, last, _, _ in rows for number in range(int(first), int(last or first) + 1)]
    assert numbers == list(range(1, 41))


def test_program_runs_no_text_and_loads_no_pickle() -> None:
    """Nothing that comes from outside can become code."""
    names = {"eval", "exec", "compile", "__import__"}
    modules = {"pickle", "marshal", "shelve", "subprocess", "importlib", "runpy"}
    for path in PROGRAM:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in names, path
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & modules, path
            if isinstance(node, ast.ImportFrom):
                assert node.module not in modules, path
            if isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "yaml.load",
                "yaml.unsafe_load",
                "os.system",
            ):
                raise AssertionError(path)
