"""Secrets to look for afterwards, and seams that fail in turn with a secret in the error: see test_canary.py."""

import asyncio
import os
import random
import re
import string
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.errors import Disconnected, ExchangeError, OutcomeUnknown
from utils.http import HttpResponse, HttpTransport
from utils.ws import DeliversReceived, WsConnection, WsTransport

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(f"{ROOT / part}{os.sep}" for part in ("core", "utils"))


class Canaries:
    """What must not be seen: a key and a secret, and what is minted with them as it passes the transports."""

    FRAGMENT = 6
    SIGNATURE_FRAGMENT = 16
    """Six digits and letters up to f are found in some price or time now and then; six digits alone tell nothing."""

    def __init__(self, rng: random.Random) -> None:
        letters = string.ascii_letters + string.digits
        self.key, self.secret = ("".join(rng.choices(letters, k=60)) for _ in range(2))
        self.listen_keys: list[str] = []
        self.signatures: list[str] = []

    def note(self, text: str) -> None:
        """Remember what has been minted, as a request or a reply shows it."""
        for name, found in re.findall(r'(signature|listenKey)["\']?[=:]\s*["\']?([0-9A-Za-z]{16,})', text):
            kept = self.listen_keys if name == "listenKey" else self.signatures
            if found not in kept:
                kept.append(found)

    def as_an_error_would(self) -> str:
        """Return a text with all of them, whole and cut off, as the errors of libraries and exchanges hold them."""
        listen_key = self.listen_keys[-1] if self.listen_keys else ""
        signature = self.signatures[-1] if self.signatures else ""
        return (
            f"POST https://host/fapi/v1/order?symbol=BTCUSDT&timestamp=1&signature={signature} headers"
            f" {{'X-MBX-APIKEY': '{self.key}'}} secret {self.secret} url /private/ws?listenKey={listen_key}"
            f" cut {self.key[:20]} {self.secret[-9:]} {listen_key[7:23]} {self.secret[30:36]}"
        )

    def found_in(self, text: str) -> list[str]:
        """Return every fragment of a canary that the text shows."""
        fragments = {
            secret[at : at + size]
            for secrets, size in (
                ((self.key, self.secret, *self.listen_keys), self.FRAGMENT),
                (tuple(self.signatures), self.SIGNATURE_FRAGMENT),
            )
            for secret in secrets
            for at in range(len(secret) - size + 1)
            if not secret[at : at + size].isdigit()
        }
        windows = {
            text[at : at + size]
            for size in (self.FRAGMENT, self.SIGNATURE_FRAGMENT)
            for at in range(len(text) - size + 1)
        }
        return sorted(fragments & windows)


class Seams:
    """Raises once at each place of the program that calls a seam, one place after the other.

    A place is a line of core or utils, or a request by its path, with a kind of error. Nothing is raised until ``arm``
    is called, and then once.
    """

    def __init__(self, canaries: Canaries) -> None:
        self.canaries = canaries
        self.raised: dict[tuple[str, str, str], int] = {}
        self._is_armed = False

    def arm(self) -> None:
        """Have the next call from a new place fail."""
        self._is_armed = True

    def disarm(self) -> None:
        """Have nothing fail until ``arm`` is called again."""
        self._is_armed = False

    @property
    def is_armed(self) -> bool:
        """Tell whether nothing has failed since ``arm``."""
        return self._is_armed

    def pass_by(self, seam: str, *errors: Callable[[str], Exception], place: str = "") -> None:
        """Raise if it is this place's turn."""
        if not self._is_armed:
            return
        place = place or _caller()
        for error in (*errors, RuntimeError):
            site = (seam, place, getattr(error, "__name__", ""))
            if place and site not in self.raised:
                self.raised[site] = len(self.raised)
                self._is_armed = False
                raise error(self.canaries.as_an_error_would())


def _caller() -> str:
    """Return the nearest line of the program above; empty if there is none."""
    frame = sys._getframe(2)
    for _ in range(12):
        name = frame.f_code.co_filename
        if name.startswith(OURS):
            return f"{name.rpartition(os.sep)[2]}:{frame.f_lineno}"
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    return ""


