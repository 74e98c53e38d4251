"""The WebSocket API: form, signing, session, methods, limits."""

import base64
import json
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from sim.auth import ApiKey, sign
from sim.errors import RefusedHandshake
from sim.exchange import Options
from sim.fault_file import parse_script
from sim.limits import LimitSizes
from sim.market import MarketError
from sim.streams import SESSION_LIFE_MS, StreamOptions
from sim.ws_api import signed_payloads
from test.sim_factory import KEY, SECRET, START_MS, Rig, executions

TARGET = "/ws-fapi/v1"
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
ED_KEY = ApiKey("ed-key", public_key=PUBLIC_PEM)
READ_KEY = ApiKey("read-key", secret="read-secret", can_trade=False)
ORDER = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTX",
    "price": "49000",
    "quantity": "0.010",
}


class Client:
    """A client of the WebSocket API on a Rig."""

    def __init__(self, rig: Rig | None = None, target: str = TARGET) -> None:
        self.rig = rig or Rig(keys=[ED_KEY, READ_KEY])
        self.session, self.replies = self.rig.listen(target)
        self._ids = count(1)

    def send(self, message: object) -> Any:
        """Send a message as it is; return the reply."""
        text = message if isinstance(message, str) else json.dumps(message)
        assert self.session.receive(text, self.rig.now_ms)
        return self.replies[-1]

    def ask(self, method: str, **params: object) -> Any:
        """Send a request without a signature."""
        return self.send({"id": next(self._ids), "method": method, "params": params})

    def call(self, method: str, key: str = KEY, secret: str = SECRET, **params: object) -> Any:
        """Send a request signed with HMAC."""
        values = {"apiKey": key, "timestamp": self.rig.now_ms, **params}
        return self.ask(method, **values, signature=sign(secret, joined(values)))

    def log_on(self, **params: object) -> Any:
        """Authenticate the session with the Ed25519 key."""
        values = {"apiKey": "ed-key", "timestamp": self.rig.now_ms, **params}
        return self.ask("session.logon", **values, signature=ed_sign(joined(values)))


def joined(values: dict[str, Any]) -> str:
    """Return the parameters as they are signed: sorted by name, nothing encoded (facts 2)."""
    return "&".join(f"{name}={values[name]}" for name in sorted(values))


def ed_sign(text: str) -> str:
    """Return the Ed25519 signature in base64."""
    return base64.b64encode(PRIVATE.sign(text.encode())).decode()


def code(reply: Any) -> tuple[int, int]:
    """Return status and error code."""
    return reply["status"], reply["error"]["code"]


# Form


def test_success_has_id_status_result_and_limits() -> None:
    """{"id","status":200,"result","rateLimits"} (facts 8)."""
    reply = Client().ask("ticker.price", symbol="BTCUSDT")
    assert set(reply) == {"id", "status", "result", "rateLimits"}
    assert (reply["id"], reply["status"]) == (1, 200)


def test_error_has_id_status_error_and_limits() -> None:
    """{"id","status":4xx,"error":{"code","msg"},"rateLimits"} (facts 8)."""
    reply = Client().ask("ticker.price", symbol="NOPE")
    assert set(reply) == {"id", "status", "error", "rateLimits"}
    assert set(reply["error"]) == {"code", "msg"}
    assert code(reply) == (400, -1121)


@pytest.mark.parametrize("name", [0, 7, -3, "a-b", "", None, 2**60])
def test_id_is_echoed(name: object) -> None:
    """The id may be a whole number, a string or null, and is only echoed (facts 8)."""
    reply = Client().send({"id": name, "method": "session.status"})
    assert (reply["id"], reply["status"]) == (name, 200)


def test_request_without_an_id_is_answered_with_null() -> None:
    """An id that was not sent is null."""
    assert Client().send({"method": "session.status"})["id"] is None


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "",
        "[]",
        "7",
        "null",
        {"id": [1], "method": "session.status"},
        {"id": True, "method": "session.status"},
        {"id": 1},
        {"id": 1, "method": 5},
        {"id": 1, "method": ""},
        {"id": 1, "method": "order.place", "params": [1]},
        {"id": 1, "method": "order.place", "params": "x"},
    ],
)
def test_message_that_is_no_request_is_refused_and_the_socket_stays(message: object) -> None:
    """One JSON object per frame with method and params (facts 8; the code is unsure)."""
    client = Client()
    reply = client.send(message)
    assert code(reply) == (400, -1135)
    assert client.ask("session.status")["status"] == 200


