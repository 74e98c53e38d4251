"""The daemon with its orders on the WebSocket API, as a process over real sockets."""

from collections.abc import Iterator

import pytest

from test.process import Exchange, Folder, Stage, eventually

pytestmark = pytest.mark.no_cover


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A place for the processes of this module."""
    with Stage(tmp_path_factory.mktemp("socket")) as stage:
        yield stage


def requests(exchange: Exchange, name: str) -> int:
    """Return how often this was requested."""
    return int(exchange.record()["requests"].get(name, 0))


def states(folder: Folder) -> list[str]:
    """Return what the metrics tell of the socket."""
    rows = folder.rows("connection_event")
    return [row["sub_type"] for row in rows if row["details"].startswith("order socket")]


def test_orders_go_by_the_socket_and_by_rest_while_it_is_away(stage: Stage) -> None:
    """Placed and amended on the socket, before an outage and after it; everything is out in the end."""
    exchange = stage.exchange()
    folder = stage.folder(
        exchange,
        execution={"order_transport": "ws"},
        refresh_config={"refresh_mode": "amend", "orderbook_refresh_interval": 0.5},
        order_management={"modify_threshold": 0, "patience_bps_s": 0},
    )
    daemon = stage.quoting(exchange, folder)
    eventually(lambda: requests(exchange, "ws order.modify") > 5, 15, "nothing was amended by the socket")
    amended = requests(exchange, "ws order.modify")
    exchange.outage(2)
    eventually(lambda: states(folder) == ["up", "down", "up"], 30, "the socket did not come back")
    eventually(
        lambda: requests(exchange, "ws order.modify") > amended + 5, 30, "the socket did not come back"
    )
    assert daemon.end() == 0, daemon.err
    assert exchange.open_orders() == []
    assert "Traceback" not in daemon.err
