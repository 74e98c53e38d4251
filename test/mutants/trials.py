"""What is done with one mutant: is it a fair one, does its scenario see it, does the simulation see it, and when."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from test.mutants.catalogue import Mutant
from test.mutants.hunt import NOT_FAIR
from test.mutants.workshop import Run, Workshop, run_python

CALM_TIMEOUT_S = 120.0
SCENARIO_TIMEOUT_S = 240.0
_NO_KILL = re.compile(
    r"^E\s+(ImportError|ModuleNotFoundError|SyntaxError|IndentationError|NameError)\b", re.M
)
_TESTS_FAILED = 1
_RULE = re.compile(r"\bINV-\d\d\b")

RunPython = Callable[[Path, list[str], float], Run]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something killed the mutant; ``how`` says it in a few words, or why there is no verdict.

    ``seed`` is the last seed that was tried, the one that killed it if one did; ``seen`` is what broke the rule.
    """

    killed: bool
    how: str
    seconds: float = 0.0
    seed: int = 0
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that was found about one mutant; None is what was not asked."""

    mutant: Mutant
    fair: Verdict
    scenario: Verdict | None = None
    simulation: Verdict | None = None

    @property
    def is_killed(self) -> bool:
        """Tell whether all that was asked has killed it."""
        return self.fair.killed and all(
            each.killed for each in (self.scenario, self.simulation) if each is not None
        )


@dataclass(frozen=True, slots=True)
class Hunt:
    """How the simulation looks for a violation, and for how many seconds at most."""

    seeds: int = 200
    hours: float = 1 / 12
    within_s: float = 300.0


def scenario_verdict(run: Run) -> Verdict:
    """Return what a run of the scenario on the mutant means: only a test that fails for its own reasons kills."""
    if run.code is None:
        return Verdict(False, "the scenario did not end", run.seconds)
    if run.code == 0:
        return Verdict(False, "survived: the scenario passes", run.seconds)
    if run.code != _TESTS_FAILED or _NO_KILL.search(run.output):
        return Verdict(False, f"the mutant is broken itself: {_last_line(run.output)}", run.seconds)
    return Verdict(True, "killed", run.seconds)


def _last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "no output"


def pytest_arguments(*nodes: str) -> list[str]:
    """Return the arguments that run these tests and nothing else."""
    return ["-m", "pytest", "-p", "no:cacheprovider", "-q", "-x", "--timeout=200", *nodes]


def fairness(copy: Path, run: RunPython = run_python) -> Verdict:
    """Return whether the mutant starts and quotes in calm weather: one that cannot is no test of anything."""
    calm = run(copy, ["-m", "test.mutants.calm"], CALM_TIMEOUT_S)
    if calm.code == 0:
        return Verdict(True, "quotes in calm weather", calm.seconds)
    return Verdict(False, f"does not quote in calm weather: {_last_line(calm.output)}", calm.seconds)


def hunted(copy: Path, control: Path, mutant: Mutant, hunt: Hunt, run: RunPython = run_python) -> Verdict:
    """Have seeds of the simulation run on the mutant until one finds a violation that the control does not have.

    A seed that violates an invariant on the control as well says nothing of the mutant, and the next ones are tried.
    """
    first, spent_s = 1, 0.0
    while first <= hunt.seeds and spent_s < hunt.within_s:
        found = run(copy, _hunt_arguments(mutant, hunt, first, hunt.seeds), hunt.within_s - spent_s)
        spent_s += found.seconds
        if found.code == 0:
            return Verdict(False, f"survived {hunt.seeds} seeds", spent_s, hunt.seeds)
        if found.code == NOT_FAIR:
            return Verdict(False, f"does not quote in calm weather: {_last_line(found.output)}", spent_s)
        seed, violations = _violation(found.output)
        if found.code is None:
            return Verdict(False, f"survived {seed} seeds, then its time was over", spent_s, seed)
        if found.code != 1 or not violations:
            return Verdict(False, f"no verdict: {_last_line(found.output)}", spent_s, max(seed, first) - 1)
        clean = run(control, _hunt_arguments(mutant, hunt, seed, seed), hunt.within_s)
        spent_s += clean.seconds
        if clean.code == 0:
            return Verdict(True, f"killed by {_rules(violations)}", spent_s, seed, violations[0])
        first = seed + 1
    return Verdict(False, f"survived {first - 1} seeds", spent_s, first - 1)


def _hunt_arguments(mutant: Mutant, hunt: Hunt, first: int, last: int) -> list[str]:
    return [
        *("-m", "test.mutants.hunt", "--kinds", ",".join(mutant.kinds)),
        *("--first", str(first), "--seeds", str(last - first + 1)),
        *("--hours", str(hunt.hours), "--faults-per-hour", str(mutant.faults_per_hour)),
        *(("--calm-first",) if first == 1 and not mutant.inject else ()),
    ]


def _violation(output: str) -> tuple[int, list[str]]:
    """Return the last seed that was told of, 0 if none, and its violations."""
    lines = [line for line in output.splitlines() if line.startswith('{"seed"')]
    if not lines:
        return 0, []
    last = json.loads(lines[-1])
    return last["seed"], last["violations"]


def _rules(violations: list[str]) -> str:
    rules = sorted({rule for text in violations for rule in _RULE.findall(text)})
    return " ".join(rules) or violations[0][:60]


def examine(workshop: Workshop, mutant: Mutant, run: RunPython = run_python) -> Result:
    """Return what its scenario finds about one mutant, in copies of its own."""
    copy = workshop.copy_with(mutant.id, mutant.edits)
    try:
        scenario = scenario_verdict(run(copy, pytest_arguments(mutant.scenario), SCENARIO_TIMEOUT_S))
        return Result(mutant, fairness(copy, run), scenario)
    finally:
        workshop.remove(copy)


def examine_by_simulation(
    workshop: Workshop, mutant: Mutant, hunt: Hunt, run: RunPython = run_python
) -> Result:
    """Return what the simulation finds about one mutant. What has to go wrong first, goes wrong in the control, too."""
    if mutant.inject:
        return _examine_injected(workshop, mutant, hunt, run)
    copy = workshop.copy_with(mutant.id, mutant.edits)
    try:
        found = hunted(copy, workshop.untouched, mutant, hunt, run)
        fair = Verdict(not found.how.startswith("does not quote"), "quotes in calm weather")
        return Result(mutant, fair, simulation=found)
    finally:
        workshop.remove(copy)


def _examine_injected(workshop: Workshop, mutant: Mutant, hunt: Hunt, run: RunPython) -> Result:
    """Do so where something is planted to go wrong first: in calm weather, and in the control, the mutant is not."""
    calm = workshop.copy_with(f"{mutant.id}-calm", mutant.edits)
    copy = workshop.copy_with(mutant.id, (*mutant.inject, *mutant.edits))
    control = workshop.copy_with(f"{mutant.id}-control", mutant.inject)
    try:
        return Result(mutant, fairness(calm, run), simulation=hunted(copy, control, mutant, hunt, run))
    finally:
        for each in (calm, copy, control):
            workshop.remove(each)
