"""One side of the comparison: a demo in a process of its own, read line by line."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from demo._start import DemoError

FOLDER = Path(__file__).resolve().parent
END_WITHIN_S = 5.0


class Side:
    """A demo that reports in JSON; ``figures`` are those of its last line."""

    def __init__(self, name: str, script: str, arguments: list[str]) -> None:
        self.name = name
        self.figures: Mapping[str, float] = {}
        self._command = [sys.executable, str(FOLDER / script), "--json", *arguments]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_done(self) -> bool:
        """Tell whether its last line has come."""
        return bool(self.figures.get("final"))

    async def run(self) -> None:
        """Start it and read until it ends; when this is cancelled it is asked to end, and its last line still read.

        Raises DemoError with its own sentence if it ends with a fault.
        """
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which tells the others
        )
        try:
            await self._read(process)
        except asyncio.CancelledError:
            await self._end(process)
            raise
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await self._read(process)
        except (TimeoutError, DemoError):
            pass  # what it has said until now has to do

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - for the type checker: it was asked for
        assert process.stderr is not None  # noqa: S101
        while line := await process.stdout.readline():
            self.figures = json.loads(line)
        complaint = (await process.stderr.read()).decode().strip()
        if await process.wait() != 0:
            raise DemoError(f"{self.name}: {complaint.splitlines()[-1] if complaint else 'it has failed'}")
