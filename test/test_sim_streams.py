"""Streams: routes, wrapping, control messages, listen keys and who hears what."""

import json
from typing import Any

import pytest

from sim.errors import RefusedHandshake, UnknownRoute
from sim.exchange import Options
from sim.streams import MAX_STREAMS, SESSION_LIFE_MS, StreamOptions, kind_of, parse_target
from test.sim_factory import START_MS, Rig, executions

MINUTE_MS = 60_000


def kinds(heard: list[Any]) -> list[str]:
    """Return the event names."""
    return [event["e"] for event in heard]


@pytest.mark.parametrize(
    ("target", "hears"),
    [
        ("/public/ws/btcusdt@bookTicker", ["bookTicker"]),
        ("/ws/btcusdt@bookTicker", ["bookTicker"]),
        ("/ws/btcusdt%40bookTicker", ["bookTicker"]),
        ("/market/ws/btcusdt@bookTicker", []),
        ("/private/ws/btcusdt@bookTicker", []),
        ("/market/ws/btcusdt@aggTrade", ["aggTrade"]),
        ("/public/ws/btcusdt@aggTrade", []),
        ("/ws/btcusdt@aggTrade", []),
        ("/public/ws/btcusdt@bookticker", []),
        ("/public/ws/BTCUSDT@bookTicker", []),
        ("/public/ws", []),
        ("/market/ws/btcusdt@aggTrade/btcusdt@markPrice@1s", ["aggTrade", "markPriceUpdate"]),
    ],
)
def test_stream_is_heard_on_its_route_only(target: str, hears: list[str]) -> None:
    """A wrong route or name connects and stays silent; un-routed sessions hear public streams (facts 1, 11.1)."""
    rig = Rig()
    _, heard = rig.listen(target)
    rig.quote("50000.0", "50000.1", "9")
    rig.trade("50000.0", "1")
    rig.wait(1000)
    assert kinds(heard) == hears


@pytest.mark.parametrize(
    "target",
    ["/", "", "/foo/ws", "/public", "/public/ws/", "/public/stream/x", "/ws-fapi/v2", "/ws-fapi/v1/"],
)
def test_unknown_target_is_no_stream_endpoint(target: str) -> None:
    """The handshake is refused where no endpoint lives (facts 1)."""
    with pytest.raises(UnknownRoute):
        Rig().listen(target)


def test_new_subscriber_hears_the_next_change_first() -> None:
    """There is no snapshot: bookTicker is pushed on change only (facts 6)."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@bookTicker")
    assert heard == []


def test_combined_endpoint_wraps_its_payloads() -> None:
    """/stream wraps even a single stream (facts 1)."""
    rig = Rig()
    _, heard = rig.listen("/public/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker")
    rig.quote("50000.0", "50000.2")
    assert [message["stream"] for message in heard] == ["btcusdt@bookTicker"]
    assert heard[0]["data"]["a"] == "50000.20"


def test_book_payload_has_the_documented_fields() -> None:
    """bookTicker as in facts 6: ids and times ints, decimals strings."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@bookTicker")
    rig.quote("49999.9", "50000.2", "4.218", "6.128")
    assert heard == [
        {
            "e": "bookTicker",
            "u": 2,
            "E": START_MS + 2,
            "T": START_MS + 2,
            "s": "BTCUSDT",
            "ps": "BTCUSDT",
            "b": "49999.90",
            "B": "4.218",
            "a": "50000.20",
            "A": "6.128",
            "st": 1,
        }
    ]


@pytest.mark.parametrize("sold", [True, False])
def test_trade_payload_has_the_documented_fields(sold: bool) -> None:
    """aggTrade as in facts 6; m tells that the buyer was the maker."""
    rig = Rig()
    _, heard = rig.listen("/market/ws/btcusdt@aggTrade")
    rig.trade("50000.1", "0.5", sold=sold)
    rig.wait(100)
    assert heard == [
        {
            "e": "aggTrade",
            "E": START_MS + 100,
            "s": "BTCUSDT",
            "a": 2,
            "p": "50000.10",
            "q": "0.500",
            "nq": "0.500",
            "f": 1,
            "l": 2,
            "T": START_MS + 2,
            "m": sold,
            "st": 1,
        }
    ]


