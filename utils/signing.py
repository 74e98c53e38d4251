"""The one place where the API key and its secret are used plain: they leave as a header, a parameter, a digest.

Source: binance-futures general info, signed endpoints (HMAC SHA256).
"""

import hashlib
from collections.abc import Mapping

from utils.secret import Secret

_BLOCK = 64
"""Bytes that SHA-256 takes in at a time."""


class Signer:
    """Signs with one key. Neither key nor secret can be read off it; ``api_key`` and ``api_secret`` may be plain."""

    __slots__ = ("_inner", "_key", "_outer")

    def __init__(self, api_key: str, api_secret: str) -> None:
        self._key = api_key if isinstance(api_key, Secret) else Secret(api_key)
        secret = api_secret.reveal() if isinstance(api_secret, Secret) else api_secret
        key = secret.encode()
        key = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))

    def header(self) -> dict[str, str]:
        """Return the header that names the key."""
        return {"X-MBX-APIKEY": self._key.reveal()}

    def signed_query(self, query: str) -> str:
        """Return the query with the signature of exactly these bytes behind it."""
        return f"{query}&signature={self.signature(query)}"

    def signed_params(self, params: Mapping[str, str | int]) -> dict[str, str | int]:
        """Return the parameters with key and signature as the WebSocket API wants them.

        Source: binance-futures WebSocket API, signed requests: the sorted parameters, not percent-encoded.
        """
        named = {**params, "apiKey": self._key.reveal()}
        payload = "&".join([f"{name}={named[name]}" for name in sorted(named)])
        named["signature"] = self.signature(payload)
        return named

    def signature(self, payload: str) -> str:
        """Return the HMAC-SHA256 of exactly these bytes, in hex.

        Both halves have taken in the key already: a signature costs two copies and what is signed.
        Source: RFC 2104.
        """
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(payload.encode())
        outer.update(inner.digest())
        return outer.hexdigest()
