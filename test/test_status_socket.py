"""The status socket answers its owner, and nobody can hold it up."""

import asyncio
import socket
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from commands.resume import resume
from commands.status import status
from core.settings import settings_from
from core.status_socket import NoStatus, StatusSocket, read_status
from utils.config_loader import get_config

GOOD = {"symbols": {}}
LARGE = {"symbols": {}, "padding": "x" * 900_000}
"""More than the kernel keeps for a client that does not read."""


class Impatient(StatusSocket):
    """A status socket that waits for no client for long."""

    CLIENT_S = 0.4


def with_socket(path: Path, status: Callable[[], Any], story: Callable[[], Awaitable[None]]) -> None:
    """Let a story happen beside a status socket."""

    async def play() -> None:
        async with Impatient(path, status) as door:
            door.open()
            await asyncio.sleep(0.05)
            await story()

    asyncio.run(play())


async def read(path: Path) -> dict[str, Any]:
    """What a client is told, without holding up the loop that tells it."""
    return await asyncio.to_thread(read_status, path)


def test_owner_is_answered_and_the_socket_is_gone_in_the_end(tmp_path: Path) -> None:
    """At a path of any length, over what a killed daemon has left; nobody else of the machine may connect."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    path = folder / "status.sock"

    async def story() -> None:
        assert await read(path) == GOOD
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    path.touch()
    with_socket(path, lambda: GOOD, story)
    assert not path.exists()
    with pytest.raises(NoStatus, match="no daemon is running"):
        read_status(path)


def test_clients_that_do_not_read_are_few_and_soon_gone(tmp_path: Path) -> None:
    """Eight of them take all places: a ninth is sent away; when their time is over there is room again."""
    path = tmp_path / "s"

    async def story() -> None:
        silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(StatusSocket.MAX_CLIENTS)]
        for client in silent:
            client.setblocking(False)
            client.connect(str(path))
        await asyncio.sleep(0.1)
        with pytest.raises(NoStatus):
            await read(path)
        await asyncio.sleep(0.5)
        assert await read(path) == LARGE
        for client in silent:
            client.close()

    with_socket(path, lambda: LARGE, story)


def test_status_that_cannot_be_made_harms_nobody(tmp_path: Path) -> None:
    """The client is told so, and the next one may have more luck."""
    answers: list[Any] = []

    def status() -> Any:
        return answers.pop()

    async def story() -> None:
        with pytest.raises(NoStatus, match="cannot say how it is"):
            await read(tmp_path / "s")
        answers.append(GOOD)
        await asyncio.sleep(StatusSocket.KEEP_S + 0.05)
        assert await read(tmp_path / "s") == GOOD

    with_socket(tmp_path / "s", status, story)


def test_socket_of_a_daemon_that_lives_is_left_alone(tmp_path: Path) -> None:
    """A second one goes without, and does not take the first one's away."""
    path = tmp_path / "s"

    async def story() -> None:
        async with StatusSocket(path, lambda: {"symbols": {"second": {}}}) as second:
            second.open()
            await asyncio.sleep(0.05)
            assert await read(path) == GOOD
        assert await read(path) == GOOD

    with_socket(path, lambda: GOOD, story)


def test_daemon_that_is_stuck_is_told_from_none(tmp_path: Path) -> None:
    """Somebody holds the socket, and does not answer."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        began_s = time.monotonic()
        with pytest.raises(NoStatus, match="stopped or stuck"):
            read_status(path, 0.2)
        assert time.monotonic() - began_s < 2


def test_socket_that_does_not_let_anybody_in_is_told_from_none(tmp_path: Path) -> None:
    """Its backlog is full, or it may not be opened: a daemon may well be there."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
            first.connect(str(path))
            with pytest.raises(NoStatus, match=r"cannot be asked \(Resource temporarily unavailable\)"):
                read_status(path)
    with pytest.raises(NoStatus, match="no daemon is running"):
        read_status(path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(NoStatus, match="cannot be asked"):
        read_status(path)


def test_status_and_resume_name_the_folder_in_which_they_found_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever left ``--config`` out asks about another one than they mean."""
    (tmp_path / "config.yaml").write_text(f"state_directory: {tmp_path}\n", encoding="utf-8")
    (tmp_path / ".env").touch()
    settings = settings_from(get_config(tmp_path / ".env", tmp_path / "config.yaml"))
    status(settings, as_object=False)
    resume(settings, accept_loss=False)
    told, cleared = capsys.readouterr().out.splitlines()
    assert told == f"status: no daemon is running (paper-embedded, BTCUSDT, in {tmp_path})"
    assert cleared == f"BTCUSDT: no halt stands on paper-embedded in {tmp_path}"