def test_trades_are_told_after_the_quote_that_shows_them() -> None:
    """Quotes come at once, trades every 100 ms in the order in which they happened (facts 6)."""
    rig = Rig()
    _, quotes = rig.listen("/public/ws/btcusdt@bookTicker")
    _, trades = rig.listen("/market/ws/btcusdt@aggTrade")
    rig.wait(10)
    rig.trade("50000.1", "0.5")
    rig.trade("50000.2", "0.7")
    rig.quote("50000.1", "50000.3")
    assert (len(quotes), trades) == (1, [])
    rig.wait(85)
    assert trades == []
    rig.wait(1)
    assert [(each["p"], each["E"], each["E"] - each["T"]) for each in trades] == [
        ("50000.10", START_MS + 100, 88),
        ("50000.20", START_MS + 100, 87),
    ]
    rig.wait(1000)
    assert len(trades) == 2


def test_trades_are_told_at_once_where_no_interval_is_wanted() -> None:
    """`streams.agg_trade_ms` of 0."""
    rig = Rig(options=Options(streams=StreamOptions(agg_trade_ms=0)))
    _, trades = rig.listen("/market/ws/btcusdt@aggTrade")
    rig.trade("50000.1", "0.5")
    assert [each["E"] - each["T"] for each in trades] == [0]


def test_trades_that_nobody_hears_any_more_are_not_kept() -> None:
    """Who listens anew hears what is traded from then on, and the stream has no timer meanwhile."""
    rig = Rig()
    first, _ = rig.listen("/market/ws/btcusdt@aggTrade")
    rig.trade("50000.1", "0.5")
    first.closed(rig.now_ms)
    _, heard = rig.listen("/market/ws/btcusdt@aggTrade")
    assert rig.exchange._streams.due_ms is None
    rig.wait(1000)
    assert heard == []


def test_mark_price_is_pushed_every_second_or_third_second() -> None:
    """markPrice@1s at whole seconds, markPrice at every third (facts 6); T is the next funding time."""
    rig = Rig()
    _, fast = rig.listen("/market/ws/btcusdt@markPrice@1s")
    _, slow = rig.listen("/market/ws/btcusdt@markPrice")
    rig.wait(9000)
    assert [event["E"] % 1000 for event in fast] == [0] * 9
    assert [event["E"] % 3000 for event in slow] == [0] * 3
    assert fast[0]["p"] == "50000.05000000"
    assert fast[0]["T"] == 1_700_006_400_000


def ask(session: Any, heard: list[Any], message: object) -> Any:
    """Send a control message and return the answer."""
    session.receive(json.dumps(message), START_MS)
    return heard[-1]


def test_subscriptions_are_changed_and_listed() -> None:
    """SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS answer under the request's id (facts 6)."""
    rig = Rig()
    session, heard = rig.listen("/public/ws")
    subscribe = {"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker", "nonsense"], "id": 1}
    assert ask(session, heard, subscribe) == {"result": None, "id": 1}
    listing = {"method": "LIST_SUBSCRIPTIONS", "id": "x"}
    assert ask(session, heard, listing) == {"result": ["btcusdt@bookTicker", "nonsense"], "id": "x"}
    rig.quote("50000.0", "50000.2")
    assert heard[-1]["e"] == "bookTicker"
    gone = {"method": "UNSUBSCRIBE", "params": ["btcusdt@bookTicker", "other"], "id": 3}
    assert ask(session, heard, gone) == {"result": None, "id": 3}
    rig.quote("50000.0", "50000.3")
    assert heard[-1] == {"result": None, "id": 3}


