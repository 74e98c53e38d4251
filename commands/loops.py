"""The event loop that the daemon runs on."""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop where that can be imported, else an ordinary one: they differ in speed only."""
    try:
        from commands.uv_loop import UvLoop
    except ImportError:
        return asyncio.new_event_loop()
    return UvLoop()
