"""How a stream of the market is made: one connection for all symbols, whose ups and downs are told on the bus."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from core.events import ConnectionEvent, ConnectionKind, EventBus
from utils.clock import Clock
from utils.ws import Backoff, Stream, WsTransport, rotation_age_s

Target = Callable[[list[str]], str]
OnMessage = Callable[[str | bytes], None]


def _nothing() -> None:
    """Nothing else is to be done."""


@dataclass(frozen=True, slots=True)
class MarketStreams:
    """What every stream of the market is made of."""

    transport: WsTransport
    clock: Clock
    rng: random.Random
    bus: EventBus

    def open(
        self,
        name: str,
        target: Target,
        kind: str,
        symbols: Iterable[str],
        on_message: OnMessage,
        on_up: Callable[[], None] = _nothing,
        on_down: Callable[[], None] = _nothing,
    ) -> Stream:
        """Return a stream of this kind for these symbols, to be run by the caller."""
        path = target([f"{symbol.lower()}@{kind}" for symbol in symbols])

        async def fixed_target() -> str:
            return path

        def up() -> None:
            self.bus.publish(ConnectionEvent(name, ConnectionKind.UP))
            on_up()

        def down(reason: str) -> None:
            self.bus.publish(ConnectionEvent(name, ConnectionKind.DOWN, reason))
            on_down()

        return Stream(
            name,
            self.transport,
            self.clock,
            Backoff(self.rng),
            target=fixed_target,
            on_message=on_message,
            on_up=up,
            on_down=down,
            on_rotated=lambda: self.bus.publish(ConnectionEvent(name, ConnectionKind.ROTATED)),
            max_age_s=rotation_age_s(self.rng),
        )
