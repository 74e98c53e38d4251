"""Seven faults drawn from many, for a minute, on the whole daemon: it quotes again and books are equal."""

import asyncio
import random
from pathlib import Path

import pytest

from core.exit_code import ExitCode
from sim.fault_file import parse_script
from sim.fault_rules import Script

from .daemon import World, in_a_world

pytestmark = pytest.mark.no_cover

_ANY = "path: '/fapi/*', from_s: 8, for_s: 52"
_ORDERS = "path: '*rder*', from_s: 8, for_s: 52"
_USER = "stream: userData, from_s: 8, for_s: 52"
_WHILE = "from_s: 8, for_s: 52"
POOL = (
    f"delay-request, delay_ms: 'lognormal:20-900', {_ANY}, probability: 0.3",
    f"delay-reply, delay_ms: 'uniform:10-1500', {_ANY}, probability: 0.2",
    f"drop-reply, {_ORDERS}, probability: 0.15",
    f"drop-request, {_ANY}, probability: 0.1",
    f"reset-reply, {_ANY}, probability: 0.1",
    f"error, reply: unknown-503, executed: sometimes, {_ORDERS}, probability: 0.2",
    f"error, reply: timeout-408, executed: sometimes, {_ANY}, probability: 0.1",
    f"error, reply: html-502, executed: sometimes, {_ANY}, probability: 0.1",
    f"error, reply: overload-503, {_ANY}, probability: 0.3",
    f"error, code: -5022, method: POST, {_ORDERS}, probability: 0.3",
    f"truncate-reply, {_ANY}, probability: 0.1",
    f"hide-orders, younger_than_s: 3, {_WHILE}, probability: 0.5",
    f"hide-trades, younger_than_s: 3, {_WHILE}",
    f"stale-reads, lag_s: 2, {_ANY}, probability: 0.4",
    f"empty-list, path: '*positionRisk', {_WHILE}, probability: 0.3",
    f"short-batch, missing: 1, {_WHILE}, probability: 0.2",
    f"mixed-batch, code: -1007, {_WHILE}, probability: 0.2",
    f"fill-first, method: DELETE, fraction: 0.4, {_WHILE}, probability: 0.1",
    f"drop-events, {_USER}, probability: 0.1",
    f"delay-events, delay_ms: 'uniform:10-3000', {_USER}, probability: 0.4",
    f"duplicate-events, after_ms: 700, {_USER}, probability: 0.4",
    f"reorder-events, {_USER}, probability: 0.4",
    f"corrupt-prices, to: crossed, {_WHILE}, probability: 0.01",
    f"corrupt-prices, to: zero, {_WHILE}, probability: 0.01",
    f"truncate-events, {_WHILE}, probability: 0.02",
    f"unknown-status, {_WHILE}, probability: 0.1",
    f"close-sockets, {_WHILE}, every_s: 11",
    f"half-open-sockets, {_WHILE}, every_s: 23",
    f"expire-listen-key, notice: false, {_WHILE}, every_s: 31",
    f"refuse-handshakes, {_WHILE}, probability: 0.5",
    "outage, at_s: 30, for_s: 12",
    "halt, at_s: 25, for_s: 10",
    "clock-skew, offset_ms: -4000, at_s: 20, for_s: 15",
    f"post-only-expires, {_WHILE}",
    f"expire-orders, {_WHILE}, every_s: 9",
    f"foreign-fill, symbol: BTCUSDT, side: BUY, quantity: 0.001, {_WHILE}, every_s: 20",
    f"move-market, bps: 4, {_WHILE}, every_s: 14",
    f"cancel-all-skips, {_WHILE}",
)


def drawn(seed: int) -> Script:
    """Return seven faults of the pool."""
    lines = random.Random(seed).sample(POOL, 7)
    return parse_script(f"seed: {seed}\nfaults:\n" + "".join(f"  - {{fault: {line}}}\n" for line in lines))


@pytest.mark.parametrize("seed", range(1, 7))
def test_daemon_lives_through_seven_faults_at_once(tmp_path: Path, seed: int) -> None:
    """At no time do more than its six quotes rest; 90 s after the last fault they do; position and exit are right."""

    async def story(world: World) -> None:
        world.start()
        for _ in range(620):
            await asyncio.sleep(0.1)
            assert len(world.ours()) <= 6
            assert world.running is not None
            assert not world.running.done(), world.running.result()
        await world.until_quoting(90)
        await asyncio.sleep(5)
        await world.until_quoting(20)
        assert world.state.position == world.position()
        assert await world.end(10) is ExitCode.STOPPED
        assert world.ours() == []

    in_a_world(tmp_path, story, faults=drawn(seed), seed=seed)


def test_every_line_of_the_pool_is_a_fault() -> None:
    """A line that cannot be parsed would only be found when it is drawn."""
    for line in POOL:
        assert len(parse_script(f"faults:\n  - {{fault: {line}}}").rules) == 1
