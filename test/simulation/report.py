"""What the runs of many seeds come to: figures, and a table of which faults struck and which branches were reached."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from test.simulation.kinds import ALL
from test.simulation.run import Outcome

RECOVERS_SOON_S = 15.0
"""99 of 100 times quotes are to be back within this time."""
_LIFE = "life "
"""So begins what is counted of the table of an order's life."""
_LINE_WIDTH = 136
_MIN_CELL_WIDTH = 34


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so much of all values do not exceed, 0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _summary(seconds: list[float]) -> dict[str, Any]:
    return {
        "count": len(seconds),
        "p50": percentile(seconds, 0.5),
        "p99": percentile(seconds, 0.99),
        "max": max(seconds, default=0.0),
        "late": sum(each > RECOVERS_SOON_S for each in seconds),
        "each": seconds,
    }


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what a program would want to know of these runs."""
    recovered = [each for outcome in outcomes for each in outcome.recovered_s]
    faults = sum((outcome.faults for outcome in outcomes), Counter[str]())
    reached = sum((outcome.reached for outcome in outcomes), Counter[str]())
    seconds, cpu_s = sum(each.seconds for each in outcomes), sum(each.cpu_s for each in outcomes)
    return {
        "seeds": len(outcomes),
        "hours": round(seconds / 3600, 2),
        "violations": [
            {"seed": outcome.seed, "rule": each.rule, "at_s": each.at_s, "text": each.text}
            for outcome in outcomes
            for each in outcome.violations
        ],
        "recovered_s": _summary(recovered),
        "pauses": dict(Counter(cause for outcome in outcomes for cause in outcome.pauses).most_common(20)),
        "quoted_share": round(sum(each.quoted_s for each in outcomes) / seconds, 3) if seconds else 0.0,
        "requests": sum(each.requests for each in outcomes),
        "fills": sum(each.fills for each in outcomes),
        "halts": sum(each.halts for each in outcomes),
        "strikes": sum(faults.values()),
        "faults": dict(sorted(faults.items())),
        "faults_never": sorted(set(ALL) - set(faults)),
        "reached": dict(sorted(reached.items())),
        "cpu_s": round(cpu_s, 1),
        "hours_a_minute": round(seconds / 60 / cpu_s, 2) if cpu_s else 0.0,
        "traces": {str(outcome.seed): outcome.trace for outcome in outcomes},
    }


def merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of several runs, as ``figures`` returned them, as those of one."""
    recovered = [each for part in parts for each in part["recovered_s"]["each"]]
    faults, reached, pauses = (
        sum((Counter(part[name]) for part in parts), Counter[str]())
        for name in ("faults", "reached", "pauses")
    )
    hours, cpu_s = sum(part["hours"] for part in parts), sum(part["cpu_s"] for part in parts)
    summed = ("seeds", "requests", "fills", "halts", "strikes")
    return {
        **{name: sum(part[name] for part in parts) for name in summed},
        "hours": round(hours, 2),
        "violations": [each for part in parts for each in part["violations"]],
        "recovered_s": _summary(recovered),
        "pauses": dict(pauses.most_common(20)),
        "quoted_share": round(sum(part["quoted_share"] * part["hours"] for part in parts) / hours, 3)
        if hours
        else 0.0,
        "faults": dict(sorted(faults.items())),
        "faults_never": sorted(set(ALL) - set(faults)),
        "reached": dict(sorted(reached.items())),
        "cpu_s": round(cpu_s, 1),
        "hours_a_minute": round(hours * 60 / cpu_s, 2) if cpu_s else 0.0,
        "traces": {seed: trace for part in parts for seed, trace in part["traces"].items()},
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as text for people."""
    recovered = found["recovered_s"]
    of_orders = {name: count for name, count in found["reached"].items() if name.startswith(_LIFE)}
    others = {name: count for name, count in found["reached"].items() if name not in of_orders}
    lines = [
        f"{found['seeds']} seeds, {found['hours']} hours, {found['strikes']} strikes of faults,"
        f" {found['requests']} requests, {found['fills']} fills, {found['halts']} halts cleared,"
        f" quotes rested {found['quoted_share']:.1%} of the time",
        f"back to quoting after {recovered['count']} storms: p50 {recovered['p50']} s, p99 {recovered['p99']} s,"
        f" max {recovered['max']} s; {recovered['late']} took over {RECOVERS_SOON_S:g} s",
        f"pauses before that, or instead, with a cause that was true: {found['pauses'] or 'none'}",
        f"{found['hours_a_minute']} simulated hours a minute of CPU",
        "",
        *_columns(found["faults"], "fault kinds that struck"),
        f"never: {', '.join(found['faults_never']) or 'none'}",
        "",
        *_columns(others, "branches that were reached"),
        "",
        *_columns(of_orders, "rows of the table of an order's life that were reached"),
        "",
        *("VIOLATION seed {seed} {at_s:.2f} s {rule}: {text}".format(**each) for each in found["violations"]),
        f"violations: {len(found['violations'])}",
    ]
    return "\n".join(lines)


def _columns(counts: dict[str, int], title: str) -> list[str]:
    cells = [f"{name} {number}" for name, number in counts.items()]
    cell_width = max([_MIN_CELL_WIDTH, *(len(cell) + 2 for cell in cells)])
    columns = max(1, _LINE_WIDTH // cell_width)
    rows = [cells[at : at + columns] for at in range(0, len(cells), columns)]
    return [
        f"{title} ({len(cells)}):",
        *("  " + "".join(f"{cell:<{cell_width}}" for cell in row).rstrip() for row in rows),
    ]
