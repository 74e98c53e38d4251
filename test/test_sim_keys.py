"""Requests signed with RSA or Ed25519 are let in beside HMAC, each key by its own right."""

import base64
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sim.keys import ApiKey, KeyKind, sign
from test.sim_factory import START_MS, Rig

BALANCE = "/fapi/v3/balance"
RSA_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED_PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def pem(public: rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey) -> str:
    """Return the public key as text, as it is registered."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


RSA_KEY = ApiKey("rsa-key", public_key=pem(RSA_PRIVATE.public_key()))
ED_KEY = ApiKey("ed-key", public_key=pem(ED_PRIVATE.public_key()))
READ_KEY = ApiKey("read-key", "read-secret", can_trade=False)


def signature(name: str, payload: str) -> str:
    """Return the signature that the holder of the key makes, base64."""
    data = payload.encode()
    made = (
        RSA_PRIVATE.sign(data, padding.PKCS1v15(), SHA256()) if name == "rsa-key" else ED_PRIVATE.sign(data)
    )
    return base64.b64encode(made).decode()


def rig() -> Rig:
    """Return an exchange whose account has four keys."""
    return Rig(keys=[RSA_KEY, ED_KEY, READ_KEY])


@pytest.mark.parametrize("name", ["rsa-key", "ed-key"])
def test_public_key_request_is_let_in(name: str) -> None:
    """Base64 of the signature over the same string, percent-encoded in the query (facts 2)."""
    query = f"timestamp={START_MS + 1}"
    sent = f"{query}&signature={quote(signature(name, query), safe='')}"
    reply = rig().send("GET", BALANCE, sent, key=name)
    assert reply.status == 200
    assert reply.body[0]["asset"] == "USDT"


@pytest.mark.parametrize("name", ["rsa-key", "ed-key"])
def test_public_key_signs_query_and_body_joined(name: str) -> None:
    """What is signed is query and body without a separator, for every kind of key (facts 2)."""
    query, body = "symbol=BTCUSDT", f"leverage=7&timestamp={START_MS + 1}"
    tail = quote(signature(name, query + body), safe="")
    reply = rig().send("POST", "/fapi/v1/leverage", query, f"{body}&signature={tail}", key=name)
    assert (reply.status, reply.body["leverage"]) == (200, 7)


@pytest.mark.parametrize("wrong", ["", "AAAA", "!!!", "ü", sign("paper-secret", "x")])
@pytest.mark.parametrize("name", ["rsa-key", "ed-key", "read-key"])
def test_wrong_signature_is_refused_whatever_the_key(name: str, wrong: str) -> None:
    """-1022; an empty one is -1102, a missing parameter (facts 9)."""
    reply = rig().send("GET", BALANCE, f"timestamp={START_MS + 1}&signature={quote(wrong)}", key=name)
    assert reply.code == (-1022 if wrong else -1102)


def test_one_keys_signature_does_not_open_for_another() -> None:
    """The signature is checked against the key in the header, not against any key (facts 2)."""
    query = f"timestamp={START_MS + 1}"
    sent = f"{query}&signature={quote(signature('ed-key', query), safe='')}"
    assert rig().send("GET", BALANCE, sent, key="rsa-key").code == -1022
    assert rig().send("GET", BALANCE, f"{query}&signature={sign('read-secret', query)}").code == -1022


def test_unencoded_plus_breaks_the_signature() -> None:
    """Base64 holds + / =, which a query must percent-encode: a bare + is a space (facts 2)."""
    for count in range(60):
        query = f"timestamp={START_MS + 1}&count={count}"
        made = signature("ed-key", query)
        if "+" in made:
            assert rig().send("GET", BALANCE, f"{query}&signature={made}", key="ed-key").code == -1022
            return
    pytest.fail("no signature with a plus was found")


def test_key_without_the_right_to_trade_reads_only() -> None:
    """-2015 (401) "permissions for action" on what changes something; reading goes on (facts 9)."""
    exchange = rig()
    query = f"timestamp={START_MS + 1}"
    signed = f"{query}&signature={sign('read-secret', query)}"
    assert exchange.send("GET", BALANCE, signed, key="read-key").status == 200
    for method, path in (
        ("POST", "/fapi/v1/order"),
        ("DELETE", "/fapi/v1/order"),
        ("POST", "/fapi/v1/leverage"),
    ):
        reply = exchange.send(method, path, signed, key="read-key")
        assert (reply.status, reply.code) == (401, -2015)


def test_locked_key_reads_only() -> None:
    """-2017 on what changes something (facts 9)."""
    exchange = Rig(keys=[ApiKey("locked", "secret", is_locked=True)])
    query = f"timestamp={START_MS + 1}"
    signed = f"{query}&signature={sign('secret', query)}"
    assert exchange.send("GET", BALANCE, signed, key="locked").status == 200
    assert exchange.send("POST", "/fapi/v1/order", signed, key="locked").code == -2017


def test_kinds_are_told_apart() -> None:
    """The PEM says which kind of key it is."""
    kinds = [key.kind for key in (RSA_KEY, ED_KEY, READ_KEY)]
    assert kinds == [KeyKind.RSA, KeyKind.ED25519, KeyKind.HMAC]
    assert "read-secret" not in repr(READ_KEY)


def test_key_needs_one_way_to_sign() -> None:
    """Neither or both of secret and public key, or a key of another kind, is a mistake of whoever sets it up."""
    other = pem(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(ValueError, match="needs either"):
        ApiKey("k")
    with pytest.raises(ValueError, match="needs either"):
        ApiKey("k", "secret", pem(ED_PRIVATE.public_key()))
    with pytest.raises(ValueError, match="neither RSA nor Ed25519"):
        ApiKey("k", public_key=other)
