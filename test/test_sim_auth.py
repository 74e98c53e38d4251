"""The exchange signs as Binance documents it, and checks key, time and signature in that order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.auth import ApiKey, Gatekeeper, sign, split_signature
from sim.errors import ApiError
from sim.params import Params
from test.sim_factory import SECRET, START_MS, Rig

DOC_SECRET = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
PLAIN = (
    "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC"
    "&recvWindow=5000&timestamp=1591702613943"
)
SPLIT = (
    "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC",
    "quantity=1&price=9000&recvWindow=5000&timestamp=1591702613943",
)
BATCH = (
    "batchOrders=%5B%7B%22symbol%22%3A%22BTCUSDT%22%2C%22side%22%3A%22BUY%22%2C%22type%22%3A%22LIMIT%22%2C"
    "%22timeInForce%22%3A%22GTX%22%2C%22price%22%3A%229000%22%2C%22quantity%22%3A%221%22%7D%5D&timestamp=1591702613943"
)
VECTORS = [
    (PLAIN, "", "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"),
    (*SPLIT, "30baaf0fab549bbeda7f5ef201898b34122da25fd23c646cac2c529aebe670a4"),
    (BATCH, "", "6f4b90f229a338502517e340ccefc4cb506944302f69acfc267d3b8ef510d40c"),
]


@pytest.mark.parametrize(("query", "body", "signature"), VECTORS)
def test_signature_matches_the_documented_vector(query: str, body: str, signature: str) -> None:
    """HMAC-SHA256 over query and body joined without a separator (facts 2, test vectors)."""
    assert sign(DOC_SECRET, query + body) == signature


@pytest.mark.parametrize(("query", "body", "signature"), VECTORS)
def test_documented_request_is_let_in(query: str, body: str, signature: str) -> None:
    """The same request with the signature as its last parameter passes, in upper-case hex too (facts 2)."""
    key = ApiKey("key", DOC_SECRET)
    gate = Gatekeeper([key])
    for shown in (signature, signature.upper()):
        tail = f"&signature={shown}"
        sent = (query, body + tail) if body else (query + tail, "")
        gate.check_signed(key, *sent, Params.of_request(*sent), 1_591_702_613_943)


def test_signature_may_end_the_query_while_a_body_follows() -> None:
    """Query with the signature, rest in the body: what is signed is still everything else."""
    assert split_signature("a=1&signature=ff", "b=2") == ("a=1b=2", "ff")


@pytest.mark.parametrize("query", ["a=1", "signature=ff&a=1", "xsignature=ff", "a=1&xsignature=ff"])
def test_signature_that_is_not_last_is_not_found(query: str) -> None:
    """The signature must be the last parameter (facts 2)."""
    assert split_signature(query, "") == (query, "")


@given(
    st.text(alphabet="ab=&%signature", max_size=30),
    st.text(alphabet="0123456789abcdef", min_size=1, max_size=64),
)
def test_payload_and_signature_are_taken_apart_as_they_were_put_together(
    payload: str, signature: str
) -> None:
    """Whatever the payload holds, appending a signature and splitting it off gives both back."""
    assert split_signature(f"{payload}&signature={signature}", "") == (payload, signature)


def test_bare_signature_leaves_an_empty_payload() -> None:
    """A request without any other parameter signs the empty string."""
    assert split_signature("signature=ff", "") == ("", "ff")


def ask(query: str, key: str = "paper-key") -> tuple[int, int]:
    """Send a query, signed unless it brings a signature; return status and code."""
    rig = Rig(quoted=False)
    signed = f"{query}&signature={sign(SECRET, query)}" if "signature" not in query else query
    reply = rig.send("GET", "/fapi/v3/balance", signed, key=key)
    return reply.status, 0 if reply.status == 200 else reply.code


@pytest.mark.parametrize(
    ("query", "key", "outcome"),
    [
        (f"timestamp={START_MS}", "paper-key", (200, 0)),
        ("timestamp=0&signature=00", "", (401, -2014)),
        ("timestamp=0&signature=00", "other", (401, -2015)),
        ("recvWindow=5000", "paper-key", (400, -1102)),
        ("timestamp=12x&signature=00", "paper-key", (400, -1100)),
        (f"timestamp={START_MS - 5001}&signature=00", "paper-key", (400, -1021)),
        (f"timestamp={START_MS - 5000}", "paper-key", (200, 0)),
        (f"timestamp={START_MS + 1000}&signature=00", "paper-key", (400, -1021)),
        (f"timestamp={START_MS + 999}", "paper-key", (200, 0)),
        (f"recvWindow=100&timestamp={START_MS - 101}", "paper-key", (400, -1021)),
        (f"recvWindow=60001&timestamp={START_MS}", "paper-key", (400, -1131)),
        (f"timestamp={START_MS}&signature=00", "paper-key", (400, -1022)),
        (f"timestamp={START_MS}&signature=", "paper-key", (400, -1102)),
        (f"symbol=&timestamp={START_MS}&signature=00", "paper-key", (400, -1022)),
        (f"symbol=&timestamp={START_MS}", "paper-key", (400, -1105)),
        (f"a=1&a=2&timestamp={START_MS}", "paper-key", (400, -1101)),
    ],
)
def test_request_is_checked_key_then_time_then_signature(
    query: str, key: str, outcome: tuple[int, int]
) -> None:
    """Key before timestamp before signature before parameters (facts 12); the time window is [-recvWindow, +1 s)."""
    assert ask(query, key) == outcome


def test_time_ahead_says_so() -> None:
    """A clock that runs ahead gets its own text (facts 9, -1021)."""
    rig = Rig(quoted=False)
    reply = rig.send("GET", "/fapi/v3/balance", f"timestamp={START_MS + 5000}&signature=00")
    assert reply.body["msg"] == "Timestamp for this request was 1000ms ahead of the server's time."


def test_listen_key_asks_for_the_key_only() -> None:
    """USER_STREAM endpoints need the header, no signature (facts 2)."""
    rig = Rig(quoted=False)
    assert rig.send("POST", "/fapi/v1/listenKey").status == 200
    assert rig.send("POST", "/fapi/v1/listenKey", key="").code == -2014


def test_odd_bytes_are_refused_not_raised() -> None:
    """Keys and signatures that are no ASCII at all are simply wrong."""
    key = ApiKey("key", "secret")
    gate = Gatekeeper([key])
    with pytest.raises(ApiError):
        gate.check_key({"x-mbx-apikey": "schlüssel\ud800"})
    sent = "timestamp=1&signature=ü\ud800"
    with pytest.raises(ApiError):
        gate.check_signed(key, sent, "", Params.of_request(sent, ""), 1)
