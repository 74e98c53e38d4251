"""The status socket: whoever of this user connects is told how the daemon is, and nothing can be asked of it.

It is a unix-domain socket in the state directory, readable by its owner only. A client that is slow, silent or one of
too many costs the daemon nothing but a bounded number of bytes for a bounded time.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from utils.quietly import quietly

log = logging.getLogger(__name__)

LONGEST_ADDRESS = 100
"""The kernel takes no longer path than about this for a socket."""
MAX_BYTES = 1_000_000


def status_path(directory: Path, account: str, symbols: Sequence[str]) -> Path:
    """Return where the daemon of these symbols on this account has its socket."""
    return directory / f"status-{account}-{'-'.join(symbols)}.sock"


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give a short name of a path of any length, good while the context lasts."""
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class StatusSocket:
    """Answers each connection with one JSON object, ``snapshot()``, and closes it.

    Opened by ``open``, closed when the context ends. What goes wrong with it is logged and stops nothing.
    """

    MAX_CLIENTS = 8
    CLIENT_S = 2.0
    KEEP_S = 0.25
    """For so long the same answer goes to everybody, however many ask."""

    def __init__(self, path: Path, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        self._snapshot = snapshot
        self._clients = 0
        self._answer = (float("-inf"), b"")
        self._socket: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            quietly(lambda: self._path.unlink(missing_ok=True))

    def open(self) -> None:
        """Have the socket answer from now on; call it on the event loop, once the symbols are known to be ours."""
        if self._socket is not None:
            return
        try:
            self._socket = self._bound()
        except OSError as error:
            log.warning("there is no status socket: %s: %s", self._path, error.strerror or error)
            return
        self._serving = asyncio.get_running_loop().create_task(
            self._serve(self._socket), name="status socket"
        )

    def _bound(self) -> socket.socket:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _address(self._path) as address:
                if _answers(address):
                    raise OSError("another daemon answers there")
                self._path.unlink(missing_ok=True)
                os.fchmod(server.fileno(), 0o600)  # before it has a name: nobody else can slip in
                server.bind(address)
            server.listen(self.MAX_CLIENTS)
        except BaseException:
            server.close()
            raise
        return server

    async def _serve(self, server: socket.socket) -> None:
        listening = await asyncio.start_unix_server(self._tell, sock=server, limit=1024)
        async with listening:
            await listening.serve_forever()

    async def _tell(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= self.MAX_CLIENTS:
                async with asyncio.timeout(self.CLIENT_S):
                    writer.write(self._text())
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (TimeoutError, OSError):
            log.debug("a client of the status socket went away or was too slow")
        finally:
            self._clients -= 1
            writer.transport.abort()

    def _text(self) -> bytes:
        now_s = asyncio.get_running_loop().time()
        made_s, text = self._answer
        if now_s - made_s >= self.KEEP_S:
            try:
                text = json.dumps(self._snapshot()).encode()
            except Exception as error:
                log.exception("the status could not be made")
                text = json.dumps({"error": type(error).__name__}).encode()
            self._answer = now_s, text
        return text


def _answers(address: str) -> bool:
    """Tell whether somebody listens at this address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(0.5)
        try:
            client.connect(address)
        except OSError:
            return False
        return True


class NoStatus(Exception):
    """No daemon tells how it is; the text says why."""


def read_status(path: Path, within_s: float = 3.0) -> dict[str, Any]:
    """Return what the daemon behind this socket says. Raises NoStatus."""
    try:
        with _address(path) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(within_s)
            client.connect(address)
            text = _all_of(client)
    except TimeoutError:
        raise NoStatus(f"a daemon does not answer within {within_s:g} s: it is stopped or stuck") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoStatus("no daemon is running") from None
    except OSError as error:
        raise NoStatus(f"whether a daemon is running cannot be asked ({error.strerror})") from None
    try:
        status = json.loads(text)
    except ValueError:
        raise NoStatus("a daemon's answer cannot be read; it may just be starting or ending") from None
    if not isinstance(status, dict) or "symbols" not in status:
        raise NoStatus("a daemon cannot say how it is; its log says why")
    return status


def _all_of(client: socket.socket) -> bytes:
    text = b""
    while len(text) <= MAX_BYTES and (part := client.recv(65_536)):
        text += part
    return text