@pytest.mark.parametrize(
    "method", ["order.dance", "openOrders.status", "account.trades", "exchangeInfo", "x" * 99]
)
def test_method_that_does_not_exist_is_refused(method: str) -> None:
    """Batch, cancel-all, openOrders, userTrades, exchangeInfo are REST only (facts 8; the code is unsure)."""
    assert code(Client().call(method)) == (400, -1020)


def test_replies_of_a_burst_are_told_apart_by_their_ids() -> None:
    """Several requests may be in flight; each reply has the id of its own (facts 8)."""
    client = Client()
    for price in ("49000", "49001", "49002"):
        client.call("order.place", **{**ORDER, "price": price}, newClientOrderId=f"p{price}")
    placed = {reply["id"]: reply["result"]["clientOrderId"] for reply in client.replies}
    assert placed == {1: "p49000", 2: "p49001", 3: "p49002"}


# Signing


def test_signature_is_over_the_sorted_parameters() -> None:
    """The documented vector: everything but the signature, apiKey included, sorted by name (facts 2)."""
    values = {
        "apiKey": "dbefbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83",
        "price": "9000",
        "quantity": "1",
        "recvWindow": "5000",
        "side": "BUY",
        "symbol": "BTCUSDT",
        "timeInForce": "GTC",
        "timestamp": "1591702613943",
        "type": "LIMIT",
        "signature": "ignored",
    }
    secret = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
    plain, encoded = signed_payloads(values)
    assert plain == encoded
    assert sign(secret, plain) == "5b8fe2b962b8e1b2b82fb40e548d56147c2a8f835b5f1393ae4b4b90c38b527f"


@pytest.mark.parametrize("encoded", [False, True])
def test_signature_may_be_over_plain_or_encoded_values(encoded: bool) -> None:
    """The documentation signs the values as they are, the official SDK percent-encodes them first (facts 2)."""
    client = Client()
    values = {**ORDER, "newClientOrderId": "a/b:c", "apiKey": KEY, "timestamp": str(client.rig.now_ms)}
    signature = sign(SECRET, signed_payloads(values)[encoded])
    assert client.ask("order.place", **values, signature=signature)["status"] == 200


def test_numbers_are_signed_as_they_were_sent() -> None:
    """Decimals as JSON numbers are accepted too; the text that was sent is the text that is signed (facts 8)."""
    client = Client()
    now_ms = client.rig.now_ms
    text = f"apiKey={KEY}&price=49000.10&quantity=0.010&symbol=BTCUSDT&timestamp={now_ms}&type=LIMIT"
    text = text.replace("&symbol", "&side=BUY&symbol").replace("&timestamp", "&timeInForce=GTX&timestamp")
    message = (
        f'{{"id":1,"method":"order.place","params":{{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","timeInForce":"GTX",'
        f'"price":49000.10,"quantity":0.010,"timestamp":{now_ms},"apiKey":"{KEY}",'
        f'"signature":"{sign(SECRET, text)}"}}}}'
    )
    assert client.send(message)["result"]["price"] == "49000.10"


@pytest.mark.parametrize(
    ("change", "status", "expected"),
    [
        ({"apiKey": "nobody"}, 401, -2015),
        ({"apiKey": None}, 401, -2014),
        ({"signature": "00"}, 400, -1022),
        ({"signature": None}, 400, -1102),
        ({"timestamp": None}, 400, -1102),
        ({"timestamp": START_MS - 5001}, 400, -1021),
        ({"timestamp": START_MS + 1001}, 400, -1021),
        ({"timestamp": "noon"}, 400, -1100),
        ({"recvWindow": 60001}, 400, -1131),
        ({"quantity": "0.011"}, 400, -1022),
    ],
)
def test_request_that_is_not_properly_signed_is_refused(
    change: dict[str, object], status: int, expected: int
) -> None:
    """Key, time and signature are checked as on REST, and statuses mirror it (facts 2, 8, 12)."""
    client = Client()
    values = {**ORDER, "apiKey": KEY, "timestamp": START_MS}
    changed = {**values, "signature": sign(SECRET, joined(values)), **change}
    reply = client.ask("order.place", **{name: value for name, value in changed.items() if value is not None})
    assert code(reply) == (status, expected)
    assert not client.rig.exchange._venue.instruments["BTCUSDT"].open


