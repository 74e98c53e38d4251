"""A long outage: the daemon comes back by itself, soon after it can."""

import asyncio
from pathlib import Path

from core.exit_code import ExitCode
from test.daemon import World, in_a_world


def test_quotes_are_back_soon_after_an_outage_of_minutes(tmp_path: Path) -> None:
    """No name resolves for three minutes: it is tried for ever and never at long intervals, so 15 s later six rest."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.link.cut()
        await asyncio.sleep(180)
        assert world.ours() == []
        world.link.restore()
        await world.until_quoting(15)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)
