"""Our knowledge of orders against the exchange's, with every message late, twice, lost, or found again."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from .order_life import ACTIONS, Story, live

ROOT = Path(__file__).resolve().parents[1]
STEPS = 10_000
EXAMPLES = 60
STEPS_OF_AN_EXAMPLE = 50


class OrderLife(RuleBasedStateMachine):
    """A story whose every turn Hypothesis chooses, so that one that fails comes back as short as can be."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()

    @rule(
        name=st.sampled_from([name for name, weight in ACTIONS.items() for _ in range(weight)]),
        data=st.data(),
    )
    def act(self, name: str, data: st.DataObject) -> None:
        """Let one thing happen."""
        OrderLife.steps += 1
        self.story.act(name, lambda most: data.draw(st.integers(0, most - 1)))

    def teardown(self) -> None:
        """Lose all that is on its way, and look everything up."""
        self.story.rest(lambda _most: 0)


def test_known_orders_equal_the_exchange_whatever_hypothesis_thinks_of() -> None:
    """Rank and executed quantity never fall, an end stays, what rests counts, and at rest the two books are equal."""
    OrderLife.steps = 0
    run_state_machine_as_test(
        OrderLife,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS_OF_AN_EXAMPLE, deadline=None),
    )
    assert OrderLife.steps > EXAMPLES


def test_known_orders_equal_the_exchange_over_ten_thousand_steps_of_chance(seed: int) -> None:
    """The same over longer stories, another one each time; everything that may happen does."""
    happened = live(seed, STEPS)
    assert sum(happened[name] for name in ACTIONS) == STEPS
    assert all(happened[name] > 0 for name in ACTIONS)
    assert happened["orders"] > STEPS / 20


def test_seed_always_makes_the_same_story() -> None:
    """Whoever repeats a failure sees it again."""
    assert live(5, 300) == live(5, 300) != live(6, 300)


def test_story_reaches_every_way_in_which_orders_end() -> None:
    """Filled, cancelled, crossed by an amend, expired in the match, refused."""
    ends: Counter[str] = Counter()
    for seed in range(8):
        for name, count in live(seed, 500).items():
            ends[name] += count
    assert {
        "end FILLED",
        "end CANCELLED",
        "end EXPIRED",
        "end EXPIRED_IN_MATCH",
        "end REJECTED",
    } <= set(ends)


def test_command_line_says_how_it_went_and_with_which_seed() -> None:
    """``python -m test.order_life --steps 1000000 --seed N`` is the long form."""
    ended = subprocess.run(
        [sys.executable, "-m", "test.order_life", "--steps", "300"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("ok: 300 steps with --seed ")
