"""The bot of docs/clients.md, with nothing but Python's library, trades as it stands there."""

import asyncio
import re
import sys
from pathlib import Path

from .served import served

DOCUMENT = Path(__file__).parents[1] / "docs" / "clients.md"


async def test_bot_of_the_guide_places_its_order() -> None:
    """Issue 3.6: how to point one's own bot at it; the guide's program is run, with the port filled in."""
    section = DOCUMENT.read_text("utf-8").partition("\n## Your own bot\n")[2]
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    async with served() as exchange:
        program = program.replace("http://127.0.0.1:PORT", exchange.url)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", program),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (said, errors) == (b"1 NEW\n", b"")
