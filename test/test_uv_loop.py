"""Descriptors of connections that are given up while they open."""

import asyncio
import errno
import os
import socket

import aiohttp
import pytest

from commands.loops import new_event_loop

_MOST_TURNS = 60
"""Turns of the loop in which a request to a server on this machine has long been written."""


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a connection and whatever is sent; answer nothing."""
    await reader.read()
    writer.close()


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
    return True


@pytest.mark.parametrize("turns", range(_MOST_TURNS))
def test_request_that_is_cancelled_at_any_turn_leaves_no_socket_that_believes_to_be_open(turns: int) -> None:
    """Such a socket would close, when it is collected, whatever has its number by then."""
    made: list[socket.socket] = []

    def socket_of(address: "aiohttp.AddrInfoType") -> socket.socket:
        family, kind, protocol, _, _ = address
        made.append(socket.socket(family, kind, protocol))
        return made[-1]

    async def cancelled() -> tuple[list[int], list[bool]]:
        server = await asyncio.start_server(_silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=socket_of))
        request = asyncio.ensure_future(session.get(f"http://127.0.0.1:{port}/"))
        for _ in range(turns):
            await asyncio.sleep(0)
        numbers = [made_socket.fileno() for made_socket in made]
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await session.close()
        await asyncio.sleep(0.01)
        after = [made_socket.fileno() for made_socket in made]
        are_open = [_is_open(number) for number in numbers if number >= 0]
        for made_socket in made:
            made_socket.detach()
        server.close()
        return after, are_open

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        after, are_open = runner.run(cancelled())
    assert after == [-1] * len(made)
    assert not any(are_open)


def test_connection_that_opens_is_left_as_it_is() -> None:
    """The socket is the loop's until the transport ends, and closed then."""

    async def opened() -> None:
        server = await asyncio.start_server(_silent, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as dialled:
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=dialled)
            number = dialled.fileno()
            assert _is_open(number)
            transport.close()
            await asyncio.sleep(0.01)
            assert dialled.fileno() == -1
            assert not _is_open(number)
        server.close()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(opened())
