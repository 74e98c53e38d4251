"""The catalogue of planted mutants is whole, and each still makes the change that it is there for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from sim.fault_kinds import KINDS
from test.mutants.__main__ import table
from test.mutants.catalogue import ROOT, DoesNotApply, Edit, Mutant, load, patched
from test.mutants.hunt import NOT_FAIR
from test.mutants.trials import Hunt, Result, Verdict, hunted, scenario_verdict
from test.mutants.workshop import Run
from test.simulation.kinds import ALL

pytestmark = pytest.mark.no_cover

P1 = [
    *("ORD-01", "ORD-02", "ORD-03", "ORD-04", "ORD-05", "ORD-09"),
    *("LIF-01", "LIF-03", "LIF-04", "LIF-06", "LIF-09"),
    *("STR-01", "STR-02", "STR-03", "STR-04", "STR-05", "STR-06", "STR-07", "STR-08"),
    *("POS-01", "POS-02", "POS-03", "POS-04", "POS-07", "POS-08", "POS-09"),
    *("REJ-01", "REJ-02", "REJ-03", "REJ-04", "REJ-07"),
    *("LIM-01", "LIM-04", "LIM-05"),
    *("NET-01", "NET-03"),
    *("PRC-01", "PRC-02", "PRC-03", "PRC-04", "PRC-05", "PRC-07", "PRC-09"),
    *("ACC-01", "ACC-03", "ACC-04"),
    *("VEN-01", "VEN-03"),
    "SEC-01",
]
MUTANTS = load()
NOWHERE = Path()
A_MUTANT = Mutant("ORD-01", "title", "breaks", "test/test_x.py::test_y[z]", ("silence",), ())


def test_every_mode_of_the_first_rank_has_one_mutant() -> None:
    """Forty-nine, in the order of the catalogue of failures."""
    assert [mutant.id for mutant in MUTANTS] == P1
    assert len(P1) == 49


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_mutant_still_changes_the_program(mutant: Mutant) -> None:
    """Each text is there exactly once; what comes out compiles, and is another program than before."""
    for edits in filter(None, (mutant.inject, mutant.edits, (*mutant.inject, *mutant.edits))):
        for file, text in patched(ROOT, edits).items():
            assert file.startswith(("core/", "utils/", "main.py")), (
                "it is the program that is broken, not its tests"
            )
            before = (ROOT / file).read_text(encoding="utf-8")
            assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(before))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_scenario_and_faults_of_a_mutant_exist(mutant: Mutant) -> None:
    """The test by its file and name, the kinds of fault among those that the simulation can draw."""
    tree = ast.parse((ROOT / mutant.test_file).read_text(encoding="utf-8"))
    names = {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert mutant.test_name in names
    assert set(mutant.kinds) <= ALL.keys() | KINDS.keys()


@pytest.mark.parametrize(("text", "times"), [("other", 0), ("old old", 2)])
def test_edit_that_does_not_apply_once_is_refused(text: str, times: int) -> None:
    """Nowhere, or in two places: nobody would know what was broken."""
    with pytest.raises(DoesNotApply, match=f"{times} times instead of once"):
        Edit("core/gate.py", "old", "new").applied_to(text)


@pytest.mark.parametrize(
    ("code", "output", "killed"),
    [
        (1, "E   assert 7 <= 6", True),
        (0, "1 passed", False),
        (None, "", False),
        (1, "E   NameError: name 'x' is not defined", False),
        (1, "E   ImportError: cannot import name", False),
        (2, "errors during collection", False),
        (4, "not found: test_x.py::test_y", False),
    ],
)
def test_only_a_test_that_fails_for_its_own_reasons_kills(
    code: int | None, output: str, killed: bool
) -> None:
    """A mutant that cannot be imported, a hang and a test that is not there prove nothing."""
    assert scenario_verdict(Run(code, output, 1.0)).killed is killed


def test_violation_that_the_untouched_program_has_too_kills_nothing() -> None:
    """Seed 2 is violated with and without the mutant, seed 5 with it alone."""
    asked: list[tuple[str, str]] = []

    def run(folder: Path, arguments: list[str], timeout_s: float) -> Run:
        first = arguments[arguments.index("--first") + 1]
        asked.append((folder.name, first))
        if folder.name == "control":
            return Run(1 if first == "2" else 0, "", 1.0)
        seed = {"1": 2, "3": 5}[first]
        return Run(1, f'{{"seed": {seed}, "violations": ["3.0 s: INV-02: twice"]}}', 1.0)

    verdict = hunted(Path("mutant"), Path("control"), A_MUTANT, Hunt(), run)
    assert (verdict.killed, verdict.how, verdict.seed) == (True, "killed by INV-02", 5)
    assert asked == [("mutant", "1"), ("control", "2"), ("mutant", "3"), ("control", "5")]


def test_mutant_that_does_not_quote_in_calm_weather_is_none() -> None:
    """Whatever a storm would show of it."""
    verdict = hunted(NOWHERE, NOWHERE, A_MUTANT, Hunt(), lambda *_: Run(NOT_FAIR, "AssertionError: no", 1.0))
    assert (verdict.killed, verdict.how) == (False, "does not quote in calm weather: AssertionError: no")


def test_hunt_ends_when_its_time_is_over() -> None:
    """With the seeds that it took until then."""
    verdict = hunted(
        NOWHERE, NOWHERE, A_MUTANT, Hunt(), lambda *_: Run(None, '{"seed": 4, "violations": []}', 1)
    )
    assert (verdict.killed, verdict.how) == (False, "survived 4 seeds, then its time was over")


def test_mutant_without_a_violation_survives() -> None:
    """All seeds went by."""
    verdict = hunted(NOWHERE, NOWHERE, A_MUTANT, Hunt(seeds=7), lambda *_: Run(0, "", 1.0))
    assert (verdict.killed, verdict.how) == (False, "survived 7 seeds")


def test_last_line_of_the_table_is_the_sum() -> None:
    """Of all that were examined; a survivor of either kind counts as none."""
    dead, alive = Verdict(True, "killed"), Verdict(False, "survived")
    results = [
        Result(A_MUTANT, dead, simulation=dead),
        Result(A_MUTANT, dead, simulation=alive),
        Result(A_MUTANT, alive, dead),
        Result(A_MUTANT, dead, dead),
    ]
    assert table(results)[-1] == "2 of 4"


def test_command_line_kills_a_mutant_in_a_copy() -> None:
    """The real thing with one mutant: copied, patched, found out, and nothing here is changed."""
    command = [sys.executable, "-m", "test.mutants", "--only", "PRC-01", "--skip-control"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.stdout.splitlines()[-1] == "1 of 1", done.stdout + done.stderr
    assert done.returncode == 0
