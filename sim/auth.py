"""Who may ask: API key, timestamp and signature of a request, checked in Binance's order.

Source: facts section 2 (security types, signature over exactly the bytes sent, recvWindow), 12 (order of checks).
"""

import hmac
from collections.abc import Iterable, Mapping
from enum import Enum
from urllib.parse import unquote_plus

from sim.errors import ApiError, refusal
from sim.keys import ApiKey, as_bytes, sign
from sim.params import Params

__all__ = ["ApiKey", "Gatekeeper", "Security", "check_timestamp", "sign", "split_signature"]

DEFAULT_WINDOW_MS = 5000
MAX_WINDOW_MS = 60_000
FUTURE_ALLOWANCE_MS = 1000
_MARK = "signature="


class Security(Enum):
    """What an endpoint asks of its caller; TRADE is SIGNED with a key that may trade."""

    NONE = "none"
    KEY = "key"
    SIGNED = "signed"
    TRADE = "trade"


class Gatekeeper:
    """Knows the keys of the account."""

    __slots__ = ("_keys", "skew_ms")

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)
        self.skew_ms = 0
        """By how much the clock is off against which timestamps are held."""

    def check_key(self, headers: Mapping[str, str]) -> ApiKey:
        """Return the key that the header carries; raises -2014 without one and -2015 with an unknown one."""
        return self.find(headers.get("x-mbx-apikey", ""))

    def find(self, name: str) -> ApiKey:
        """Return the key of that name; raises -2014 if it is empty and -2015 if there is none."""
        if not name:
            raise refusal(-2014)
        for key in self._keys:
            if hmac.compare_digest(as_bytes(name), as_bytes(key.key)):
                return key
        raise refusal(-2015)

    def knows(self, key: ApiKey) -> bool:
        """Tell whether the key is in force."""
        return key in self._keys

    def revoke(self, name: str) -> None:
        """Let the key of that name be known no more; raises -2015 if there is none."""
        gone = self.find(name)
        self._keys = tuple(key for key in self._keys if key is not gone)

    def check_signed(self, key: ApiKey, query: str, body: str, params: Params, now_ms: int) -> None:
        """Return if timestamp and signature hold; raises -1102, -1021, -1131 or -1022."""
        check_timestamp(params, now_ms + self.skew_ms)
        params.text("signature")
        payload, signature = split_signature(query, body)
        if not key.verifies(payload, unquote_plus(signature)):
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
    places = ((query, body, ""), ("", query, body)) if body else (("", query, ""),)
    for head, tail, rest in places:
        before, mark, signature = tail.rpartition(_MARK)
        if mark and "&" not in signature and (not before or before.endswith("&")):
            return head + before.removesuffix("&") + rest, signature
    return query + body, ""