@pytest.mark.parametrize("value", ["", None])
def test_empty_value_is_refused(value: object) -> None:
    """Empty values are refused as on REST (facts 2)."""
    client = Client()
    values = {**ORDER, "apiKey": KEY, "timestamp": client.rig.now_ms, "newClientOrderId": ""}
    reply = client.ask(
        "order.place", **{**values, "newClientOrderId": value}, signature=sign(SECRET, joined(values))
    )
    assert code(reply) == (400, -1105)


def test_key_without_the_right_to_trade_may_read_only() -> None:
    """-2015 stands for missing permissions too (facts 9)."""
    client = Client()
    assert code(client.call("order.place", "read-key", "read-secret", **ORDER)) == (401, -2015)
    assert client.call("v2/account.balance", "read-key", "read-secret")["status"] == 200


@pytest.mark.parametrize("key", [KEY, "ed-key"])
def test_every_kind_of_key_signs_single_requests(key: str) -> None:
    """HMAC in hex, Ed25519 in base64, not encoded in JSON (facts 2)."""
    client = Client()
    values = {"apiKey": key, "timestamp": client.rig.now_ms}
    signature = sign(SECRET, joined(values)) if key == KEY else ed_sign(joined(values))
    assert client.ask("v2/account.balance", **values, signature=signature)["status"] == 200


# Session


def test_logon_authenticates_the_session() -> None:
    """Afterwards apiKey and signature may be left out, the timestamp may not (facts 2, 8)."""
    client = Client()
    opened_ms = client.rig.now_ms
    client.rig.wait(500)
    assert client.log_on()["result"] == {
        "apiKey": "ed-key",
        "authorizedSince": opened_ms + 500,
        "connectedSince": opened_ms,
        "returnRateLimits": True,
        "serverTime": opened_ms + 500,
    }
    assert client.ask("order.place", **ORDER, timestamp=client.rig.now_ms)["status"] == 200
    assert code(client.ask("order.place", **ORDER)) == (400, -1102)
    assert code(client.ask("order.place", **ORDER, timestamp=1)) == (400, -1021)


def test_logon_takes_ed25519_keys_only() -> None:
    """With HMAC every request is signed (facts 2, 8; the code is unsure)."""
    client = Client()
    assert code(client.call("session.logon")) == (400, -4056)
    assert client.ask("session.status")["result"]["apiKey"] is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"signature": "AAAA"}, -1022), ({"apiKey": "nobody"}, -2015), ({"timestamp": 5}, -1021)],
)
def test_logon_is_checked_like_a_request(change: dict[str, object], expected: int) -> None:
    """A logon that does not hold leaves the session as it was."""
    client = Client()
    values = {"apiKey": "ed-key", "timestamp": client.rig.now_ms}
    reply = client.ask("session.logon", **{**values, "signature": ed_sign(joined(values)), **change})
    assert reply["error"]["code"] == expected
    assert client.ask("session.status")["result"]["authorizedSince"] is None


def test_logout_forgets_the_key() -> None:
    """After session.logout requests need their own key again; the socket stays (facts 8)."""
    client = Client()
    client.log_on()
    assert client.ask("session.logout")["result"]["apiKey"] is None
    assert code(client.ask("order.place", **ORDER, timestamp=client.rig.now_ms)) == (401, -2014)


def test_session_key_does_not_stand_for_another() -> None:
    """A request that names another key is held against that one."""
    client = Client()
    client.log_on()
    now_ms = client.rig.now_ms
    assert code(client.ask("v2/account.balance", apiKey=KEY, timestamp=now_ms)) == (400, -1102)
    assert client.call("v2/account.balance")["status"] == 200
    assert client.ask("v2/account.balance", apiKey="ed-key", timestamp=now_ms)["status"] == 200


def test_revoked_key_ends_the_session_it_has_logged_on() -> None:
    """id null, status 401, -2015 in place of the next answer; afterwards the session has no key (facts 8)."""
    client = Client()
    client.log_on()
    assert client.rig.send("POST", "/sim/revoke-key", "apiKey=ed-key").body == {"apiKey": "ed-key"}
    reply = client.ask("session.status")
    assert (reply["id"], *code(reply)) == (None, 401, -2015)
    assert client.ask("session.status")["result"]["apiKey"] is None
    assert code(client.log_on()) == (401, -2015)


