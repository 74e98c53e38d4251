"""The simulation of storms: that it finds what is planted, repeats itself, and that what it found once stays mended."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sim.fault_file import parse_fault
from sim.fault_kinds import KINDS
from sim.fault_rules import Acts
from test.simulation.facts import Violation
from test.simulation.kinds import ALL, DAEMON, EXCHANGE, MARKET
from test.simulation.nemesis import _text
from test.simulation.plan import Plan, PlanError, TimedFault, load_plan, read_plan, write_plan
from test.simulation.report import figures, merged, table
from test.simulation.run import Outcome, run_plan, run_seed
from test.simulation.shrink import Shrinker
from test.simulation.swarm import draw_kinds, draw_plan
from utils.clock import ServerClock

pytestmark = pytest.mark.no_cover

REGRESSIONS = sorted((Path(__file__).parent / "simulation" / "regressions").glob("*.yaml"))
SHORT = Plan(seed=3, rounds=1, round_s=60, storm_s=30)


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_a_storm_has_found_once_stays_mended(path: Path) -> None:
    """Each file is a storm, made short, that broke a rule before it was mended."""
    outcome = run_plan(load_plan(path))
    assert outcome.violations == [], "\n".join(outcome.log[-60:])


@pytest.mark.parametrize("seed", [101, 102])
def test_daemon_lives_through_a_storm(seed: int) -> None:
    """A round of five minutes: nothing is broken, quotes come back, and the trace is there to be compared."""
    outcome = run_seed(seed, hours=1 / 12, faults_per_hour=600, events_per_second=5)
    assert outcome.violations == [], "\n".join(outcome.log[-60:])
    assert outcome.requests > 100
    assert sum(outcome.faults.values()) > 20
    assert outcome.recovered_s or outcome.pauses


def test_plan_makes_the_same_run_again() -> None:
    """To the last request and the last answer; another seed makes another."""
    faults = (
        TimedFault(14, "drop-reply", {"method": "POST", "for_s": 3}),
        TimedFault(20, "vanish", {"for_s": 1}),
    )
    first, second = (run_plan(SHORT.with_faults(faults)) for _ in range(2))
    assert (first.trace, first.log) == (second.trace, second.log)
    assert first.trace != run_plan(SHORT).trace


def test_every_kind_of_the_exchange_is_drawn_by_its_own_schema() -> None:
    """Nothing that the exchange would refuse, and no kind is missing."""
    assert set(EXCHANGE) == set(KINDS)
    rng = random.Random(1)
    for kind, draw in EXCHANGE.items():
        for _ in range(20):
            rule = parse_fault({"fault": kind, **{name: _text(value) for name, value in draw(rng).items()}})
            assert rule.until_ms is not None or Acts.TIME in rule.kind.acts, kind


def test_swarm_enables_about_a_quarter_of_all_kinds_and_each_of_them_in_some_seed() -> None:
    """Over 300 seeds; the same seed draws the same plan."""
    drawn = [draw_kinds(random.Random(seed)) for seed in range(300)]
    assert all(len(kinds) >= 3 for kinds in drawn)
    assert 0.2 < sum(map(len, drawn)) / 300 / len(ALL) < 0.3
    assert {kind for kinds in drawn for kind in kinds} == set(ALL)
    assert draw_plan(5, hours=1, faults_per_hour=60) == draw_plan(5, hours=1, faults_per_hour=60)


def test_storm_has_as_many_faults_as_asked_for_and_is_over_when_it_ends() -> None:
    """Faults that last are cut off at the end of their storm."""
    plan = draw_plan(9, hours=1, faults_per_hour=600)
    assert 580 <= len(plan.faults) <= 620
    assert all(each.at_s % plan.round_s + each.for_s <= plan.storm_s + 0.1 for each in plan.faults)
    few = draw_plan(9, hours=0.25, faults_per_hour=40, kinds=["cut", "jump"])
    assert {each.kind for each in few.faults} <= {"cut", "jump"}


def test_plan_is_the_same_when_read_from_its_file() -> None:
    """A scenario file holds everything that a run depends on."""
    plan = draw_plan(4, hours=0.25, faults_per_hour=200)
    assert read_plan(write_plan(plan)) == plan


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "no YAML"),
        ("- 1", "there must be keys"),
        ("seed: 1\nhour: 2", "no key hour"),
        ("seed: 1\nfaults:\n- fault: cut", "each fault needs at_s and fault"),
    ],
)
def test_file_that_cannot_be_used_is_refused_in_words(text: str, complaint: str) -> None:
    """With the place."""
    with pytest.raises(PlanError, match=complaint):
        read_plan(text)


def test_storm_is_not_over_before_what_a_standstill_of_the_process_has_had_strike_late() -> None:
    """Orders that are hidden from the lists after it would be missed by whoever takes all to be well."""
    hidden = {"for_s": 9.0, "client_id": "qpmm-", "younger_than_s": 60, "probability": 1.0}
    faults = (TimedFault(15, "stall", {"seconds": 25.0}), TimedFault(20, "hide-orders", hidden))
    outcome = run_plan(SHORT.with_faults(faults))
    assert outcome.violations == [], "\n".join(outcome.log[-60:])
    assert "    49.00 the storm is over" in outcome.log


def test_stop_is_given_its_time_although_the_process_stands_still_in_the_middle_of_it() -> None:
    """Nothing may be asked, so that it takes some seconds to end; then it sleeps for longer than a stop may take."""
    faults = (
        TimedFault(14, "used-weight", {"weight": 2400}),
        TimedFault(17, "stop", {"for_s": 0.5}),
        TimedFault(18, "stall", {"seconds": 15.0}),
    )
    outcome = run_plan(SHORT.with_faults(faults))
    assert outcome.violations == [], "\n".join(outcome.log[-60:])
    assert "    33.50 the daemon has ended: NOT_VERIFIED" in outcome.log


def test_oracle_tells_of_a_daemon_that_quotes_through_a_closed_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the run ends there: here a gate that says it is open whatever is said against it."""
    monkeypatch.setattr("core.gate.Gate.is_open", True)
    faults = tuple(TimedFault(at_s, "jump", {"bps": bps}) for at_s, bps in ((15, 400), (18, -400)))
    assert [each.rule for each in run_plan(SHORT.with_faults(faults)).violations] == ["INV-09"]


