"""Every refusal that the exchange can give has a text."""

import ast
from pathlib import Path

import pytest

import sim
from sim.errors import TEXTS, refusal, status_of, usual_text

REFUSING = {"refusal", "choice", "check_notional"}


def codes_in_use() -> set[int]:
    """Return every code that the package hands to what refuses."""
    found = set()
    for path in Path(sim.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in REFUSING:
                found |= {number for number in map(_number, node.args) if number < 0}
    return found


def _number(node: ast.expr) -> int:
    text = ast.unparse(node)
    return int(text) if text.removeprefix("-").isdigit() else 0


def test_every_code_in_use_has_a_text() -> None:
    """A refusal without a text would be an exception instead of an answer."""
    used = codes_in_use()
    assert {-2011, -4047, -5022, -5029, -1115} <= used
    assert used <= set(TEXTS)


@pytest.mark.parametrize(("code", "status"), [(-1015, 429), (-2014, 401), (-2015, 401), (-5022, 400)])
def test_code_brings_its_status(code: int, status: int) -> None:
    """HTTP 400 unless noted (facts 9)."""
    assert refusal(code, 1, 2).status == status


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_made_up_refusal_has_a_whole_text(code: int) -> None:
    """docs/faults.md: without a message it is the code's usual text, details filled in."""
    text = usual_text(code)
    assert "{" not in text
    assert len(text) > 8


def test_every_code_that_clients_react_to_has_a_text() -> None:
    """Facts 9: the codes with a reaction, those that only faults bring about included."""
    by_faults = {
        -1000,
        -1001,
        -1002,
        -1003,
        -1006,
        -1007,
        -1008,
        -1010,
        -1013,
        -1014,
        -1016,
        -1099,
        -1103,
        -1104,
    }
    by_faults |= {-1109, -2010, -2012, -2018, -2020, -2021, -2024, -4045, -4083, -5043}
    assert by_faults <= set(TEXTS)
    assert [status_of(code) for code in (-1003, -1007, -1008, -1001, -2018)] == [429, 408, 503, 503, 400]


def test_details_stand_in_the_text() -> None:
    """Texts name the limit or parameter that they are about."""
    assert (
        refusal(-4164, "50").message
        == "Order's notional must be no smaller than 50 (unless you choose reduce only)."
    )