class SeamHttp:
    """A transport that fails before a request and after a reply, in turn."""

    def __init__(self, inner: HttpTransport, seams: Seams) -> None:
        self._inner = inner
        self._seams = seams

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Return the reply, if no error is due."""
        self._seams.canaries.note(query)
        self._seams.pass_by("http request", OutcomeUnknown, place=f"{method} {path}")
        reply = await self._inner.request(method, path, query, headers, timeout_s)
        self._seams.canaries.note(reply.body.decode())
        self._seams.pass_by("http reply", OutcomeUnknown, _echo_of, place=f"{method} {path}")
        return reply

    async def close(self) -> None:
        """Close the transport underneath."""
        await self._inner.close()


def _echo_of(text: str) -> ExchangeError:
    """Return a refusal in which the exchange repeats what it was sent."""
    from utils.http import HttpResponse, classify

    return classify("GET", "/x", HttpResponse(400, {}, b""), {"code": -1102, "msg": text}, 0)  # type: ignore[return-value]


class SeamWs:
    """Streams that fail when they are opened, read and written to, in turn."""

    def __init__(self, inner: WsTransport, seams: Seams) -> None:
        self._inner = inner
        self._seams = seams

    async def connect(self, target: str) -> "SeamConnection":
        """Open a connection, if no error is due."""
        place = target.partition("?")[0]
        self._seams.pass_by("ws connect", Disconnected, place=place)
        return SeamConnection(await self._inner.connect(target), self._seams, place)

    async def close(self) -> None:
        """Close the transport underneath."""
        await self._inner.close()


class SeamConnection(DeliversReceived):
    """A connection that fails in turn."""

    def __init__(self, inner: WsConnection, seams: Seams, place: str) -> None:
        self._inner = inner
        self._seams = seams
        self._place = place

    async def receive(self) -> str | bytes:
        """Return the next message, if no error is due."""
        message = await self._inner.receive()
        self._seams.pass_by("ws receive", Disconnected, place=self._place)
        return message

    async def send(self, text: str) -> None:
        """Send, if no error is due."""
        self._pass(text)
        await self._inner.send(text)

    def send_now(self, text: str | bytes) -> None:
        """Send, if no error is due."""
        self._pass(text if isinstance(text, str) else text.decode())
        self._inner.send_now(text)

    def _pass(self, text: str) -> None:
        self._seams.canaries.note(text)
        self._seams.pass_by("ws send", Disconnected, place=self._place)

    async def close(self) -> None:
        """Close, if no error is due."""
        await self._inner.close()


class SeamClock:
    """A clock that fails in turn."""

    def __init__(self, inner: Any, seams: Seams) -> None:
        self._inner = inner
        self._seams = seams

    def time_ms(self) -> int:
        """Return the time, if no error is due."""
        self._seams.pass_by("wall clock")
        return int(self._inner.time_ms())

    def monotonic_ns(self) -> int:
        """Return the time, if no error is due."""
        self._seams.pass_by("monotonic clock")
        return int(self._inner.monotonic_ns())


class SeamRandom(random.Random):
    """Dice that fail in turn."""

    seams: Seams | None = None

    def random(self) -> float:
        """Return a number, if no error is due."""
        if self.seams is not None:
            self.seams.arm()  # they are thrown right after another failure only
            self.seams.pass_by("dice")
        return super().random()


def failing_disk(seams: Seams, function: Callable[..., Any], seam: str) -> Callable[..., Any]:
    """Return the function of the disk, failing in turn where the program calls it."""

    def no_space(text: str) -> OSError:
        return OSError(28, f"No space left on device: {text}")

    def call(*args: Any, **kwargs: Any) -> Any:
        seams.pass_by(seam, no_space)
        return function(*args, **kwargs)

    return call


def seam_blocking(seams: Seams) -> Callable[[Callable[[], None]], Any]:
    """Return what runs blocking work, failing in turn, before it or in its thread."""

    async def run(work: Callable[[], None]) -> None:
        seams.pass_by("blocking work", place=getattr(work, "__qualname__", "work"))
        await asyncio.to_thread(work)

    return run
