"""Who may ask: API key, timestamp and signature of a request, checked in Binance's order.

Source: facts section 2 (security types, HMAC over exactly the bytes sent, recvWindow), section 12 (order of checks).
"""

import hashlib
import hmac
from collections.abc import Mapping
from enum import Enum

from sim.errors import ApiError, refusal
from sim.params import Params

DEFAULT_WINDOW_MS = 5000
MAX_WINDOW_MS = 60_000
FUTURE_ALLOWANCE_MS = 1000
_MARK = "signature="


class Security(Enum):
    """What an endpoint asks of its caller."""

    NONE = "none"
    KEY = "key"
    SIGNED = "signed"


def sign(secret: str, payload: str) -> str:
    """Return the signature of ``payload``, lower-case hex."""
    return hmac.new(_bytes(secret), _bytes(payload), hashlib.sha256).hexdigest()


class Gatekeeper:
    """Knows the one key pair of the account."""

    __slots__ = ("_key", "_secret")

    def __init__(self, api_key: str, api_secret: str) -> None:
        self._key = api_key
        self._secret = api_secret

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Return if the header carries our key; raises -2014 without one and -2015 with another."""
        key = headers.get("x-mbx-apikey", "")
        if not key:
            raise refusal(-2014)
        if not hmac.compare_digest(_bytes(key), _bytes(self._key)):
            raise refusal(-2015)

    def check_signed(self, query: str, body: str, params: Params, now_ms: int) -> None:
        """Return if timestamp and signature hold; raises -1102, -1021, -1131 or -1022."""
        check_timestamp(params, now_ms)
        params.text("signature")
        payload, signature = split_signature(query, body)
        expected = sign(self._secret, payload)
        if not hmac.compare_digest(_bytes(expected), _bytes(signature.lower())):
            raise refusal(-1022)


def check_timestamp(params: Params, now_ms: int) -> None:
    """Return if ``timestamp`` lies within [now - recvWindow, now + 1000 ms); raises -1021 or -1131."""
    window_ms = params.integer_or("recvWindow", DEFAULT_WINDOW_MS)
    if window_ms > MAX_WINDOW_MS:
        raise refusal(-1131)
    sent_ms = params.integer("timestamp")
    if sent_ms >= now_ms + FUTURE_ALLOWANCE_MS:
        raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - sent_ms > window_ms:
        raise refusal(-1021)


def split_signature(query: str, body: str) -> tuple[str, str]:
    """Return (signed payload, signature): query and body joined as sent, less the trailing ``signature`` parameter.

    The signature must end the body or, if the body has none, the query; elsewhere it is not found and "" is returned.
    """
    for head, tail, rest in ((query, body, ""), ("", query, body)):
        before, mark, signature = tail.rpartition(_MARK)
        if mark and "&" not in signature and (not before or before.endswith("&")):
            return head + before.removesuffix("&") + rest, signature
    return query + body, ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