def test_revoked_key_is_refused_on_both_transports() -> None:
    """-2015 for whatever it signs (facts 9); other keys are not touched."""
    client = Client()
    client.rig.send("POST", "/sim/revoke-key", f"apiKey={KEY}")
    assert code(client.call("v2/account.balance")) == (401, -2015)
    assert client.rig.call("GET", "/fapi/v3/balance").code == -2015
    assert client.call("v2/account.balance", "read-key", "read-secret")["status"] == 200
    assert client.rig.send("POST", "/sim/revoke-key", f"apiKey={KEY}").code == -2015


def test_logon_is_of_one_connection_only() -> None:
    """Another socket knows nothing of it."""
    client = Client()
    client.log_on()
    other = Client(client.rig)
    assert other.ask("session.status")["result"]["apiKey"] is None


def test_connection_lives_24_hours() -> None:
    """Like a stream, it is cut after a day (facts 8)."""
    rig = Rig()
    ended: list[bool] = []
    session = rig.exchange.open_session(TARGET, lambda _: None, rig.now_ms, lambda: ended.append(True))
    rig.wait(SESSION_LIFE_MS - 1)
    assert session.receive('{"id":1,"method":"session.status"}', rig.now_ms)
    assert ended == []
    rig.wait(1)
    assert ended == [True]


def test_closed_connection_is_forgotten() -> None:
    """Nothing is left of it that would have to be cut."""
    client = Client()
    client.session.closed(client.rig.now_ms)
    assert client.rig.exchange._venue.hub.cut_ms is None


def test_sixth_ping_in_a_second_drops_the_connection() -> None:
    """Ping and pong frames: five a second (facts 8)."""
    session = Client().session
    assert [session.pinged(START_MS) for _ in range(6)] == [True] * 5 + [False]
    assert session.pinged(START_MS + 1000)


def test_requests_are_not_counted_as_messages() -> None:
    """What limits requests here is weight; the ten messages a second are of streams (facts 6, 8)."""
    client = Client()
    assert [client.ask("session.status")["status"] for _ in range(30)] == [200] * 30


# Orders


def test_order_is_placed_amended_asked_for_and_cancelled() -> None:
    """order.place, .modify, .status and .cancel do and answer what REST does (facts 3.3, 8)."""
    client = Client()
    rig = client.rig
    events = rig.listen_to_user()
    placed = client.call("order.place", **ORDER, newClientOrderId="q1")["result"]
    assert (placed["orderId"], placed["status"], placed["price"]) == (1, "NEW", "49000.00")
    assert "avgPrice" not in placed
    key = {"symbol": "BTCUSDT", "origClientOrderId": "q1"}
    amended = client.call("order.modify", **key, side="BUY", price="49001", quantity="0.020")["result"]
    assert (amended["price"], amended["origQty"], amended["orderId"]) == ("49001.00", "0.020", 1)
    assert client.call("order.status", **key)["result"] == rig.order("q1")
    cancelled = client.call("order.cancel", **key)["result"]
    assert (cancelled["status"], cancelled["orderId"]) == ("CANCELED", 1)
    assert executions(events) == [("q1", "NEW"), ("q1", "AMENDMENT"), ("q1", "CANCELED")]


