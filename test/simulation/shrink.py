"""Makes a plan that breaks a rule shorter, as long as it still breaks that rule: fewer rounds, fewer faults, sooner."""

from collections.abc import Callable
from dataclasses import replace

from test.simulation.plan import Plan, TimedFault
from test.simulation.run import Outcome, run_plan

MOST_RUNS = 150
_FIRST_S = 15.0
_AFTER_S = 1.0


class Shrinker:
    """Tries shorter plans, at most ``most_runs`` of them; ``told`` hears of each that still fails."""

    def __init__(
        self,
        rule: str,
        *,
        most_runs: int = MOST_RUNS,
        told: Callable[[str], None] = lambda _text: None,
        run: Callable[[Plan], Outcome] = run_plan,
    ) -> None:
        self._rule = rule
        self._left = most_runs
        self._told = told
        self._run = run

    def shrink(self, plan: Plan) -> Plan:
        """Return the shortest plan found that still breaks the rule; the plan itself if it does not break it."""
        at_s = self._broken_at_s(plan)
        if at_s is None:
            return plan
        plan = self._until(plan, at_s)
        plan = self._last_round_alone(plan)
        plan = self._fewer(plan)
        return self._sooner(plan)

    def _broken_at_s(self, plan: Plan) -> float | None:
        """Return when the plan breaks the rule, None if it does not, or no run is left."""
        if self._left <= 0:
            return None
        self._left -= 1
        broken = [each.at_s for each in self._run(plan).violations if each.rule == self._rule]
        if broken:
            self._told(f"{len(plan.faults)} faults break {self._rule} at {broken[0]:.2f} s")
        return broken[0] if broken else None

    def _until(self, plan: Plan, at_s: float) -> Plan:
        """Return the plan without what comes after the violation."""
        faults = tuple(each for each in plan.faults if each.at_s <= at_s)
        rounds = min(plan.rounds, int(at_s // plan.round_s) + 1)
        shorter = replace(plan, faults=faults, rounds=rounds)
        return shorter if self._broken_at_s(shorter) is not None else plan

    def _last_round_alone(self, plan: Plan) -> Plan:
        begin_s = (plan.rounds - 1) * plan.round_s
        faults = tuple(each for each in plan.faults if each.at_s >= begin_s)
        if len(faults) == len(plan.faults):
            return plan
        for shorter in (
            replace(plan, faults=_moved(faults, -begin_s), rounds=1),
            replace(plan, faults=faults),
        ):
            if self._broken_at_s(shorter) is not None:
                return shorter
        return plan

    def _fewer(self, plan: Plan) -> Plan:
        """Return the plan with only those faults that it takes: halves are left out first, then ever smaller parts."""
        faults, size = list(plan.faults), max(1, len(plan.faults) // 2)
        while self._left > 0:
            at, shrunk = 0, False
            while at < len(faults) and self._left > 0:
                rest = [*faults[:at], *faults[at + size :]]
                if self._broken_at_s(plan.with_faults(tuple(rest))) is not None:
                    faults, shrunk = rest, True
                else:
                    at += size
            if size == 1 and not shrunk:
                break
            size = max(1, size // 2)
        return plan.with_faults(tuple(faults))

    def _sooner(self, plan: Plan) -> Plan:
        """Return the plan begun earlier and with a storm no longer than its faults."""
        if plan.rounds > 1 or not plan.faults:
            return plan
        for by_s in (plan.faults[0].at_s - _FIRST_S, 0.0):
            faults = _moved(plan.faults, -max(by_s, 0.0))
            storm_s = max(each.at_s + each.for_s for each in faults) + _AFTER_S
            quiet_s = plan.round_s - plan.storm_s
            shorter = replace(
                plan, faults=faults, storm_s=round(storm_s, 2), round_s=round(storm_s + quiet_s, 2)
            )
            if storm_s < plan.storm_s and self._broken_at_s(shorter) is not None:
                return shorter
        return plan


def _moved(faults: tuple[TimedFault, ...], by_s: float) -> tuple[TimedFault, ...]:
    return tuple(replace(each, at_s=round(each.at_s + by_s, 2)) for each in faults)
