"""The worker that watches what the machine has left: memory of the process, space on its disks."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from core.events import EngineEvent, EngineKind, EventBus
from utils.background import RunBlocking
from utils.machine import Machine

log = logging.getLogger(__name__)

LEAST_FREE_MB = 5
"""With less no daemon starts: its journal and its state could not be written."""
LOW_FREE_MB = 200
"""Below this there is an alarm, and finished days of metrics are removed; those of six hours take as much."""


class ResourceWatch:
    """Raises an alarm while a disk is nearly full, and has the daemon stopped in order when it holds too much memory.

    ``max_memory_mb`` of 0 means no bound. ``stop`` is called with the reason, once, when memory was over it in
    ``LOOKS_OVER`` looks in a row: soon the system would end the process without asking.
    """

    name = "resources"
    EVERY_S = 10.0
    LOOKS_OVER = 3
    WELL_SHARE = 1.25
    """A disk is well again with so much more than ``LOW_FREE_MB``: files come and go."""

    def __init__(
        self,
        machine: Machine,
        folders: Sequence[Path],
        max_memory_mb: int,
        bus: EventBus,
        run_blocking: RunBlocking,
        stop: Callable[[str], None],
    ) -> None:
        self._machine = machine
        self._folders = folders
        self._max_memory_mb = max_memory_mb
        self._bus = bus
        self._run_blocking = run_blocking
        self._stop = stop
        self._over = 0
        self._low: set[Path] = set()

    async def run(self) -> None:
        """Look every ten seconds until cancelled."""
        self._say_if_memory_cannot_be_bounded()
        while True:
            await asyncio.sleep(self.EVERY_S)
            self._look_at_memory()
            for folder in self._folders:
                await self._look_at_disk(folder)

    def _say_if_memory_cannot_be_bounded(self) -> None:
        if self._max_memory_mb and not self._machine.memory_mb():
            log.warning(
                "safety.max_memory_mb of %d does nothing: this system does not say how much memory is held, as Linux"
                " does",
                self._max_memory_mb,
            )

    def _look_at_memory(self) -> None:
        held_mb = self._machine.memory_mb()
        self._over = self._over + 1 if 0 < self._max_memory_mb < held_mb else 0
        if self._over == self.LOOKS_OVER:
            text = f"{held_mb:.0f} MB of memory are held, more than safety.max_memory_mb of {self._max_memory_mb}"
            log.critical("stopping in order, to be started again: %s", text)
            self._bus.publish(EngineEvent(EngineKind.MEMORY, text))
            self._stop(text)

    async def _look_at_disk(self, folder: Path) -> None:
        left_mb = 0.0

        def ask() -> None:
            nonlocal left_mb
            left_mb = self._machine.free_mb(folder)

        try:
            await self._run_blocking(ask)
        except OSError:
            return  # whoever cannot write there says so
        if left_mb < LOW_FREE_MB and folder not in self._low:
            self._low.add(folder)
            text = f"only {left_mb:.0f} MB are left on the disk of {folder}"
            log.error("%s; make room, or no orders can be placed soon", text)
            self._bus.publish(EngineEvent(EngineKind.DISK_TROUBLE, text))
        elif left_mb > LOW_FREE_MB * self.WELL_SHARE and folder in self._low:
            self._low.discard(folder)
            self._bus.publish(EngineEvent(EngineKind.DISK_WELL, f"{left_mb:.0f} MB are left for {folder}"))
