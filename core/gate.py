"""Whether quotes may be sent at all, and if not, why: the last thing asked before a quote leaves."""

from collections.abc import Callable, Mapping

from utils.quietly import quietly

STOPPING = "stopping"
"""Key and reason of the end: no fault, nothing to worry about."""


class Gate:
    """Open while there is no reason against quoting.

    Each part of the program that has an objection closes the gate under its own key, and opens it under the same key;
    the gate is open when no key is left. A gate with a ``parent`` is open only while the parent is open too.

    ``last_word`` returns an objection, or an empty string. It is asked each time, for what is true before any part of
    the program has had the chance to close the gate; listeners do not hear of it.
    """

    def __init__(self, parent: "Gate | None" = None, last_word: Callable[[], str] | None = None) -> None:
        self._reasons: dict[str, str] = {}
        self.own_reasons: Mapping[str, str] = self._reasons
        """The reason under each key at this moment, those of the parent not counted; each change of the book looks."""
        self._parent = parent
        self._last_word = last_word
        self._listeners: list[Callable[[], None]] = []

    @property
    def is_open(self) -> bool:
        """Tell whether quotes may be sent."""
        if self._reasons or (self._last_word is not None and self._last_word()):
            return False
        return self._parent is None or self._parent.is_open

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why the gate is closed, oldest reason first; empty when it is open."""
        inherited = self._parent.reasons if self._parent is not None else ()
        last = self._last_word() if self._last_word is not None else ""
        return (*inherited, *self._reasons.values(), *((last,) if last else ()))

    @property
    def closed_by(self) -> dict[str, str]:
        """Return the reason under each key, those of the parent included, oldest first."""
        inherited = self._parent.closed_by if self._parent is not None else {}
        last = self._last_word() if self._last_word is not None else ""
        return {**inherited, **self._reasons, **({"last word": last} if last else {})}

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called, in the same turn, whenever a reason comes or goes, here or at the parent."""
        self._listeners.append(listener)
        if self._parent is not None:
            self._parent.listen(listener)

    def close(self, key: str, reason: str) -> bool:
        """Close the gate for this reason; return whether the key is new."""
        is_new = key not in self._reasons
        self._reasons[key] = reason
        if is_new:
            self._notify()
        return is_new

    def open(self, key: str) -> bool:
        """Withdraw the reason under this key; return whether there was one."""
        was_closed = self._reasons.pop(key, None) is not None
        if was_closed:
            self._notify()
        return was_closed

    def _notify(self) -> None:
        """Tell the listeners; one that fails changes nothing about the gate, and nothing for the others."""
        for listener in self._listeners:
            quietly(listener)
