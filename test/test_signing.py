"""Signatures: whatever is signed with whatever secret, it is HMAC-SHA256."""

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from utils.signing import Signer


@given(secret=st.text(max_size=200), payload=st.text(max_size=300))
def test_signature_is_that_of_the_standard_library(secret: str, payload: str) -> None:
    """Also for secrets that are empty, and for those that are longer than a block of the hash."""
    expected = hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
    signer = Signer("key", secret)
    assert signer.signature(payload) == expected
    assert signer.signature(payload) == expected, "a signature leaves nothing behind"
