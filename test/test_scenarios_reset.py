"""The timed reset, and what becomes of an amendment that gets no answer: the whole daemon, in virtual time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.exit_code import ExitCode

from .daemon import World, in_a_world


def client_ids(world: World) -> set[str]:
    """The client ids of our orders that rest at the exchange."""
    return {order.client_order_id for order in world.ours()}


def amending(**management: Any) -> dict[str, Any]:
    """Configuration of a daemon that amends every tick, so that something is always to be amended."""
    return {
        "refresh_config": {"refresh_mode": "amend", "min_requote_interval_ms": 250},
        "order_management": {"modify_threshold": 0, "patience_bps_s": 0, **management},
    }


def test_reset_takes_all_quotes_out_and_brings_them_back(tmp_path: Path) -> None:
    """After reset_interval none rests for a moment; then all six rest again, every one of them new."""

    async def story(world: World) -> None:
        world.start(**amending(reset_interval=20))
        await world.until_quoting()
        before = client_ids(world)
        await asyncio.sleep(18)
        assert client_ids(world) == before
        await world.until(lambda: len(client_ids(world) - before) == 6, 3, "the reset")
        assert not before & client_ids(world)
        assert await world.end() is ExitCode.STOPPED

    world = in_a_world(tmp_path, story)
    assert world.events("order_reset") == ["started", "done"]
    first, second = world.record()["orders"][:6], world.record()["orders"][6:12]
    assert max(order["updateTime"] for order in first) < min(order["time"] for order in second)


def test_reset_interval_of_0_leaves_the_quotes_where_they_are(tmp_path: Path) -> None:
    """For longer than the usual interval the same six orders rest, amended."""

    async def story(world: World) -> None:
        world.start(**amending(reset_interval=0))
        await world.until_quoting()
        await asyncio.sleep(330)
        assert world.state.of(world.symbol).reset_due_ns == 0
        assert world.count("orders") == 6
        assert await world.end() is ExitCode.STOPPED

    world = in_a_world(tmp_path, story)
    assert world.events("order_reset") == []


def test_reset_that_cannot_be_verified_is_tried_again(tmp_path: Path) -> None:
    """The exchange answers no cancel and no question for a while; afterwards the reset is done, and quotes rest."""

    async def story(world: World) -> None:
        world.start(**amending(reset_interval=20))
        await world.until_quoting()
        await asyncio.sleep(19)
        world.lose = lambda method, path: "reply" if "Orders" in path and method != "PUT" else ""
        await asyncio.sleep(6)
        world.lose = lambda _method, _path: ""
        await world.until_quoting()
        await asyncio.sleep(3)
        assert len(world.ours()) == 6
        assert await world.end() is ExitCode.STOPPED

    world = in_a_world(tmp_path, story)
    kinds = world.events("order_reset")
    assert kinds[:2] == ["started", "failed"]
    assert kinds[-1] == "done"


@pytest.mark.parametrize(("timeout_s", "is_replaced"), [(0.5, True), (60, False)])
def test_order_is_replaced_when_its_amendment_has_no_answer_in_time(
    tmp_path: Path, timeout_s: float, is_replaced: bool
) -> None:
    """modification_timeout decides: cancel the order soon, or go on asking until it is known what rests."""

    async def story(world: World) -> None:
        world.start(
            **amending(modification_timeout=timeout_s, reset_interval=0), safety={"request_timeout_s": 0.5}
        )
        await world.until_quoting()
        before = client_ids(world)
        world.lose = lambda method, _path: "request" if method == "PUT" else ""
        await world.until(lambda: "unknown" in world.events("order_modify"), 30, "an amendment in doubt")
        world.lose = lambda _method, _path: ""
        await asyncio.sleep(8)
        await world.until_quoting()
        assert bool(before - client_ids(world)) is is_replaced
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_every_decision_says_why_in_the_csv(tmp_path: Path) -> None:
    """Of each resting order what was decided about it last, of each amendment and each cancel of ours the reason."""

    async def story(world: World) -> None:
        world.start(**amending(reset_interval=0, max_modify_deviation=0.00005))
        await world.until_quoting()
        await asyncio.sleep(120)
        assert await world.end() is ExitCode.STOPPED

    rows = in_a_world(tmp_path, story).rows()
    resting = {row["details"] for row in rows if row["metric_name"] == "quote_distance_bps"}
    assert all(details.startswith(("keep: ", "amend: ", "cancel: ")) for details in resting - {""})
    amended = [
        row["details"] for row in rows if row["metric_name"] == "order_modify" and row["sub_type"] == "sent"
    ]
    assert amended
    assert all("bps away" in details for details in amended)
    replaced = [
        row["details"]
        for row in rows
        if (row["metric_name"], row["sub_type"]) == ("order_event", "cancelled")
    ]
    assert any("away: replaced" in details for details in replaced)