def test_order_result_is_that_of_rest() -> None:
    """result = order object (facts 8): the same fields as POST order."""
    client = Client()
    by_rest = client.rig.place("BUY", "49000", "0.010", newClientOrderId="a").body
    by_socket = client.call("order.place", **ORDER, newClientOrderId="b")["result"]
    own = {"orderId", "clientOrderId"}
    assert {k: v for k, v in by_rest.items() if k not in own} == {
        k: v for k, v in by_socket.items() if k not in own
    }


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("order.place", {**ORDER, "price": "50000.10"}, -5022),
        ("order.place", {**ORDER, "price": "49000.01"}, -4014),
        ("order.place", {**ORDER, "quantity": "0.001", "price": "48000"}, -4164),
        ("order.place", {**ORDER, "side": "HOLD"}, -1117),
        ("order.place", {**ORDER, "type": "STOP"}, -4120),
        ("order.place", {**ORDER, "timeInForce": "GTT"}, -1115),
        ("order.place", {**ORDER, "symbol": "NOPE"}, -1121),
        ("order.place", {**ORDER, "reduceOnly": "true"}, -2022),
        ("order.place", {**ORDER, "positionSide": "LONG"}, -4061),
        ("order.place", {**ORDER, "newClientOrderId": "no blanks"}, -4015),
        ("order.place", {**ORDER, "quantity": "100", "timeInForce": "GTC"}, -2019),
        ("order.place", {**ORDER, "price": "60000", "timeInForce": "GTC"}, -4016),
        ("order.cancel", {"symbol": "BTCUSDT", "orderId": 9}, -2011),
        ("order.cancel", {"symbol": "BTCUSDT"}, -1102),
        ("order.status", {"symbol": "BTCUSDT", "orderId": 9}, -2013),
        (
            "order.modify",
            {"symbol": "BTCUSDT", "orderId": 9, "side": "BUY", "price": "1", "quantity": "1"},
            -2013,
        ),
    ],
)
def test_order_errors_are_those_of_rest(method: str, params: dict[str, object], expected: int) -> None:
    """Codes and HTTP statuses mirror REST (facts 8, 9)."""
    assert code(Client().call(method, **params)) == (400, expected)


def test_rest_and_socket_share_one_desk() -> None:
    """An id in use there is in use here, and each cancels the other's orders."""
    client = Client()
    client.rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    assert code(client.call("order.place", **ORDER, newClientOrderId="q1")) == (400, -4116)
    assert client.call("order.cancel", symbol="BTCUSDT", origClientOrderId="q1")["status"] == 200
    client.call("order.place", **ORDER, newClientOrderId="q2")
    assert client.rig.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="q2").status == 200


def test_refused_request_stands_in_the_record() -> None:
    """The exchange's own record counts requests of the socket, and keeps what it refused."""
    client = Client()
    client.call("order.place", **{**ORDER, "price": "50000.10"}, newClientOrderId="q1")
    record = client.rig.record()
    assert record["requests"]["ws order.place"] == 1
    refused = record["rejected"][-1]
    assert (refused["endpoint"], refused["clientOrderId"], refused["code"]) == ("ws order.place", "q1", -5022)


# Account and market


def test_account_methods_answer_like_rest() -> None:
    """v2/account.position like v3 positionRisk, balance and status like v3 (facts 8)."""
    client = Client()
    rig = client.rig
    rig.take("BUY", "0.010")
    pairs = {
        "v2/account.position": "/fapi/v3/positionRisk",
        "v2/account.balance": "/fapi/v3/balance",
        "v2/account.status": "/fapi/v3/account",
    }
    for method, path in pairs.items():
        assert client.call(method)["result"] == rig.call("GET", path).body
    rows = client.call("v2/account.position", symbol="BTCUSDT")["result"]
    assert [(row["symbol"], row["positionAmt"]) for row in rows] == [("BTCUSDT", "0.010")]


def test_flat_symbols_are_left_out_of_positions() -> None:
    """Flat and without orders is absent (facts 3.4)."""
    assert Client().call("v2/account.position")["result"] == []


def test_market_methods_need_no_key() -> None:
    """ticker.book (with lastUpdateId), ticker.price and depth are unsigned and answer like REST (facts 8)."""
    client = Client()
    book = client.ask("ticker.book", symbol="BTCUSDT")["result"]
    assert book == client.rig.send("GET", "/fapi/v1/ticker/bookTicker", "symbol=BTCUSDT").body
    assert book["lastUpdateId"] == 1
    depth = client.ask("depth", symbol="BTCUSDT", limit=5)["result"]
    assert depth == client.rig.send("GET", "/fapi/v1/depth", "symbol=BTCUSDT&limit=5").body
    assert client.ask("ticker.price", symbol="BTCUSDT")["result"]["symbol"] == "BTCUSDT"
    assert isinstance(client.ask("ticker.book")["result"], list)
    assert code(client.ask("depth", symbol="BTCUSDT", limit=3)) == (400, -4021)
    assert code(client.ask("depth")) == (400, -1102)


