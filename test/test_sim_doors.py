"""The control doors: the market moves, halts and faults happen on demand, and the view shows what is."""

import base64
import hashlib
import json
import re
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from sim.exchange import Request

from .fault_client import SYMBOL, Client, with_faults
from .sim_factory import Reply, Rig
from .test_sim_server import Running, served


def post(rig: Rig, path: str, query: str) -> Reply:
    """Ask a door for a change."""
    return rig.send("POST", path, query, key="")


def view(rig: Rig) -> str:
    """Return the text of the view."""
    from sim.exchange import Request

    reply = rig.exchange.handle(Request("GET", "/sim/view", "", {}, ""), rig.now_ms)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    return reply.body.decode()


def best(rig: Rig) -> tuple[str, str]:
    """Return the best bid and ask over REST."""
    body = rig.send("GET", "/fapi/v1/ticker/bookTicker", "symbol=BTCUSDT").body
    return body["bidPrice"], body["askPrice"]


def test_market_stands_elsewhere_from_now_on() -> None:
    """The present quote moves at once, and every later one of the market by the same ticks."""
    rig = Rig()
    body = post(rig, "/sim/market", "symbol=BTCUSDT&move_bps=20").body
    assert body["markets"] == [{"symbol": "BTCUSDT", "bid": "50100.00", "ask": "50100.10"}]
    assert best(rig) == ("50100.00", "50100.10")
    rig.quote("50001.00", "50001.10")
    assert best(rig) == ("50101.00", "50101.10")
    post(rig, "/sim/market", "symbol=BTCUSDT&move_bps=-20")
    assert best(rig) == ("50000.80", "50000.90")


def test_moved_market_fills_what_it_goes_through() -> None:
    """A resting order that the market jumps over is filled at its price, as maker."""
    rig = Rig()
    rig.place("BUY", "49950", "0.010", newClientOrderId="a")
    post(rig, "/sim/market", "move_bps=-20")
    assert rig.order("a")["status"] == "FILLED"
    assert rig.record()["fills"][0]["price"] == "49950.00"
    rig.trade("50000.00", "0.005")
    assert rig.send("GET", "/fapi/v1/trades", "symbol=BTCUSDT").body[-1]["price"] == "49900.00"


