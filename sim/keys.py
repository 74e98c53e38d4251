"""API keys of the account: a shared secret (HMAC) or the public half of an RSA or Ed25519 pair.

Only the two kinds with a public key need the package ``cryptography``; it is imported when the first of them is made.

Source: facts section 2 (hex of HMAC-SHA256; base64 of RSASSA-PKCS1-v1_5 with SHA-256, or of Ed25519, over that text).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from sim.errors import refusal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

Verify = Callable[[bytes, bytes], bool]


class KeyKind(Enum):
    """How the holder of a key signs."""

    HMAC = "HMAC"
    RSA = "RSA"
    ED25519 = "Ed25519"


_BLOCK = 64
"""Bytes that SHA-256 takes in at a time."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key and what it may do: ``secret`` for HMAC, or ``public_key`` (PEM) for RSA and Ed25519.

    ``can_trade`` False refuses what changes orders, positions or settings (-2015), ``is_locked`` too (-2017).
    Raises ValueError if it has both or neither of secret and public key, or the PEM holds another kind of key.
    """

    key: str
    secret: str = field(default="", repr=False)
    public_key: str = ""
    can_trade: bool = True
    is_locked: bool = False
    kind: KeyKind = field(init=False)
    _verify: Verify = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if bool(self.secret) is bool(self.public_key):
            raise ValueError(f"API key {self.key} needs either a secret or a public key")
        kind, verify = _shared(self.secret) if self.secret else _public(self.public_key)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "_verify", verify)

    def check_trade(self) -> None:
        """Return if the key may change something; raises -2015 or -2017."""
        if not self.can_trade:
            raise refusal(-2015)
        if self.is_locked:
            raise refusal(-2017)

    def verifies(self, payload: str, signature: str) -> bool:
        """Tell whether ``signature`` (hex for HMAC, else base64) is this key's over ``payload``."""
        return self._verify(as_bytes(payload), as_bytes(signature))


def sign(secret: str, payload: str) -> str:
    """Return the HMAC signature of ``payload``, lower-case hex."""
    return hmac.new(as_bytes(secret), as_bytes(payload), hashlib.sha256).hexdigest()


def as_bytes(text: str) -> bytes:
    """Return ``text`` as the bytes that were sent, whatever they were."""
    return text.encode("utf-8", "surrogatepass")


def _shared(secret: str) -> tuple[KeyKind, Verify]:
    """Source of the two halves: RFC 2104; both have taken in the secret already."""
    key = as_bytes(secret)
    key = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    inside = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
    outside = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))

    def verify(payload: bytes, signature: bytes) -> bool:
        inner, outer = inside.copy(), outside.copy()
        inner.update(payload)
        outer.update(inner.digest())
        return hmac.compare_digest(outer.hexdigest().encode(), signature.lower())

    return KeyKind.HMAC, verify


def _public(pem: str) -> tuple[KeyKind, Verify]:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    public = load_pem_public_key(pem.encode())
    check: Callable[[bytes, bytes], None]
    if isinstance(public, Ed25519PublicKey):
        kind, check = KeyKind.ED25519, public.verify
    elif isinstance(public, RSAPublicKey):
        kind, check = KeyKind.RSA, _rsa_check(public)
    else:
        raise ValueError("the public key is neither RSA nor Ed25519")  # noqa: TRY004  its value is at fault

    def verify(payload: bytes, signature: bytes) -> bool:
        try:
            check(base64.b64decode(signature, validate=True), payload)
        except (InvalidSignature, binascii.Error):
            return False
        return True

    return kind, verify


def _rsa_check(public: "RSAPublicKey") -> Callable[[bytes, bytes], None]:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    def check(signature: bytes, payload: bytes) -> None:
        public.verify(signature, payload, PKCS1v15(), SHA256())

    return check