def test_listen_key_needs_the_api_key_only() -> None:
    """start and ping return the key, unsigned; events come on /private, not here (facts 8)."""
    client = Client()
    rig = client.rig
    started = client.ask("userDataStream.start", apiKey=KEY)["result"]
    assert started == rig.call("POST", "/fapi/v1/listenKey").body
    assert client.ask("userDataStream.ping", apiKey=KEY)["result"] == started
    _, heard = rig.listen(f"/private/ws/{started['listenKey']}")
    asked = len(client.replies)
    rig.place("BUY", "49000", "0.010")
    assert (len(heard), len(client.replies)) == (1, asked)
    assert client.ask("userDataStream.stop", apiKey=KEY)["result"] == {}
    assert heard[-1]["e"] == "listenKeyExpired"
    assert code(client.ask("userDataStream.ping", apiKey=KEY)) == (400, -1125)
    assert code(client.ask("userDataStream.start")) == (401, -2014)
    assert code(client.ask("userDataStream.start", apiKey="nobody")) == (401, -2015)


# Limits


def weight(reply: Any) -> int:
    """Return the weight used as the reply says it."""
    return next(int(row["count"]) for row in reply["rateLimits"] if row["rateLimitType"] == "REQUEST_WEIGHT")


WEIGHTS = [
    ("session.status", {}, 2),
    ("session.logout", {}, 2),
    ("session.logon", {}, 2),
    ("order.place", ORDER, 0),
    ("order.modify", {"symbol": "BTCUSDT", "orderId": 1, "side": "BUY", "price": "1", "quantity": "1"}, 0),
    ("order.cancel", {"symbol": "BTCUSDT", "orderId": 1}, 1),
    ("order.status", {"symbol": "BTCUSDT", "orderId": 1}, 1),
    ("v2/account.position", {}, 5),
    ("v2/account.balance", {}, 5),
    ("v2/account.status", {}, 5),
    ("ticker.book", {"symbol": "BTCUSDT"}, 2),
    ("ticker.book", {}, 5),
    ("ticker.price", {"symbol": "BTCUSDT"}, 1),
    ("ticker.price", {}, 2),
    ("depth", {"symbol": "BTCUSDT", "limit": 5}, 2),
    ("depth", {"symbol": "BTCUSDT", "limit": 100}, 5),
    ("depth", {"symbol": "BTCUSDT"}, 10),
    ("depth", {"symbol": "BTCUSDT", "limit": 1000}, 20),
    ("userDataStream.start", {}, 1),
    ("userDataStream.ping", {}, 1),
    ("userDataStream.stop", {}, 1),
]


@pytest.mark.parametrize(("method", "params", "expected"), WEIGHTS)
def test_each_method_has_its_weight(method: str, params: dict[str, object], expected: int) -> None:
    """The weights of the table, whether the request succeeds or not (facts 8)."""
    client = Client()
    before = weight(client.ask("session.status"))
    assert weight(client.call(method, **params)) - before == expected


def test_handshake_costs_five() -> None:
    """A handshake takes 5 of the weight (facts 5, 8)."""
    assert weight(Client().ask("session.status")) == 5 + 2


def test_limits_of_a_market_request_name_its_weight_only() -> None:
    """Entries of rateLimits; ORDERS come with order requests only (facts 8)."""
    assert Client().ask("ticker.price", symbol="BTCUSDT")["rateLimits"] == [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400, "count": 6}
    ]


@pytest.mark.parametrize("price", ["49000", "50000.10"])
def test_limits_of_an_order_name_its_slots(price: str) -> None:
    """order.place takes one slot of each ORDERS counter, also if it is refused (facts 5, 8)."""
    rows = Client().call("order.place", **{**ORDER, "price": price})["rateLimits"]
    assert rows == [
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300, "count": 1},
        {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200, "count": 1},
        {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": 2400,
            "count": 5,
        },
    ]


def test_order_slots_are_those_of_rest() -> None:
    """ORDERS counters belong to the account, whatever the transport (facts 5)."""
    client = Client(Rig(options=Options(limits=LimitSizes(orders_per_ten_seconds=3))))
    assert client.rig.place("BUY", "49000", "0.010").status == 200
    assert client.call("order.place", **ORDER)["status"] == 200
    assert client.call("order.place", **ORDER)["status"] == 200
    reply = client.call("order.place", **ORDER)
    assert code(reply) == (429, -1015)
    assert client.rig.place("BUY", "49000", "0.010").code == -1015
    assert client.call("order.cancel", symbol="BTCUSDT", orderId=1)["status"] == 200
    client.rig.wait(10_000)
    assert client.call("order.place", **ORDER)["status"] == 200


