"""A bounded queue of facts that knows which of them may be left out. Pure."""

from collections import deque
from typing import Generic, TypeVar

F = TypeVar("F")


class FactQueue(Generic[F]):
    """Facts in the order in which they came, at most ``capacity`` of them.

    When it is full, the oldest fact that may be left out makes room and is counted in ``dropped``. A fact that must not
    be left out goes only when nothing but such facts waits: then the oldest of them is lost and counted in ``lost``.
    """

    __slots__ = ("_capacity", "_kept", "_loose", "_sequence", "dropped", "lost", "most")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a queue holds at least one fact, not {capacity}")
        self._capacity = capacity
        self._kept: deque[tuple[int, F]] = deque()
        self._loose: deque[tuple[int, F]] = deque()
        self._sequence = 0
        self.dropped = 0
        self.lost = 0
        self.most = 0
        """The most facts that have waited at once."""

    def __len__(self) -> int:
        return len(self._kept) + len(self._loose)

    def put(self, fact: F, *, may_drop: bool) -> bool:
        """Add a fact; return False if one that must not be left out was lost for it."""
        lost_before = self.lost
        if len(self) >= self._capacity and not self._make_room(may_drop=may_drop):
            return True
        self._sequence += 1
        (self._loose if may_drop else self._kept).append((self._sequence, fact))
        self.most = max(self.most, len(self))
        return self.lost == lost_before

    def _make_room(self, *, may_drop: bool) -> bool:
        """Let the fact go that is missed the least; return False if that is the new one."""
        if self._loose:
            self._loose.popleft()
            self.dropped += 1
            return True
        if may_drop:
            self.dropped += 1
            return False
        self._kept.popleft()
        self.lost += 1
        return True

    def take(self) -> F:
        """Remove the oldest fact and return it; IndexError when there is none."""
        kept, loose = self._kept, self._loose
        if loose and (not kept or loose[0][0] < kept[0][0]):
            return loose.popleft()[1]
        return kept.popleft()[1]
