"""The keys of execution: what each of them does to the requests of a whole daemon, as the exchange sees them."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from core.exit_code import ExitCode
from test.daemon import Sent, World, in_a_world, json_reply
from utils.http import HttpResponse

RESTLESS: dict[str, Any] = {
    "refresh_config": {"refresh_mode": "amend", "orderbook_refresh_interval": 1, "on_move": False},
    "order_management": {"modify_threshold": 0, "patience_bps_s": 0},
}
"""Every quote follows every tick, once a second: six amendments whenever the market has moved."""

SECONDS = 30.0


class Watch:
    """The amendments that leave: when, how many at once, and how many orders in each."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sent_s: list[float] = []
        self.orders: list[int] = []
        self.at_once = 0
        self._under_way = 0
        world.tamper = self._note

    async def _note(self, sent: Sent) -> HttpResponse | None:
        if sent.method != "PUT" or "rder" not in sent.path:
            return None
        self.sent_s.append(self._world.now_s)
        self.orders.append(sent.query.count("origClientOrderId"))
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        try:
            return await sent.deliver()
        finally:
            self._under_way -= 1


def watched(folder: Path, check: Callable[[Watch, World], None], **changes: Any) -> None:
    """Let a daemon amend for a while with these changes of the configuration, and look at its amendments."""

    async def story(world: World) -> None:
        config: dict[str, Any] = {
            name: {**RESTLESS.get(name, {}), **changes.get(name, {})} for name in {*RESTLESS, *changes}
        }
        watch = Watch(world)
        world.start(**config)
        await world.until_quoting()
        await world.watch(SECONDS)
        check(watch, world)
        assert await world.end() is ExitCode.STOPPED
        assert world.ours() == []

    in_a_world(folder, story)


def test_amendments_leave_in_batches_by_two_workers_unless_said_otherwise(tmp_path: Path) -> None:
    """Six orders are a batch of five and a single one, at once."""

    def check(watch: Watch, _world: World) -> None:
        assert max(watch.orders) == 5
        assert watch.at_once == 2
        assert sum(watch.orders) > 40

    watched(tmp_path, check)


def test_one_worker_sends_one_request_at_a_time(tmp_path: Path) -> None:
    """``execution.modify_worker_count: 1``."""

    def check(watch: Watch, _world: World) -> None:
        assert watch.at_once == 1
        assert sum(watch.orders) > 40

    watched(tmp_path, check, execution={"modify_worker_count": 1})


@pytest.mark.parametrize("a_second", [0.5, 1])
def test_requests_of_amendments_keep_their_rate(tmp_path: Path, a_second: float) -> None:
    """``execution.modify_rate_limit``: no second has more, and below one a second the pause is longer."""

    def check(watch: Watch, _world: World) -> None:
        count = max(int(a_second), 1)
        spans = [late - early for early, late in zip(watch.sent_s, watch.sent_s[count:], strict=False)]
        assert min(spans) >= count / a_second - 1e-6
        assert len(watch.sent_s) >= SECONDS * a_second / 4

    watched(tmp_path, check, execution={"modify_rate_limit": a_second})


def test_pending_modifications_are_bounded(tmp_path: Path) -> None:
    """``order_management.max_pending_modifications: 2``: no request holds more, and no two are under way."""

    def check(watch: Watch, _world: World) -> None:
        assert max(watch.orders) == 2
        assert watch.at_once == 1
        assert sum(watch.orders) > 40

    watched(tmp_path, check, order_management={"max_pending_modifications": 2})


@pytest.mark.parametrize("transport", ["rest", "ws"])
def test_orders_go_by_the_transport_that_is_configured(tmp_path: Path, transport: str) -> None:
    """``execution.order_transport``: with ws, nothing that the socket can carry goes by REST."""

    def check(_watch: Watch, world: World) -> None:
        requests = world.record()["requests"]
        by_socket = sum(number for name, number in requests.items() if name.startswith("ws order."))
        by_rest = requests.get("POST /fapi/v1/order", 0) + requests.get("PUT /fapi/v1/order", 0)
        assert (by_rest > 0, by_socket > 20) == ((True, False) if transport == "rest" else (False, True))

    watched(tmp_path, check, execution={"order_transport": transport})


def test_the_rate_and_the_queue_show_in_the_metrics(tmp_path: Path) -> None:
    """Requests by lane, the budget's use, and amendments that never left because the rate did not let them."""

    async def story(world: World) -> None:
        world.start(**RESTLESS, execution={"modify_rate_limit": 0.5})
        await world.until_quoting()
        await world.watch(SECONDS)
        await world.end()

    world = in_a_world(tmp_path, story)
    rows = world.rows()

    def values(name: str) -> list[float]:
        return [float(row["value"]) for row in rows if row["metric_name"] == name]

    assert values("requests_place")[-1] == 6
    assert values("requests_amend")[-1] >= SECONDS / 4
    assert values("requests_cancel")[-1] > 0
    assert values("requests_verify")[-1] > values("requests_query")[-1] > 0
    assert 1 < values("amend_batch_mean")[-1] <= 5
    assert values("amends_dropped")[-1] > 0
    assert max(values("budget_weight_1m")) > max(values("budget_orders_1m")) > 6
    assert values("budget_dropped")[-1] == 0
    for name in ("requests_place", "requests_amend", "amends_dropped"):
        assert all(early <= late for early, late in pairwise(values(name)))


def test_quotes_wait_for_the_reserve_and_cancels_do_not(tmp_path: Path) -> None:
    """Somebody else uses most of the order limit: no quote is amended or placed any more, and the stop is verified."""

    async def story(world: World) -> None:
        world.start(**RESTLESS)
        await world.until_quoting()
        limits = world.exchange._venue.limits
        now_ms = world.clock.time_ms()
        limits.orders_1m.add(1100, now_ms)
        watch = Watch(world)
        seconds_left = 60 - now_ms / 1000 % 60
        await world.watch(seconds_left - 1)
        assert len(watch.sent_s) <= 2  # the answers to those of one refresh tell of it
        assert len(world.ours()) == 6
        await world.watch(6)
        assert len(watch.sent_s) > 2
        limits.orders_1m.add(1190, world.clock.time_ms())
        await world.watch(3)
        assert await world.end() is ExitCode.STOPPED
        assert world.ours() == []

    in_a_world(tmp_path, story)


def test_withdrawal_that_the_exchange_refuses_is_tried_ever_slower(tmp_path: Path) -> None:
    """Down to once a second: what is refused for good is refused four times a second as well."""
    asked_s: list[float] = []

    async def story(world: World) -> None:
        async def refuse(sent: Sent) -> HttpResponse | None:
            if sent.path != "/fapi/v1/openOrders":
                return None
            asked_s.append(world.now_s)
            return json_reply(400, {"code": -1121, "msg": "Invalid symbol."})

        world.start()
        await world.until_quoting()
        assert world.engine is not None
        [context] = world.engine.contexts
        async with context.lock:
            world.tamper = refuse
            assert not await world.engine.execution.withdraw(context, 10)

    in_a_world(tmp_path, story)
    assert 8 <= len(asked_s) <= 20  # an audit asks, too; at four a second they would be 43
