"""What each symbol's synthetic market is like.

The parameters of BTCUSDT and ETHUSDT are fitted to recordings of July 2024, those of NEXOUSDT roughly to a day of its
spot market; `sim.calibration` measures both sides. The others are scaled from BTCUSDT.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a symbol's market is like. Sizes are in base asset, log-normal ones by median and sigma.

    Attributes:
        start_price: Mid price at the start.
        burst_gap_ms: Mean time between bursts at median activity.
        burst_length: Mean number of updates in a burst at median activity.
        same_ms: Probability that an update of a burst falls into the same millisecond as the one before.
        step_ms: Mean time between updates of a burst that are in different milliseconds.
        activity_sigma: Sigma of the logarithm of activity, which relaxes in `activity_ms`.
        order_share: Probability that an update is a taker's order of random size.
        sweep_share: Probability, at median activity, that an update is a taker who clears levels.
        cancel_share: Probability, at median activity, that an update is a touch whose orders are all
        cancelled. pull_share: Probability that an update is makers leaving a touch nearly empty. move_power:
        Power of the activity with which those two probabilities grow. move_ticks, move_sigma: Levels that a
        sweep or a cancellation clears, log-normal. refill_share: Probability that the cleared side comes back
        instead of the other side following. lazy_share: Probability that the spread stays wide until a later
        update. mood_gain: How much mood decides the direction; it relaxes in `mood_ms`. same_side:
        Probability that a taker just takes the direction of the one before. order_base, order_sigma: Size of
        a taker's order. goal_base, goal_sigma: Size that a touch grows towards. fresh_base, fresh_sigma: Size
        of a touch that has just followed a move. deep_base, deep_sigma: Size of a level behind the touch.
        change_base, change_sigma: How much an update changes the size of the touch. events_per_s: Quotes and
        trades a second with these parameters, as measured in an hour.
    """

    start_price: str
    burst_gap_ms: float = 53.0
    burst_length: float = 2.2
    same_ms: float = 0.6
    step_ms: float = 3.0
    activity_sigma: float = 1.5
    activity_ms: float = 1800.0
    order_share: float = 0.07
    sweep_share: float = 0.0006
    cancel_share: float = 0.0005
    pull_share: float = 0.024
    move_power: float = 1.25
    move_ticks: float = 5.0
    move_sigma: float = 1.3
    refill_share: float = 0.2
    lazy_share: float = 0.1
    mood_gain: float = 0.6
    mood_ms: float = 11_000.0
    same_side: float = 0.14
    order_base: float = 0.022
    order_sigma: float = 2.3
    goal_base: float = 18.0
    goal_sigma: float = 0.6
    fresh_base: float = 1.6
    fresh_sigma: float = 1.7
    deep_base: float = 0.1
    deep_sigma: float = 1.5
    change_base: float = 0.15
    change_sigma: float = 2.0
    events_per_s: float = 112.0


_BTC = Profile(start_price="64000.00")
_ETH = replace(
    _BTC,
    start_price="3420.00",
    same_ms=0.5,
    move_ticks=3.0,
    order_base=0.145,
    goal_base=125.0,
    fresh_base=6.0,
    deep_base=0.7,
    change_base=1.1,
    move_sigma=1.25,
    order_sigma=2.45,
    events_per_s=107.0,
)
# A tick is worth so much here that the touch is deep and moves by one tick at a time.
_LARGE_TICK = replace(
    _BTC,
    move_ticks=0.4,
    move_sigma=0.6,
    pull_share=0.004,
    fresh_sigma=1.0,
    refill_share=0.55,
    mood_gain=0.2,
    events_per_s=108.0,
)
PROFILES: Mapping[str, Profile] = {
    "BTCUSDT": _BTC,
    "ETHUSDT": _ETH,
    "SOLUSDT": replace(
        _LARGE_TICK,
        start_price="170.0000",
        order_base=8.0,
        goal_base=1_200.0,
        fresh_base=300.0,
        deep_base=300.0,
        change_base=20.0,
    ),
    "XRPUSDT": replace(
        _LARGE_TICK,
        start_price="0.5700",
        sweep_share=0.0001,
        cancel_share=0.0001,
        order_base=2_200.0,
        goal_base=500_000.0,
        fresh_base=150_000.0,
        deep_base=150_000.0,
        change_base=8_000.0,
    ),
    "DOGEUSDT": replace(
        _LARGE_TICK,
        start_price="0.125000",
        order_base=9_000.0,
        goal_base=1_500_000.0,
        fresh_base=400_000.0,
        deep_base=400_000.0,
        change_base=30_000.0,
    ),
    "NEXOUSDT": replace(
        _LARGE_TICK,
        start_price="1.215",
        burst_gap_ms=5_000.0,
        burst_length=0.6,
        step_ms=400.0,
        activity_ms=30_000.0,
        mood_ms=300_000.0,
        order_share=0.16,
        sweep_share=0.002,
        cancel_share=0.006,
        lazy_share=0.9,
        refill_share=0.6,
        order_base=33.0,
        order_sigma=1.6,
        goal_base=300.0,
        fresh_base=60.0,
        deep_base=390.0,
        change_base=69.0,
        change_sigma=1.2,
        events_per_s=0.56,
    ),
}


def paced(profile: Profile, events_per_s: float) -> Profile:
    """The same market is returned with about so many quotes and trades a second.

    All gaps are longer or shorter by one factor, and the moves by its root, so that the price goes as far in a minute.
    """
    stretch = profile.events_per_s / events_per_s
    return replace(
        profile,
        burst_gap_ms=profile.burst_gap_ms * stretch,
        step_ms=profile.step_ms * stretch,
        move_ticks=profile.move_ticks * math.sqrt(stretch),
        events_per_s=events_per_s,
    )