def test_subscribing_twice_delivers_once() -> None:
    """A stream is heard once however often it was asked for."""
    rig = Rig()
    session, heard = rig.listen("/public/ws/btcusdt@bookTicker")
    ask(session, heard, {"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 1})
    heard.clear()
    rig.quote("50000.0", "50000.2")
    assert kinds(heard) == ["bookTicker"]


def test_wrapping_can_be_switched() -> None:
    """SET_PROPERTY and GET_PROPERTY of "combined" (facts 6)."""
    rig = Rig()
    session, heard = rig.listen("/public/ws/btcusdt@bookTicker")
    assert ask(session, heard, {"method": "SET_PROPERTY", "params": ["combined", True], "id": 1}) == {
        "result": None,
        "id": 1,
    }
    assert ask(session, heard, {"method": "GET_PROPERTY", "params": ["combined"], "id": 2})["result"] is True
    rig.quote("50000.0", "50000.2")
    assert heard[-1]["stream"] == "btcusdt@bookTicker"


@pytest.mark.parametrize(
    "message",
    [
        {"method": "DANCE", "id": 1},
        {"method": "SUBSCRIBE", "params": "x", "id": 1},
        {"method": "SUBSCRIBE", "params": [1], "id": 1},
        {"method": "SUBSCRIBE", "params": [], "id": 1},
        {"method": "SUBSCRIBE", "params": [f"s{n}" for n in range(MAX_STREAMS + 1)], "id": 1},
        {"method": "SET_PROPERTY", "params": ["combined", "yes"], "id": 1},
        {"method": ["odd"], "id": 1},
    ],
)
def test_faulty_control_message_is_answered_with_an_error(message: object) -> None:
    """What is not understood gets code and text under its id, and the socket stays open (facts 6)."""
    session, heard = Rig().listen("/public/ws")
    assert session.receive(json.dumps(message), START_MS)
    assert heard[-1]["id"] == 1
    assert set(heard[-1]["error"]) == {"code", "msg"}


@pytest.mark.parametrize("text", ["{", "[]", "7"])
def test_invalid_json_drops_the_connection(text: str) -> None:
    """Error code 3, then disconnect (facts 6)."""
    session, heard = Rig().listen("/public/ws")
    assert not session.receive(text, START_MS)
    assert heard[-1]["error"]["code"] == 3


def test_eleventh_message_in_a_second_drops_the_connection() -> None:
    """At most 10 messages a second (facts 6)."""
    session, _ = Rig().listen("/public/ws")
    text = json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 1})
    assert [session.receive(text, START_MS) for _ in range(11)] == [True] * 10 + [False]
    assert session.receive(text, START_MS + 1000)


def test_pings_and_pongs_count_like_messages() -> None:
    """The ten messages a second are those of all kinds (facts 6)."""
    session, _ = Rig().listen("/public/ws")
    text = json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 1})
    assert all(session.pinged(START_MS) for _ in range(9))
    assert session.receive(text, START_MS)
    assert not session.receive(text, START_MS)
    assert not session.pinged(START_MS)
    assert session.pinged(START_MS + 1000)


@pytest.mark.parametrize("value", [7, "seven", None, -1])
def test_id_is_echoed_as_it_came(value: object) -> None:
    """Whole numbers and strings both work as an id (facts 6)."""
    session, heard = Rig().listen("/public/ws")
    assert ask(session, heard, {"method": "LIST_SUBSCRIPTIONS", "id": value}) == {"result": [], "id": value}


@pytest.mark.parametrize("value", [True, [1], {"a": 1}])
def test_id_of_another_kind_is_answered_with_null(value: object) -> None:
    """What is neither a whole number nor a string is no id."""
    session, heard = Rig().listen("/public/ws")
    assert ask(session, heard, {"method": "LIST_SUBSCRIPTIONS", "id": value})["id"] is None


def test_errors_may_come_in_the_older_form() -> None:
    """Code and text beside the id rather than under `error`: sources disagree, so it is a switch (facts 6)."""
    rig = Rig(options=Options(streams=StreamOptions(wraps_errors=False)))
    session, heard = rig.listen("/public/ws")
    answer = ask(session, heard, {"method": "DANCE", "id": 1})
    assert answer == {"code": 2, "msg": "Invalid request: unknown variant", "id": 1}
    assert not session.receive("{", START_MS)
    assert heard[-1]["code"] == 3


def test_exactly_1024_streams_fit() -> None:
    """At most 1024 streams on a connection; one more is refused and the others stay (facts 6)."""
    rig = Rig()
    session, heard = rig.listen("/public/ws")
    names = [f"s{n}@bookTicker" for n in range(MAX_STREAMS)]
    assert ask(session, heard, {"method": "SUBSCRIBE", "params": names, "id": 1})["result"] is None
    assert "error" in ask(session, heard, {"method": "SUBSCRIBE", "params": ["one@more"], "id": 2})
    assert ask(session, heard, {"method": "SUBSCRIBE", "params": names[:2], "id": 3})["result"] is None
    assert ask(session, heard, {"method": "LIST_SUBSCRIPTIONS", "id": 4})["result"] == names


