"""Which branches a run has reached: what the daemon told of, which gates closed, which lines of an order's life."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import core.order
from core.engine import Engine
from core.events import (
    ConnectionEvent,
    EngineEvent,
    OrderEvent,
    OrderModifyFailureEvent,
    OrderResetEvent,
    RiskEvent,
)
from core.order_life import TABLE, State, Trigger, after


class Reached:
    """Counts branches by name; ``transitions`` are the lines of the table of an order's life."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def follow(self, engine: Engine) -> None:
        """Listen to a daemon that has just been started."""
        kinds = (
            OrderEvent,
            RiskEvent,
            ConnectionEvent,
            EngineEvent,
            OrderResetEvent,
            OrderModifyFailureEvent,
        )
        engine.bus.subscribe(self._note, *kinds, name="sometimes table")
        for gate in (engine.gate, engine.contexts[0].gate):
            gate.listen(lambda gate=gate: self._note_gate(gate))  # type: ignore[misc]  # bound early, on purpose

    def _note(self, event: Any) -> None:
        if isinstance(event, OrderModifyFailureEvent):
            self.counts[f"amend failed {'in doubt' if event.in_doubt else event.code}"] += 1
            return
        name = type(event).__name__.removesuffix("Event").lower()
        what = f" {event.name}" if isinstance(event, ConnectionEvent) else ""
        self.counts[f"{name}{what} {event.kind}"] += 1

    def _note_gate(self, gate: Any) -> None:
        for key in gate._reasons:
            self.counts[f"gate {key}"] += 1

    @contextmanager
    def counting_transitions(self) -> Iterator[None]:
        """Count each line of the table of an order's life that is taken meanwhile."""

        def counted(state: State, trigger: Trigger) -> State | None:
            self.counts[
                f"life {state} / {trigger}" if (state, trigger) in TABLE else "life (not in the table)"
            ] += 1
            return after(state, trigger)

        core.order.after = counted  # type: ignore[attr-defined]  # the one name by which the table is asked
        try:
            yield
        finally:
            core.order.after = after  # type: ignore[attr-defined]
