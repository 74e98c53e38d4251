"""The one place where the API key and its secret are used plain: they leave as a header, a parameter, a digest.

Source: binance-futures general info, signed endpoints (HMAC SHA256).
"""

import hashlib
import hmac
from collections.abc import Mapping

from utils.secret import Secret


class Signer:
    """Signs with one key. Neither key nor secret can be read off it; ``api_key`` and ``api_secret`` may be plain."""

    __slots__ = ("_hmac", "_key")

    def __init__(self, api_key: str, api_secret: str) -> None:
        self._key = api_key if isinstance(api_key, Secret) else Secret(api_key)
        secret = api_secret.reveal() if isinstance(api_secret, Secret) else api_secret
        self._hmac = hmac.new(secret.encode(), digestmod=hashlib.sha256)

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
        payload = "&".join(f"{name}={named[name]}" for name in sorted(named))
        return {**named, "signature": self.signature(payload)}

    def signature(self, payload: str) -> str:
        """Return the HMAC-SHA256 of exactly these bytes, in hex."""
        digest = self._hmac.copy()
        digest.update(payload.encode())
        return digest.hexdigest()