def test_url_with_more_than_1024_streams_is_refused() -> None:
    """The limit holds for those of the URL too (facts 6; the status is unsure)."""
    names = [f"s{number}" for number in range(MAX_STREAMS + 1)]
    with pytest.raises(RefusedHandshake) as caught:
        Rig().listen(f"/public/stream?streams={'/'.join(names)}")
    assert caught.value.status == 400
    session, heard = Rig().listen(f"/public/stream?streams={'/'.join(names[1:])}")
    assert len(ask(session, heard, {"method": "LIST_SUBSCRIPTIONS", "id": 1})["result"]) == MAX_STREAMS


def test_every_connection_is_cut_after_24_hours() -> None:
    """Each lives its own 24 hours, then it is closed and hears nothing (facts 6, 11.19)."""
    rig = Rig()
    ended: list[str] = []
    for name in ("first", "second"):
        rig.exchange.open_session(
            "/public/ws/btcusdt@bookTicker", lambda _: None, rig.now_ms, lambda name=name: ended.append(name)
        )
        rig.wait(1000)
    opened_ms = START_MS + 1
    rig.wait(opened_ms + SESSION_LIFE_MS - 1 - rig.now_ms)
    assert ended == []
    rig.wait(1)
    assert ended == ["first"]
    rig.wait(1000)
    assert ended == ["first", "second"]
    assert not rig.exchange._venue.hub.sessions


def test_life_of_a_connection_can_be_shortened() -> None:
    """Tests need not wait a day for the cut; who has closed before is not hung up on."""
    rig = Rig(options=Options(streams=StreamOptions(session_life_ms=5000)))
    ended: list[int] = []
    for number in range(3):
        session = rig.exchange.open_session(
            "/public/ws", lambda _: None, rig.now_ms, lambda number=number: ended.append(number)
        )
    session.closed(rig.now_ms)
    assert rig.exchange.next_due_ms() == START_MS + 1000
    rig.wait(5000)
    assert ended == [0, 1]


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        ("btcusdt@depth", "depth"),
        ("btcusdt@depth20@100ms", "depth"),
        ("btcusdt@kline_15m", "kline"),
        ("btcusdt@markPrice@1s", "markPrice"),
        ("!markPrice@arr@1s", "markPrice"),
        ("!bookTicker", "bookTicker"),
        ("btcusdt@rpiDepth@500ms", "rpiDepth"),
        ("ORDER_TRADE_UPDATE", "ORDER_TRADE_UPDATE"),
    ],
)
def test_streams_of_a_kind_are_silenced_together(stream: str, kind: str) -> None:
    """Speeds, levels and intervals do not make another kind of stream."""
    assert kind_of(stream) == kind


def test_closed_session_hears_nothing() -> None:
    """After closed() nothing is delivered, and closing twice does no harm."""
    rig = Rig()
    session, heard = rig.listen("/public/ws/btcusdt@bookTicker")
    session.closed(rig.now_ms)
    session.closed(rig.now_ms)
    rig.quote("50000.0", "50000.2")
    assert heard == []


# User data


def key_of(rig: Rig) -> str:
    """Return the account's listen key."""
    return str(rig.call("POST", "/fapi/v1/listenKey").body["listenKey"])


@pytest.mark.parametrize(
    "form",
    [
        "/private/ws/{key}",
        "/private/ws?listenKey={key}",
        "/private/ws?listenKey={key}&events=ORDER_TRADE_UPDATE/TRADE_LITE",
    ],
)
def test_user_data_is_heard_under_the_listen_key(form: str) -> None:
    """The documented URL forms deliver (facts 7.1)."""
    rig = Rig()
    _, heard = rig.listen(form.format(key=key_of(rig)))
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    assert executions(heard) == [("q1", "NEW")]


