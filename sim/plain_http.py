"""A short way through HTTP for plain requests, beside the way that aiohttp goes for all others.

Nearly every request is plain: it arrives whole and alone, in HTTP/1.1 on a connection that stays, in letters that
need no second look, from a client that has read all its replies. Such a one is answered where it is read, without a
task and without objects on the way. The first bytes of a connection that are not a plain request go to aiohttp, and
so does everything behind them: bodies that come later, pipelines, WebSockets, slow readers, whatever is not HTTP. What
a client gets is the same, byte for byte.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE

from sim.messages import Request, Response

Answer = Callable[[Request], Response | None]
"""Gives the reply to a request at once; None if the request has to go the long way."""

_LONGEST = 4096
_MOST_HEADERS = 64
_START = re.compile(rb"(GET|POST|PUT|DELETE) (/[A-Za-z0-9/._~%&=+:,@!$'()*;?-]*) HTTP/1\.1\Z")
_HEADER = re.compile(rb"([A-Za-z0-9-]+):[ \t]*([!-~]|[!-~][ -~]*[!-~])[ \t]*\Z")
_STAYS = "keep-alive"
_WITH_MEANING = frozenset({"content-encoding", "expect", "trailer", "transfer-encoding", "upgrade"})


class PlainServer(web.Server):
    """A server that tries `answer` on plain requests before `handler` is asked."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Any],
        answer: Answer,
        clock_ms: Callable[[], int],
        **kwargs: Any,
    ) -> None:
        super().__init__(handler, **kwargs)
        self._options = kwargs
        self._answer = answer
        self._writer = _ReplyWriter(clock_ms)

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self, self._answer, self._writer, self._options)


class _Connection(web.RequestHandler):
    """One connection, which is aiohttp's from the first bytes on that are not a plain request."""

    __slots__ = ("_answer", "_is_plain", "_known", "_lines", "_writer")

    def __init__(
        self, server: web.Server, answer: Answer, writer: "_ReplyWriter", options: Mapping[str, Any]
    ) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._answer = answer
        self._writer = writer
        self._is_plain = True
        self._lines = b""
        self._known: Mapping[str, str] = {}

    def data_received(self, data: bytes) -> None:
        """The request has been answered, or aiohttp has it."""
        if self._is_plain:
            if self._answer_plainly(data):
                return
            self._is_plain = False
        super().data_received(data)

    def _answer_plainly(self, data: bytes) -> bool:
        transport = self.transport
        if not isinstance(transport, asyncio.Transport) or transport.is_closing():
            return False
        if len(data) > _LONGEST or transport.get_write_buffer_size():
            return False
        request = self._read(data)
        response = None if request is None else self._answer(request)
        if response is None:
            return False
        self.keep_alive(False)  # noqa: FBT003  aiohttp's timer would think that it had been idle all the time
        transport.write(self._writer.as_bytes(response))
        return True

    def _read(self, data: bytes) -> Request | None:
        """Return the request that `data` is, whole and alone; None if it is not a plain one."""
        head, mark, body = data.partition(b"\r\n\r\n")
        start, _, lines = head.partition(b"\r\n")
        if not mark or (match := _START.match(start)) is None:
            return None
        if lines != self._lines:  # else they are those of the request before, as they nearly always are
            known = _plain_headers(lines)
            if known is None:
                return None
            self._lines, self._known = lines, known
        if self._known.get("content-length", "0") != str(len(body)):
            return None
        method, target = match.groups()
        path, _, query = target.decode("ascii").partition("?")
        return Request(method.decode("ascii"), path, query, self._known, body.decode("utf-8", "replace"))


def _plain_headers(lines: bytes) -> dict[str, str] | None:
    """Return headers by their names in lower case; None if one is not plain or has to do with the connection."""
    found: dict[str, str] = {}
    rows = lines.split(b"\r\n")
    for row in rows:
        if (match := _HEADER.match(row)) is None:
            return None
        found[match[1].decode("ascii").lower()] = match[2].decode("ascii")
    is_plain = (
        "host" in found
        and len(found) == len(rows) <= _MOST_HEADERS
        and found.get("connection", _STAYS).lower() == _STAYS
        and _WITH_MEANING.isdisjoint(found)
    )
    return found if is_plain else None


class _ReplyWriter:
    """Puts replies into HTTP; the end of their heads is made anew once a second."""

    __slots__ = ("_clock_ms", "_end", "_second")

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._second = -1
        self._end = ""

    def as_bytes(self, response: Response) -> bytes:
        """Return the reply as it goes over the wire."""
        second = self._clock_ms() // 1000
        if second != self._second:
            date = formatdate(second, usegmt=True)
            self._second, self._end = second, f"\r\nDate: {date}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
        body, reason = response.body, _PHRASES.get(response.status, "")
        lines = "".join([f"{name}: {value}\r\n" for name, value in response.headers.items()])
        head = f"HTTP/1.1 {response.status} {reason}\r\n{lines}Content-Length: {len(body)}{self._end}"
        return head.encode() + body


_PHRASES = {status.value: status.phrase for status in HTTPStatus}