@pytest.mark.parametrize(("shared", "used"), [(False, "0"), (True, "7")])
def test_weight_pool_is_shared_with_rest_on_demand(shared: bool, used: str) -> None:
    """Sources disagree whether REST and the socket share a pool, so it is a switch (facts 0, 5)."""
    rig = Rig(options=Options(streams=StreamOptions(api_shares_weight=shared)))
    Client(rig).ask("session.status")
    assert rig.exchange._venue.limits.weight_header(rig.now_ms) == used


def test_weight_over_the_limit_is_refused_with_429_then_418() -> None:
    """Over the limit 429 -1003, and a ban for who does not stop (facts 5, 8)."""
    client = Client(Rig(options=Options(limits=LimitSizes(weight_per_minute=9, patience=2))))
    replies = [client.ask("session.status") for _ in range(6)]
    assert [reply["status"] for reply in replies] == [200, 200, 429, 429, 418, 418]
    assert replies[2]["error"]["code"] == replies[5]["error"]["code"] == -1003
    assert replies[2]["error"]["data"]["retryAfter"] > replies[2]["error"]["data"]["serverTime"]
    with pytest.raises(RefusedHandshake) as caught:
        Client(client.rig)
    assert caught.value.status == 418
    assert client.rig.call("GET", "/fapi/v3/balance").status == 418, "a ban is of the address"


def test_ban_for_what_went_by_rest_holds_for_the_socket() -> None:
    """Bans are per address and hit whatever comes from it (facts 5); the counts of weight stay apart."""
    client = Client(Rig(options=Options(limits=LimitSizes(weight_per_minute=9, patience=1))))
    replies = [client.rig.call("GET", "/fapi/v3/balance").status for _ in range(4)]
    assert replies == [200, 429, 418, 418]
    assert client.ask("session.status")["status"] == 418
    with pytest.raises(RefusedHandshake) as caught:
        Client(client.rig)
    assert caught.value.status == 418


@pytest.mark.parametrize(
    ("target", "param", "shown"),
    [
        (TARGET, None, True),
        (TARGET, False, False),
        (f"{TARGET}?returnRateLimits=false", None, False),
        (f"{TARGET}?returnRateLimits=false", True, True),
        (f"{TARGET}?returnRateLimits=true", None, True),
        (TARGET, "false", False),
    ],
)
def test_rate_limits_can_be_left_out(target: str, param: object, shown: bool) -> None:
    """returnRateLimits=false in the URL, or with a request, hides them (facts 8)."""
    client = Client(target=target)
    params = {} if param is None else {"returnRateLimits": param}
    assert ("rateLimits" in client.ask("ticker.price", symbol="BTCUSDT", **params)) is shown
    assert ("rateLimits" in client.ask("ticker.price", symbol="NOPE", **params)) is shown


# Faults


def with_fault(line: str) -> Client:
    """Return a client of an exchange on which one fault is in force."""
    rig = Rig(keys=[ED_KEY])
    for rule in parse_script(f"faults:\n  - {{{line}}}\n").rules:
        rig.exchange.inject(rule, rig.now_ms)
    return Client(rig)


def sent(client: Client, name: object, method: str = "order.place", **params: object) -> None:
    """Send a signed request under an id, whether it is answered or not."""
    values = {"apiKey": KEY, "timestamp": client.rig.now_ms, **(params or ORDER)}
    values["signature"] = sign(SECRET, joined(values))
    client.session.receive(json.dumps({"id": name, "method": method, "params": values}), client.rig.now_ms)


@pytest.mark.parametrize(
    ("reply", "status", "expected"),
    [("unknown-503", 503, -1000), ("internal-503", 503, -1001), ("timeout-408", 408, -1007)],
)
@pytest.mark.parametrize("executed", [True, False])
def test_error_on_demand_has_its_status_here_too(
    reply: str, status: int, expected: int, executed: bool
) -> None:
    """Statuses mirror REST (facts 8); whether the order was placed does not show in the reply (facts 5)."""
    line = (
        f"fault: error, reply: {reply}, executed: {str(executed).lower()}, method: POST, path: /fapi/v1/order"
    )
    client = with_fault(line)
    sent(client, "a")
    assert client.replies[-1]["id"] == "a"
    assert code(client.replies[-1]) == (status, expected)
    assert bool(client.rig.exchange._venue.instruments["BTCUSDT"].open) is executed


