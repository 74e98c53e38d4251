"""What happens in one run, as plain values: settings and timed faults, drawn from a seed or read from a short file.

A run is a chain of rounds of ``round_s`` seconds. Each begins with a storm of ``storm_s`` seconds, in which the faults
strike; the rest is quiet, and in it the daemon has to recover.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

ROUND_S = 300.0
STORM_S = 220.0


class PlanError(Exception):
    """A scenario file cannot be used as it is written; the text names the place."""


@dataclass(frozen=True, slots=True)
class TimedFault:
    """One fault: when it strikes, of what kind it is, and the kind's own values."""

    at_s: float
    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        values = " ".join(f"{name}={value}" for name, value in self.values.items())
        return f"{self.at_s:9.2f} s  {self.kind} {values}".rstrip()

    @property
    def for_s(self) -> float:
        """Return how long it lasts, 0 for one that is over at once."""
        return float(self.values.get("for_s", 0))


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: its seed, settings of the daemon, length, and faults in the order of their times."""

    seed: int
    faults: tuple[TimedFault, ...] = ()
    rounds: int = 1
    round_s: float = ROUND_S
    storm_s: float = STORM_S
    mode: str = "amend"
    transport: str = "rest"
    offset_percent: float = 0.03
    events_per_second: float = 20.0
    midnight_s: float = 0.0
    """When in the run it is 00:00 UTC; 0 for a run at some time of the day."""
    keeps_book: bool = False
    """Whether the daemon keeps a copy of the whole book, which doubles what a run costs."""
    note: str = ""

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return self.rounds * self.round_s

    def with_faults(self, faults: tuple[TimedFault, ...]) -> "Plan":
        """Return the same run with other faults."""
        return replace(self, faults=faults)


def write_plan(plan: Plan) -> str:
    """Return the plan as the text of a scenario file; read again it is equal."""
    head = {
        "note": plan.note,
        "seed": plan.seed,
        "rounds": plan.rounds,
        "round_s": plan.round_s,
        "storm_s": plan.storm_s,
        "mode": plan.mode,
        "transport": plan.transport,
        "offset_percent": plan.offset_percent,
        "events_per_second": plan.events_per_second,
        "midnight_s": plan.midnight_s,
        "keeps_book": plan.keeps_book,
    }
    faults = [{"at_s": each.at_s, "fault": each.kind, **each.values} for each in plan.faults]
    return yaml.safe_dump({**head, "faults": faults}, sort_keys=False, width=100)


def read_plan(text: str, name: str = "scenario") -> Plan:
    """Return the plan that a scenario file writes; raises PlanError."""
    try:
        root = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PlanError(f"{name}: this is no YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(root, dict):
        raise PlanError(f"{name}: there must be keys, as in `seed: 1`, and a list of faults.")
    known = set(Plan.__dataclass_fields__)
    if strange := sorted(set(root) - known):
        raise PlanError(f"{name}: a plan has no key {strange[0]}; it has {', '.join(sorted(known))}.")
    faults = root.pop("faults", [])
    if not all(isinstance(each, dict) and {"at_s", "fault"} <= each.keys() for each in faults):
        raise PlanError(f"{name}: each fault needs at_s and fault.")
    return Plan(
        **root, faults=tuple(TimedFault(each.pop("at_s"), each.pop("fault"), each) for each in faults)
    )


def load_plan(path: Path) -> Plan:
    """Return the plan of a file; raises PlanError, and OSError if it cannot be read."""
    return read_plan(path.read_text(encoding="utf-8"), path.name)
