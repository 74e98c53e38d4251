"""A bounded queue that knows what may be left out, against a list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.event_queue import FactQueue


class Reference:
    """The same in the plainest way: a list that is searched."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.facts = capacity, list[tuple[int, bool]]()
        self.dropped = self.lost = 0

    def put(self, number: int, may_drop: bool) -> bool:
        """Add a fact; False if one that must stay was lost."""
        was_lost = self.lost
        if len(self.facts) == self.capacity:
            loose = [fact for fact in self.facts if fact[1]]
            if loose:
                self.facts.remove(loose[0])
                self.dropped += 1
            elif may_drop:
                self.dropped += 1
                return True
            else:
                self.facts.pop(0)
                self.lost += 1
        self.facts.append((number, may_drop))
        return self.lost == was_lost


@given(st.integers(1, 5), st.lists(st.sampled_from(["keep", "drop", "take"]), max_size=60))
def test_queue_equals_the_plain_one_after_every_step(capacity: int, steps: list[str]) -> None:
    """Order, room, what is left out and what is lost."""
    queue, reference = FactQueue[int](capacity), Reference(capacity)
    for number, step in enumerate(steps):
        if step != "take":
            may_drop = step == "drop"
            assert queue.put(number, may_drop=may_drop) is reference.put(number, may_drop)
        elif reference.facts:
            assert queue.take() == reference.facts.pop(0)[0]
        assert len(queue) == len(reference.facts) <= capacity
        assert (queue.dropped, queue.lost) == (reference.dropped, reference.lost)
        assert queue.most >= len(queue)


def test_empty_queue_has_nothing_to_take() -> None:
    """As with a deque."""
    with pytest.raises(IndexError):
        FactQueue[int](1).take()


def test_queue_without_room_is_refused() -> None:
    """It could hold nothing."""
    with pytest.raises(ValueError, match="at least one"):
        FactQueue[int](0)
