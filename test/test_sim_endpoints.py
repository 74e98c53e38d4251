"""docs/simulated-exchange.md lists every endpoint that there is, with its weights and the source of what it says."""

import re
from pathlib import Path

import pytest

from sim.params import Params
from test.sim_factory import Rig

DOCUMENT = Path(__file__).parents[1] / "docs" / "simulated-exchange.md"
ROW = re.compile(r"^\| `(GET|POST|PUT|DELETE) (\S+)` \| ([0-9, ]+) \| ([DSVM](?: [DSVM])*) \|", re.MULTILINE)


def documented() -> dict[tuple[str, str], set[int]]:
    """Return the weights of each endpoint as the document has them."""
    section = DOCUMENT.read_text("utf-8").partition("\n## Endpoints\n")[2].partition("\n## ")[0]
    return {
        (method, path if path.startswith("/") else f"/fapi/v1/{path}"): set(map(int, weights.split(",")))
        for method, path, weights, _ in ROW.findall(section)
    }


def test_every_endpoint_is_in_the_table_and_no_other() -> None:
    """Issue 3.6: a table by endpoint, with the source of each fact."""
    routes = Rig().exchange._router._routes
    assert set(documented()) == {route for route in routes if not route[1].startswith("/sim/")}


@pytest.mark.parametrize(
    "query", ["", "symbol=BTCUSDT", "limit=5", "limit=100", "limit=500", "limit=1000", "limit=1500"]
)
def test_weights_are_those_of_the_table(query: str) -> None:
    """Facts 3: weights by endpoint, some by limit or by whether there is a symbol."""
    params, routes = Params.of_request(query, ""), Rig().exchange._router._routes
    for route, weights in documented().items():
        assert routes[route].weigh(params) in weights, route


def test_doors_of_the_exchange_itself_are_documented() -> None:
    """docs/faults.md or docs/simulated-exchange.md names each of them."""
    text = DOCUMENT.read_text("utf-8") + (DOCUMENT.parent / "faults.md").read_text("utf-8")
    for method, path in Rig().exchange._router._routes:
        if path.startswith("/sim/"):
            assert f"{method} {path}" in text, path
