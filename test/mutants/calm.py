"""Half a minute of calm weather: exit code 0 if the daemon starts and quotes in it, as a mutant has to."""

import asyncio
import sys
import tempfile
from pathlib import Path

from test.daemon import World, in_a_world

SECONDS = 30


def main() -> int:
    """Let it happen; an error ends with a traceback and code 1."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting(15)
        await asyncio.sleep(SECONDS)
        await world.until_quoting(10)
        assert world.running is not None
        assert not world.running.done()

    with tempfile.TemporaryDirectory() as folder:
        in_a_world(Path(folder), story)
    return 0


if __name__ == "__main__":
    sys.exit(main())