def test_error_on_demand_says_when_to_come_back() -> None:
    """A 429 names the time until which nothing is to be sent."""
    client = with_fault("fault: error, reply: limit-429, for_s: 30")
    sent(client, 1)
    reply = client.replies[-1]
    assert code(reply) == (429, -1003)
    assert reply["error"]["data"]["retryAfter"] > client.rig.now_ms


def test_error_page_becomes_an_error() -> None:
    """What is no JSON stands as the text of an error."""
    client = with_fault("fault: error, reply: html-502")
    sent(client, 1)
    assert code(client.replies[-1]) == (502, -1000)
    assert "<" in client.replies[-1]["error"]["msg"]


def test_delayed_requests_are_overtaken() -> None:
    """Replies may come out of order; ids tell them apart (facts 8)."""
    client = with_fault("fault: delay-request, delay_ms: 300, client_id: slow")
    sent(client, "slow", **ORDER, newClientOrderId="slow1")
    sent(client, "fast", **ORDER, newClientOrderId="fast1")
    assert [reply["id"] for reply in client.replies] == ["fast"]
    client.rig.wait(300)
    assert [(reply["id"], reply["status"]) for reply in client.replies] == [("fast", 200), ("slow", 200)]
    assert [reply["result"]["orderId"] for reply in client.replies] == [1, 2]


def test_delayed_reply_comes_after_the_event() -> None:
    """The order is placed at once, and its event precedes the reply (facts 7.4)."""
    client = with_fault("fault: delay-reply, delay_ms: 300")
    events = client.rig.listen_to_user()
    sent(client, 1, **ORDER, newClientOrderId="q1")
    assert (executions(events), client.replies) == ([("q1", "NEW")], [])
    client.rig.wait(300)
    assert client.replies[-1]["status"] == 200


@pytest.mark.parametrize(("fault", "executed"), [("drop-request", False), ("drop-reply", True)])
def test_lost_message_leaves_the_outcome_unknown(fault: str, executed: bool) -> None:
    """Nothing comes back; the connection stays and the next request is answered."""
    client = with_fault(f"fault: {fault}, times: 1")
    sent(client, 1)
    assert client.replies == []
    assert bool(client.rig.exchange._venue.instruments["BTCUSDT"].open) is executed
    assert client.ask("session.status")["status"] == 200


@pytest.mark.parametrize(("fault", "executed"), [("reset-request", False), ("reset-reply", True)])
def test_reset_ends_the_connection(fault: str, executed: bool) -> None:
    """Loss of the socket with requests in flight: their outcome is unknown (facts 8)."""
    rig = with_fault(f"fault: {fault}, times: 1").rig
    ended: list[bool] = []
    client = Client(rig)
    client.session = rig.exchange.open_session(
        TARGET, lambda text: client.replies.append(text), rig.now_ms, lambda: ended.append(True)
    )
    sent(client, 1)
    assert (client.replies, ended) == ([], [True])
    assert bool(rig.exchange._venue.instruments["BTCUSDT"].open) is executed


def test_market_that_breaks_is_told_to_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A market that cannot be read any further is an error of the server's, under the request's id."""
    client = Client()

    def broken() -> int:
        raise MarketError("line 7 is damaged")

    monkeypatch.setattr(client.rig.market, "peek_ms", broken)
    reply = client.send({"id": 5, "method": "session.status"})
    assert (reply["id"], *code(reply)) == (5, 500, -1000)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["symbol", "side", "price", "quantity", "orderId", "timestamp", "limit", "x", ""])
METHODS = st.sampled_from([name for name, _, _ in WEIGHTS]) | st.text(max_size=9)


@given(
    st.one_of(
        st.text(max_size=30),
        st.fixed_dictionaries(
            {},
            optional={
                "id": VALUES,
                "method": METHODS | VALUES,
                "params": st.dictionaries(NAMES, VALUES, max_size=5) | VALUES,
            },
        ),
    )
)
def test_any_message_gets_one_reply(message: Any) -> None:
    """Whatever comes in, one JSON object with id and status goes out, and the connection stays."""
    client = Client()
    reply = client.send(message)
    assert len(client.replies) == 1
    assert {"id", "status"} < set(reply)
    assert ("result" in reply) is (reply["status"] == 200)
