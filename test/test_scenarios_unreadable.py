"""Messages that nobody can read, on every stream at once: they are left out, and nothing ends for them."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from core.exit_code import ExitCode
from test.daemon import SlowConnection, World, in_a_world


def no_text(message: bytes) -> bytes:
    """A byte that is no UTF-8 in the place of the symbol."""
    return message.replace(b'"BTCUSDT"', b'"\xff"')


def no_number(message: bytes) -> bytes:
    """Words for prices."""
    return re.sub(rb'"p": ?"[0-9.]+"', b'"p":"much"', message)


def no_end(message: bytes) -> bytes:
    """A field that nobody knows, nested deeper than anybody reads."""
    return message[:-1] + b',"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}"


@pytest.mark.parametrize("damaged", [no_text, no_number, no_end])
def test_message_that_cannot_be_read_ends_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: Callable[[bytes], bytes]
) -> None:
    """Two seconds of them: no worker is started again, and the quotes are there afterwards."""
    seen: list[bytes] = []
    receive = SlowConnection.receive

    async def story(world: World) -> None:
        async def receive_damaged(connection: SlowConnection) -> str | bytes:
            message = await receive(connection)
            data = message.encode() if isinstance(message, str) else message
            if world.now_s < from_s or world.now_s > from_s + 2 or damaged(data) == data:
                return message
            seen.append(data)
            return damaged(data)

        from_s = 1e9
        monkeypatch.setattr(SlowConnection, "receive", receive_damaged)
        world.start(market_data={"depth": "top20"})
        await world.until_quoting()
        from_s = world.now_s
        await asyncio.sleep(3)
        await world.until_quoting(15)
        assert {b"markPriceUpdate", b"aggTrade"} <= {kind for one in seen for kind in _KINDS if kind in one}
        assert await world.end() is ExitCode.STOPPED
        assert "worker_restarted" not in world.events("engine_event")

    in_a_world(tmp_path, story)


_KINDS = (b"markPriceUpdate", b"aggTrade", b"bookTicker", b"depthUpdate", b"ORDER_TRADE_UPDATE")
