"""What a seed makes of a storm: which kinds of fault there are, how often each, and when.

Each seed enables about a quarter of all kinds, at least three, and gives them weights of its own: a seed that has few
kinds drives each of them deeper than one that has all. Faults come in bursts, with calm in between.
"""

import random
from collections.abc import Sequence

from test.simulation.kinds import AIMED, ALL, RARE
from test.simulation.plan import ROUND_S, STORM_S, Plan, TimedFault

SHARE = 0.25
LEAST_KINDS = 3
MIDNIGHT_SHARE = 0.33
KEEPS_BOOK_EVERY = 4
PRICE_MOVES = ("jump", "flash_crash", "move-market", "mark-offset")
MOVED_WITHIN_S = 13.0
_RARELY = 0.2


def draw_plan(
    seed: int,
    *,
    hours: float,
    faults_per_hour: float,
    kinds: Sequence[str] | None = None,
    events_per_second: float = 20.0,
) -> Plan:
    """Return the plan of a seed; with ``kinds``, only those are enabled."""
    rng = random.Random(f"swarm/{seed}")
    enabled = list(kinds) if kinds is not None else draw_kinds(rng)
    weights = [rng.uniform(0.2, 1.0) * (_RARELY if kind in RARE else 1.0) for kind in enabled]
    rounds = max(1, round(hours * 3600 / ROUND_S))
    each = faults_per_hour * hours / rounds
    faults = [
        fault for number in range(rounds) for fault in _storm(rng, number * ROUND_S, each, enabled, weights)
    ]
    if kinds is None:
        faults += _aimed(random.Random(f"aimed/{seed}"), rounds)
    return Plan(
        seed=seed,
        faults=tuple(sorted(faults, key=lambda fault: fault.at_s)),
        rounds=rounds,
        mode=rng.choice(("amend", "amend", "replace")),
        transport=rng.choice(("rest", "rest", "ws")),
        offset_percent=rng.choice((0.01, 0.03, 0.1)),
        events_per_second=events_per_second,
        midnight_s=_midnight_s(seed, faults, 1.0 if kinds is not None else MIDNIGHT_SHARE),
        keeps_book="depth-gap" in enabled and (kinds is not None or seed % KEEPS_BOOK_EVERY == 0),
    )


def _midnight_s(seed: int, faults: Sequence[TimedFault], share: float) -> float:
    """Return when a day ends in the run of a seed, of so many of them, 0 for never: where it can, without a daemon.

    And where it can, not just after the price was moved, so that there is no doubt about the price of midnight.
    """
    rng = random.Random(f"midnight/{seed}")
    if not faults or rng.random() >= share:
        return 0.0
    moves_s = [each.at_s for each in faults if each.kind in PRICE_MOVES]
    absent = [each for each in faults if each.kind in ("vanish", "stop")]
    times_s = [round(each.at_s + rng.random() * max(1.0, each.for_s), 1) for each in absent or faults]
    clear_s = [at_s for at_s in times_s if not any(-MOVED_WITHIN_S < each - at_s < 2 for each in moves_s)]
    return rng.choice(clear_s or times_s)


def _aimed(rng: random.Random, rounds: int) -> list[TimedFault]:
    """Return the aimed faults of a quarter of the seeds, one a round; drawn apart, so that all else stays the same."""
    if rng.random() >= SHARE:
        return []
    faults = []
    for number in range(rounds):
        kind = rng.choice(list(AIMED))
        at_s = number * ROUND_S + rng.uniform(20.0, STORM_S - 60.0)
        faults.append(TimedFault(round(at_s, 2), kind, AIMED[kind](rng)))
    return faults


def draw_kinds(rng: random.Random) -> list[str]:
    """Return the kinds that are enabled: each with a chance of a quarter, and no fewer than three."""
    enabled = [kind for kind in ALL if rng.random() < SHARE]
    while len(enabled) < LEAST_KINDS:
        enabled = sorted({*enabled, rng.choice(list(ALL))})
    return enabled


def _storm(
    rng: random.Random, begin_s: float, number: float, kinds: list[str], weights: list[float]
) -> list[TimedFault]:
    """Return about so many faults, in bursts; each is over at the end of the storm."""
    count = int(number) + (rng.random() < number % 1)
    bursts = [rng.uniform(0.0, STORM_S) for _ in range(max(1, count // 6))]
    faults = []
    for kind in rng.choices(kinds, weights, k=count):
        at_s = min(
            max(rng.choice(bursts) + rng.expovariate(1 / 8.0), 12.0 if not begin_s else 0.0), STORM_S - 1
        )
        values = {**ALL, **AIMED}[kind](rng)
        if "for_s" in values:
            values["for_s"] = round(max(0.001, min(values["for_s"], STORM_S - at_s)), 3)
        faults.append(TimedFault(round(begin_s + at_s, 2), kind, values))
    return faults