@pytest.mark.parametrize(
    "form", ["/ws/{key}", "/private/ws/unknown", "/private/ws?listenKey=unknown", "/public/ws/{key}"]
)
def test_user_data_is_silent_elsewhere(form: str) -> None:
    """Unknown keys and unrouted URLs complete the handshake and stay silent (facts 7.1)."""
    rig = Rig()
    _, heard = rig.listen(form.format(key=key_of(rig)))
    rig.place("BUY", "49000", "0.010")
    assert heard == []


@pytest.mark.parametrize("form", ["/ws/{key}", "/stream?streams={key}"])
def test_user_data_may_be_heard_without_a_route(form: str) -> None:
    """As before 2026; whether demo still delivers it is unsure, so it is a switch (facts 7.1)."""
    rig = Rig(options=Options(streams=StreamOptions(unrouted_user_data=True)))
    _, heard = rig.listen(form.format(key=key_of(rig)))
    rig.place("BUY", "49000", "0.010")
    assert len(heard) == 1


def test_several_keys_fit_in_one_url() -> None:
    """/private/stream takes several keys, each with its events; payloads are wrapped in their key (facts 7.1)."""
    rig = Rig()
    key = key_of(rig)
    _, heard = rig.listen(
        f"/private/stream?listenKey=unknown&events=X&listenKey={key}&events=ORDER_TRADE_UPDATE"
    )
    rig.place("BUY", "49000", "0.010")
    assert [message["stream"] for message in heard] == [key]


def test_event_filter_is_a_filter() -> None:
    """Only the named events arrive; a misspelt one never does (facts 7.1)."""
    rig = Rig()
    key = key_of(rig)
    _, heard = rig.listen(f"/private/stream?listenKey={key}&events=ACCOUNT_UPDATE/ORDER_TRADE_UPDAT")
    rig.take("BUY", "0.010")
    assert [(message["stream"], message["data"]["e"]) for message in heard] == [(key, "ACCOUNT_UPDATE")]


def test_key_may_be_subscribed_on_a_private_socket() -> None:
    """The official SDK connects to /private/stream and subscribes the key itself (facts 7.1)."""
    rig = Rig()
    key = key_of(rig)
    session, heard = rig.listen("/private/stream")
    session.receive(json.dumps({"method": "SUBSCRIBE", "params": [key], "id": 1}), rig.now_ms)
    rig.place("BUY", "49000", "0.010")
    assert heard[-1]["stream"] == key
    session.receive(json.dumps({"method": "UNSUBSCRIBE", "params": [key], "id": 2}), rig.now_ms)
    rig.place("BUY", "49000", "0.010")
    assert heard[-1] == {"result": None, "id": 2}


def test_listen_key_is_one_per_account() -> None:
    """POST while active returns the same 64 characters and extends them (facts 7.1)."""
    rig = Rig()
    key = key_of(rig)
    rig.wait(50 * MINUTE_MS)
    assert key_of(rig) == key
    assert len(key) == 64
    rig.wait(50 * MINUTE_MS)
    assert rig.call("PUT", "/fapi/v1/listenKey").body == {"listenKey": key}


def test_listen_key_dies_after_an_hour() -> None:
    """The socket gets listenKeyExpired and then silence; PUT gives -1125; the next key is another (facts 7.1)."""
    rig = Rig()
    key = key_of(rig)
    due_ms = rig.now_ms + 60 * MINUTE_MS
    _, heard = rig.listen(f"/private/ws/{key}")
    rig.wait(60 * MINUTE_MS - 1)
    assert heard == []
    rig.wait(1)
    assert heard == [{"e": "listenKeyExpired", "E": due_ms, "listenKey": key}]
    reply = rig.call("PUT", "/fapi/v1/listenKey")
    assert (reply.status, reply.code) == (400, -1125)
    rig.place("BUY", "49000", "0.010")
    assert len(heard) == 1
    assert key_of(rig) != key


def test_deleted_listen_key_ends_for_everybody() -> None:
    """DELETE answers {}, also when there is none any more (facts 3.4, 7.1)."""
    rig = Rig()
    heard = rig.listen_to_user()
    assert rig.call("DELETE", "/fapi/v1/listenKey").body == {}
    assert rig.call("DELETE", "/fapi/v1/listenKey").body == {}
    assert kinds(heard) == ["listenKeyExpired"]