def test_oracle_tells_of_orders_that_nobody_protects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead-man switch that says it is armed and is not."""

    async def pretend(*_: object) -> None:
        """Do nothing."""

    monkeypatch.setattr("core.gateway.Gateway.arm_dead_man", pretend)
    assert [each.rule for each in run_plan(SHORT).violations] == ["INV-14"]


def test_oracle_tells_of_a_daemon_that_loses_the_time_in_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first refusal: a silence of the firewall is no excuse where nobody has changed a clock."""
    kept = ServerClock.time_ms

    def lost(clock: ServerClock) -> int:
        return kept(clock) + (10_000 if clock._clock.monotonic_ns() > 100 * 10**9 else 0)

    monkeypatch.setattr(ServerClock, "time_ms", lost)
    silence = TimedFault(20, "error", {"method": "GET", "for_s": 1.5, "reply": "html-403"})
    plan = replace(SHORT, round_s=230, storm_s=150, events_per_second=0.1)
    found = run_plan(plan.with_faults((silence,))).violations
    assert [(each.rule, 140 < each.at_s < 143) for each in found] == [("INV-29", True)]


def test_failing_plan_is_shrunk_to_the_faults_that_it_takes() -> None:
    """Out of forty faults the two that matter are left, and what came after is gone."""
    faults = tuple(TimedFault(float(number), "cut" if number % 20 == 7 else "jump") for number in range(40))

    def run(plan: Plan) -> Outcome:
        outcome = Outcome(plan.seed)
        if Counter(each.kind for each in plan.faults)["cut"] >= 2:
            outcome.violations.append(Violation("INV-01", 30.0, ""))
        return outcome

    shrunk = Shrinker("INV-01", run=run).shrink(Plan(seed=1, faults=faults))
    assert [each.kind for each in shrunk.faults] == ["cut", "cut"]
    assert Shrinker("INV-02", run=run).shrink(Plan(seed=1, faults=faults)).faults == faults


def test_figures_say_which_kinds_never_struck() -> None:
    """The table has what struck, what was reached, and how long it took until quotes were back."""
    outcome = Outcome(1, faults=Counter({"cut": 3}), recovered_s=[1.0, 2.0, 19.0], seconds=3600, cpu_s=60)
    found = figures([outcome])
    each = [1.0, 2.0, 19.0]
    assert found["recovered_s"] == {"count": 3, "p50": 2.0, "p99": 19.0, "max": 19.0, "late": 1, "each": each}
    assert set(found["faults_never"]) == set(ALL) - {"cut"}
    assert "cut 3" in table(found)
    assert set(DAEMON) >= MARKET


def test_counts_of_the_table_stand_apart_however_long_their_names_are() -> None:
    """What was reached of the orders' table has names of eighty characters."""
    rows = {
        f"life ACTIVE + cancel over amend / amend refused, or not sent, number {number}": 7
        for number in range(5)
    }
    text = table(figures([Outcome(1, reached=Counter({"exit": 1, **rows}), seconds=3600, cpu_s=60)]))
    lines = text.split("\n")
    assert "  exit 1" in lines
    assert [line.split("  ")[1:] for line in lines if "over amend" in line] == [
        [f"{name} 7"] for name in rows
    ]


def test_merged_figures_are_those_of_one_run_of_all_seeds() -> None:
    """Whether a campaign was run at once or in parts, on one machine or several."""
    outcomes = [
        Outcome(1, faults=Counter({"cut": 3}), recovered_s=[1.0, 9.0], seconds=3600, cpu_s=60, quoted_s=1800),
        Outcome(2, violations=[Violation("INV-01", 3.0, "x")], seconds=7200, cpu_s=30, quoted_s=7200),
        Outcome(3, reached=Counter({"exit": 1}), recovered_s=[2.0], pauses=["p"], seconds=3600, cpu_s=90),
    ]
    assert merged([figures(outcomes[:1]), figures(outcomes[1:])]) == figures(outcomes)
