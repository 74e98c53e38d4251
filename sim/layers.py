"""What faults lay over the exchange's own state, so that overlapping ones end each at its own time.

The newest layer that is still in force counts, whichever was laid first; below all of them is what was there before.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

Undo = Callable[[int], None]


@dataclass(slots=True, eq=False)
class _Layer:
    """One value in force; layers of equal values are still different ones."""

    value: Any


@dataclass(slots=True)
class Layers:
    """The layers of everything that faults change, by a name of what they change."""

    _stacks: dict[Hashable, list[_Layer]] = field(default_factory=dict)

    def lay(self, name: Hashable, *, value: Any, own: Any, show: Callable[[Sequence[Any]], None]) -> Undo:
        """Have ``value`` be in force, and return what ends it.

        ``own`` is what holds without faults. ``show`` is given the values in force, ``own`` first, the newest last.
        """
        stack, layer = self._stacks.setdefault(name, [_Layer(own)]), _Layer(value)
        stack.append(layer)
        show([each.value for each in stack])

        def lift(_now_ms: int) -> None:
            stack.remove(layer)
            show([each.value for each in stack])
            if len(stack) == 1:
                del self._stacks[name]

        return lift


def together(undos: Sequence[Undo]) -> Undo:
    """Return what undoes all of these."""

    def undo(now_ms: int) -> None:
        for each in undos:
            each(now_ms)

    return undo