def test_fill_is_told_in_three_events() -> None:
    """TRADE_LITE, ORDER_TRADE_UPDATE and ACCOUNT_UPDATE share trade id and money (facts 7.2, 7.3)."""
    rig = Rig()
    rig.take("BUY", "0.010")
    rig.place("SELL", "50000.1", "0.010", newClientOrderId="q1")
    heard = rig.listen_to_user()
    rig.trade("50000.2", "1", sold=False)
    lite, order, account = heard
    assert lite == {
        "e": "TRADE_LITE",
        "E": rig.now_ms,
        "T": rig.now_ms,
        "s": "BTCUSDT",
        "q": "0.010",
        "p": "50000.10",
        "m": True,
        "c": "q1",
        "S": "SELL",
        "L": "50000.10",
        "l": "0.010",
        "t": 2,
        "i": 2,
    }
    assert order["o"] == {
        "s": "BTCUSDT",
        "c": "q1",
        "S": "SELL",
        "o": "LIMIT",
        "f": "GTX",
        "q": "0.010",
        "p": "50000.10",
        "ap": "50000.10000000",
        "sp": "0",
        "x": "TRADE",
        "X": "FILLED",
        "i": 2,
        "l": "0.010",
        "z": "0.010",
        "L": "50000.10",
        "N": "USDT",
        "n": "0.10000020",
        "T": rig.now_ms,
        "t": 2,
        "b": "0.00000000",
        "a": "0.00000000",
        "m": True,
        "R": False,
        "wt": "CONTRACT_PRICE",
        "ot": "LIMIT",
        "ps": "BOTH",
        "cp": False,
        "rp": "0.00000000",
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": 0,
        "er": "0",
    }
    body = account["a"]
    assert (body["m"], body["B"][0]["wb"], body["B"][0]["bc"]) == ("ORDER", "99999.64999930", "0.00000000")
    assert (body["P"][0]["s"], body["P"][0]["pa"], body["P"][0]["ep"]) == ("BTCUSDT", "0.000", "0.00000000")


@pytest.mark.parametrize("first", [False, True])
def test_order_of_account_and_order_events_is_a_switch(first: bool) -> None:
    """Which of the two comes first is not guaranteed (facts 7.4): clients have to bear both."""
    rig = Rig(options=Options(streams=StreamOptions(account_update_first=first)))
    heard = rig.listen_to_user()
    rig.take("BUY", "0.010")
    told = kinds(heard)[1:]
    account, order = "ACCOUNT_UPDATE", ["TRADE_LITE", "ORDER_TRADE_UPDATE"]
    assert told == ([account, *order] if first else [*order, account])


def test_order_event_without_fill_has_no_commission() -> None:
    """N and n are absent where there is none (facts 7.2)."""
    rig = Rig()
    heard = rig.listen_to_user()
    rig.place("BUY", "49000", "0.010")
    assert {"N", "n"}.isdisjoint(heard[0]["o"])


def test_new_and_cancelled_orders_move_no_balance() -> None:
    """ACCOUNT_UPDATE is not sent for them (facts 7.3)."""
    rig = Rig()
    heard = rig.listen_to_user()
    rig.place("BUY", "49000", "0.010")
    rig.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=1)
    assert kinds(heard) == ["ORDER_TRADE_UPDATE", "ORDER_TRADE_UPDATE"]


def test_events_are_built_only_while_somebody_listens() -> None:
    """A key alone is no listener; neither is a socket whose key has ended."""
    rig = Rig()
    user = rig.exchange._venue.user
    key = key_of(rig)
    assert not user.is_heard
    session, _ = rig.listen(f"/private/ws/{key}")
    assert user.is_heard
    session.closed(rig.now_ms)
    assert not user.is_heard
    rig.listen(f"/private/ws/{key}")
    rig.call("DELETE", "/fapi/v1/listenKey")
    assert not user.is_heard


def test_filter_belongs_to_the_key_before_it() -> None:
    """Several keys in one URL, each with its own events (facts 7.1)."""
    target = parse_target("/private/stream?events=X&listenKey=a&events=A/B&listenKey=b")
    assert target.keys == (("a", frozenset({"A", "B"})), ("b", None))
    assert parse_target("/public/ws?listenKey=a&streams=x").keys == ()