def test_book_ids_go_on_rising_over_a_move() -> None:
    """Facts section 6: clients order everything by u."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@bookTicker")
    rig.quote("50000.10", "50000.20")
    post(rig, "/sim/market", "move_bps=20")
    rig.quote("50000.20", "50000.30")
    ids = [event["u"] for event in heard]
    assert len(ids) == 3
    assert ids == sorted(set(ids))


def test_halt_lasts_as_long_as_it_was_asked_for() -> None:
    """Orders are refused with -4140 under the status that was asked for, and taken again afterwards."""
    rig = Rig()
    body = post(rig, "/sim/halt", "symbol=BTCUSDT&seconds=5&status=PRE_SETTLE").body
    assert body == {"status": "PRE_SETTLE", "until": rig.now_ms + 5000}
    assert rig.send("GET", "/fapi/v1/exchangeInfo").body["symbols"][0]["status"] == "PRE_SETTLE"
    assert rig.place("BUY", "49900", "0.010").code == -4140
    rig.quote("40000.00", "40000.10")
    assert best(rig) == ("50000.00", "50000.10")
    rig.wait(5000)
    assert rig.place("BUY", "49900", "0.010").status == 200


def test_fault_is_injected_with_the_keys_of_scenario_files() -> None:
    """Times count from the request; what struck is told by /sim/faults."""
    rig = Rig()
    rig.wait(10_000)
    body = post(rig, "/sim/fault", "fault=transfer&amount=25&at_s=2").body
    assert body == {"fault": "transfer", "from": rig.now_ms + 2000, "until": None}
    rig.wait(1999)
    assert rig.send("GET", "/sim/faults").body["counts"] == {}
    rig.wait(1)
    told = rig.send("GET", "/sim/faults").body
    assert (told["counts"], told["strikes"][0]["fault"]) == ({"transfer": 1}, "transfer")
    assert Decimal(rig.record()["wallet"]) == 100_025


def test_injected_fault_strikes_messages_too() -> None:
    """What a scenario file can do, the door can do while the exchange runs."""

    async def story(client: Client) -> Any:
        assert (await client.place("a")).status == 200
        query = "fault=error&reply=unknown-503&method=POST&path=/fapi/v1/order&for_s=5"
        assert (await client.send("POST", "/sim/fault", query)).status == 200
        assert (await client.place("b")).status == 503
        await client.until(6)
        return (await client.place("b")).status

    assert with_faults("faults: []", story) == 200


@pytest.mark.parametrize(
    ("path", "query", "code", "text"),
    [
        ("/sim/market", "", -1102, "move_bps"),
        ("/sim/market", "move_bps=much", -1100, "move_bps"),
        ("/sim/market", "move_bps=5001", -1130, "move_bps"),
        ("/sim/market", "move_bps=1&symbol=NOPE", -1121, "Invalid symbol"),
        ("/sim/halt", "symbol=BTCUSDT", -1102, "seconds"),
        ("/sim/halt", "seconds=-1", -1130, "fault: for_s must be a number from 0.001"),
        ("/sim/halt", "seconds=5&status=ASLEEP", -1130, "status must be one of TRADING_HALT"),
        ("/sim/fault", "", -1130, "fault is missing: name one, error, delay-request"),
        ("/sim/fault", "fault=drop-reply&pth=x", -1130, "has no key 'pth'; the nearest is path."),
        ("/sim/fault", "fault=adl&symbol=NOPE", -1121, "Invalid symbol"),
        ("/sim/expire-listen-key", "notice=maybe", -1130, "notice"),
    ],
)
def test_door_refuses_what_makes_no_sense(path: str, query: str, code: int, text: str) -> None:
    """One sentence, HTTP 400, and nothing has happened."""
    rig = Rig()
    reply = post(rig, path, query)
    assert (reply.status, reply.code) == (400, code)
    assert text in reply.body["msg"]
    assert best(rig) == ("50000.00", "50000.10")
    assert rig.place("BUY", "49900", "0.010").status == 200


def test_listen_key_ends_on_demand_with_and_without_notice() -> None:
    """Facts section 7.1: an open socket gets listenKeyExpired; without it, silence is all there is."""
    rig = Rig()
    heard = rig.listen_to_user()
    post(rig, "/sim/expire-listen-key", "notice=false")
    rig.place("BUY", "49900", "0.010")
    assert heard == []
    heard = rig.listen_to_user()
    post(rig, "/sim/expire-listen-key", "")
    assert [event["e"] for event in heard] == ["listenKeyExpired"]


@pytest.mark.parametrize("path", ["/sim/market", "/sim/halt", "/sim/fault", "/sim/expire-listen-key"])
def test_changes_are_not_made_by_get(path: str) -> None:
    """Whoever only looks changes nothing."""
    rig = Rig()
    assert rig.send("GET", path, "symbol=BTCUSDT&move_bps=5&seconds=5&fault=halt").status == 404
    assert best(rig) == ("50000.00", "50000.10")


def test_view_shows_book_orders_queue_position_and_trades() -> None:
    """Plain text: the touch, our order with the size ahead of it, what we hold, and what traded."""
    rig = Rig()
    assert "open orders: none" in view(rig)
    rig.place("BUY", "50000.00", "0.010", newClientOrderId="quote-1")
    rig.take("SELL", "0.020")
    rig.trade("50000.00", "0.005")
    text = view(rig)
    assert re.search(r"^BTCUSDT   TRADING   mark 50000.05   funding 0.01 % in \d+ min$", text, re.M)
    assert re.search(r"^  bid +50000.00 +\d+.\d{3}   <- 1 of ours$", text, re.M)
    assert re.search(r"^  BUY +50000.00 +0.010 +0.000 +[0-9.]+  quote-1$", text, re.M)
    assert re.search(r"^position -0.020 BTCUSDT at 50000", text, re.M)
    assert re.search(r"^  \S+  sold +0.005 at 50000.00$", text, re.M)
    assert re.search(r"^  \S+  SELL +0.020 BTCUSDT at 50000.00 as taker  sim-auto", text, re.M)


def test_view_tells_of_halts_moves_and_faults() -> None:
    """What is not as usual stands where it is looked for."""
    rig = Rig()
    post(rig, "/sim/market", "move_bps=20")
    post(rig, "/sim/fault", "fault=halt&for_s=5")
    text = view(rig)
    assert "*** TRADING_HALT ***" in text
    assert "moved by 1000 ticks" in text
    assert "faults: halt 1" in text


def test_view_tells_what_a_position_stands_on_and_what_is_forbidden() -> None:
    """Leverage, margin, the liquidation price as positionRisk has it, restrictions, modes, and what is not listed."""
    rig = Rig("BTCUSDT", "ETHUSDT")
    rig.call("POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="ISOLATED")
    rig.take("BUY", "0.100")
    price = rig.call("GET", "/fapi/v3/positionRisk", symbol="BTCUSDT").body[0]["liquidationPrice"]
    assert f"  20x isolated on 250.00050000   liquidated at {Decimal(price):.2f}" in view(rig)
    rig.take("BUY", "0.100", symbol="ETHUSDT")
    assert "  20x crossed   never liquidated" in view(rig)
    post(rig, "/sim/restrict", "code=-4400&seconds=9&symbol=ETHUSDT")
    post(rig, "/sim/fault", "fault=hedge-mode&for_s=5")
    post(rig, "/sim/fault", "fault=symbol-missing&symbol=ETHUSDT&for_s=5")
    text = view(rig)
    assert "\nrestricted with -4400 in ETHUSDT\n" in text
    assert "hedge mode: orders are refused" in text
    assert "ETHUSDT   *** NOT LISTED ***" in text


def test_view_of_a_market_without_a_quote_says_so() -> None:
    """Nothing is made up before the first quote."""
    assert "no quote yet" in view(Rig(quoted=False))


async def _page(running: Running) -> tuple[str, Any]:
    async with running.client.get(f"{running.server.url}/sim/") as reply:
        assert reply.status == 200
        return await reply.text(), reply.headers


async def test_page_stands_alone_and_may_run_nothing_but_its_own_script() -> None:
    """No address of anybody else is in it; the policy names its style and script by their hashes."""
    async with served() as running:
        html, headers = await _page(running)
    assert "http:" not in html
    assert "https:" not in html
    assert "//" not in re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert (headers["x-frame-options"], headers["cache-control"]) == ("DENY", "no-store")


async def test_every_button_of_the_page_is_answered() -> None:
    """A button that does nothing would be worse than none."""
    async with served() as running:
        html, _ = await _page(running)
        paths = re.findall(r'data-path="([^"]+)"', html)
        (quantity,) = re.findall(r'id="quantity" value="([^"]+)"', html)
        assert len(paths) > 10
        paths.sort(key=lambda path: "outage" in path)
        for path in paths:
            filled = path.replace("&amp;", "&").replace("SYMBOL", SYMBOL).replace("QUANTITY", quantity)
            url = running.server.url + filled
            async with running.client.post(url) as reply:
                assert reply.status == 200, (path, await reply.text())


@pytest.mark.parametrize(
    ("symbol", "bid", "ask", "quantity"),
    [
        ("BTCUSDT", "50000", "50100", "0.001"),
        ("DOGEUSDT", "0.10", "0.101", "99"),
        ("XRPUSDT", "0.5", "0.505", "19.9"),
    ],
)
def test_page_proposes_a_quantity_that_the_symbol_allows(
    symbol: str, bid: str, ask: str, quantity: str
) -> None:
    """Lots differ: what is small in one symbol is refused in another."""
    rig = Rig(symbol, quoted=False)
    rig.quote(bid, ask, symbol=symbol)
    request = Request("GET", "/sim/", "", {}, "")
    html = rig.exchange.handle(request, rig.now_ms).body.decode()
    assert f'id="quantity" value="{quantity}"' in html
    assert post(rig, "/sim/fill", f"symbol={symbol}&side=BUY&quantity={quantity}").status == 200


async def test_page_may_ask_and_other_pages_may_not() -> None:
    """The origin must be the very address that is asked: another port, scheme or name is another page."""
    async with served() as running:
        own = running.server.url
        answers: dict[str, int] = {}
        for origin in (
            own,
            own.replace("http:", "https:"),
            "http://127.0.0.1:1",
            "http://evil.example",
            "null",
        ):
            async with running.client.post(
                f"{own}/sim/market?move_bps=1", headers={"Origin": origin}
            ) as reply:
                answers[origin] = reply.status
        assert answers.pop(own) == 200
        assert set(answers.values()) == {403}
        headers = {"Host": "evil.example", "Origin": "http://evil.example"}
        async with running.client.get(f"{own}/sim/view", headers=headers) as reply:
            assert reply.status == 403


async def test_faults_act_over_sockets_as_they_do_in_memory() -> None:
    """Lost, reset, wrong and broken replies: the client of a socket sees what the one in memory sees."""
    async with served() as running:

        async def inject(fault: str) -> None:
            async with running.client.post(f"{running.server.url}/sim/fault?{fault}") as reply:
                assert reply.status == 200, await reply.text()

        async def ask(path: str, timeout_s: float = 5) -> tuple[int, bytes]:
            wait = aiohttp.ClientTimeout(total=timeout_s)
            async with running.client.get(f"{running.server.url}{path}", timeout=wait) as reply:
                return reply.status, await reply.read()

        await inject("fault=drop-reply&path=/fapi/v1/ping&times=1")
        with pytest.raises(TimeoutError):
            await ask("/fapi/v1/ping", 0.1)
        for kind in ("reset-reply", "reset-request", "refuse-connection"):
            await inject(f"fault={kind}&path=/fapi/v1/time&times=2")  # aiohttp asks again after a reset
            with pytest.raises(aiohttp.ClientError):
                await ask("/fapi/v1/time")
        await inject("fault=error&reply=html-502&path=/fapi/v1/time&times=1")
        assert (await ask("/fapi/v1/time"))[0] == 502
        await inject("fault=truncate-reply&path=/fapi/v1/exchangeInfo&times=1")
        with pytest.raises(json.JSONDecodeError):
            json.loads((await ask("/fapi/v1/exchangeInfo"))[1])
        assert (await ask("/fapi/v1/time"))[0] == 200


async def _something_but_text(socket: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMsgType:
    """Return the type of the next message that is no payload, half a second of silence being the end."""
    while (kind := (await socket.receive(0.5)).type) is aiohttp.WSMsgType.TEXT:
        pass
    return kind


async def test_streams_are_refused_closed_and_half_open_over_sockets() -> None:
    """A refused handshake has its status, a closed socket ends, a half-open one hears nothing and gets no pong."""
    async with served() as running:

        async def inject(fault: str) -> None:
            async with running.client.post(f"{running.server.url}/sim/fault?{fault}") as reply:
                assert reply.status == 200, await reply.text()

        await inject("fault=refuse-handshakes&status=429&times=1")
        url = f"{running.server.url}/public/ws/btcusdt@bookTicker"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await running.client.ws_connect(url)
        assert refused.value.status == 429
        async with running.client.ws_connect(url) as socket:
            assert (await socket.receive(5)).type is aiohttp.WSMsgType.TEXT
            await inject("fault=close-sockets&at_s=0")
            assert await _something_but_text(socket) in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        async with running.client.ws_connect(url, autoping=False) as socket:
            await socket.receive(5)
            await inject("fault=half-open-sockets&at_s=0")
            await socket.ping(b"there?")
            with pytest.raises(TimeoutError):
                await _something_but_text(socket)
