"""The picture and the lines of the order desk."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from rich.console import RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from core.engine import Engine
from core.status import status_line
from demo._desk import Desk, Requests, counted
from demo._paper import CountingHttp
from demo._screen import grid, lines_of
from utils.clock import Clock

STYLES = {
    "ACTIVE": "green",
    "PARTIALLY_FILLED": "bold green",
    "PENDING_NEW": "yellow",
    "PENDING_MODIFY": "yellow",
    "PENDING_CANCEL": "magenta",
    "IN_DOUBT": "bold red",
}
COUNTED = {"placed": "placed", "amended": "amended", "filled": "filled", "cancelled": "cancelled"}


class DeskView:
    """Shows a desk; until the engine is there, only that it starts."""

    def __init__(self, desk: Desk, clock: Clock, title: str, duration_s: float) -> None:
        self.engine: Engine | None = None
        self.http: CountingHttp | None = None
        self.log: deque[str] = deque(maxlen=200)
        self.errors: deque[str] = deque(maxlen=5)
        self._desk = desk
        self._clock = clock
        self._title = title
        self._end_ns = clock.monotonic_ns() + int(duration_s * 1e9)

    @property
    def news(self) -> deque[str]:
        """Lines that were not printed yet."""
        return self._desk.news

    @property
    def requests(self) -> Requests:
        """Return the requests so far."""
        sent = self.http.sent if self.http is not None else Counter()
        return Requests.of(sent, self._desk.counts["placed"], self._desk.counts["amend sent"])

    def picture(self) -> RenderableType:
        """Return what a terminal shows."""
        layout = Layout()
        rows = len(self._desk.rows(0))
        layout.split_column(
            Layout(Panel(self._head(), title=self._title), size=6),
            Layout(Panel(self._orders(), title="orders"), size=max(rows, 6) + 3),
            Layout(name="below"),
        )
        layout["below"].split_column(
            Layout(Panel(self._tail(self._desk.flow), title="state flow")),
            Layout(Panel(self._tail(self.log), title="log")),
        )
        return layout

    def line(self) -> str:
        """Return the state in one line."""
        requests, market = self.requests, self._market()
        return f"status  {market} | next reset {self._countdown()} | {self._counts()} | requests {requests}"

    def figures(self) -> Mapping[str, object]:
        """Return the state as numbers."""
        requests = self.requests
        return {**self._desk.counts, "requests": requests.total, "by_replacing": requests.by_replacing}

    def summary(self) -> Iterable[str]:
        """Return the result."""
        requests, counts = self.requests, self._desk.counts
        yield f"orders    {self._counts()}, resets {counts['reset done']}, not amended {counts['amend failed']}"
        yield (
            f"requests  place {requests.place}, amend {requests.amend}, cancel {requests.cancel},"
            f" query {requests.query}: {requests.total} in all"
        )
        yield f"saved     {requests}"
        yield from self.errors

    def _head(self) -> RenderableType:
        left_s = max((self._end_ns - self._clock.monotonic_ns()) / 1e9, 0.0)
        return grid(
            [
                ("market", Text(self._market(), no_wrap=True, overflow="ellipsis")),
                ("next reset", Text(f"{self._countdown()}     (the demo ends in {left_s:.0f} s)", "bold")),
                ("orders", self._counts()),
                ("requests", str(self.requests)),
            ]
        )

    def _market(self) -> str:
        context, engine = self._desk.context, self.engine
        if context is None or engine is None:
            return "starting"
        return status_line(context, engine.metrics.net_pnl_quote(), self._clock.monotonic_ns())

    def _countdown(self) -> str:
        seconds = self._desk.reset_in_s(self._clock.monotonic_ns())
        return f"in {seconds:.0f} s" if seconds is not None else "not planned"

    def _counts(self) -> str:
        return ", ".join(counted(self._desk.counts, COUNTED))

    def _orders(self) -> Table:
        table = Table(expand=True, box=None, pad_edge=False)
        for name in ("client id", "side", "level"):
            table.add_column(name, no_wrap=True)
        for name in ("price", "quantity", "filled"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for name in ("age s", "amends"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("last decision", no_wrap=True, ratio=1)
        for row in self._desk.rows(self._clock.monotonic_ns()):
            table.add_row(
                row.client_id,
                Text(row.side, "green" if row.side == "buy" else "red"),
                str(row.level),
                row.price,
                row.quantity,
                row.filled,
                Text(row.state, STYLES.get(row.state, "")),
                f"{row.age_s:.1f}",
                str(row.amends),
                row.decision,
            )
        return table

    @staticmethod
    def _tail(lines: deque[str], most: int = 40) -> RenderableType:
        """Return the last lines, the newest first, so that a small window shows what is new."""
        return lines_of(list(reversed(lines))[:most])


class LogPane(logging.Handler):
    """Hands each record of the log to a function, as one line with its level."""

    def __init__(self, take: Callable[[str, int], None]) -> None:
        super().__init__(logging.INFO)
        self._take = take
        self.setFormatter(logging.Formatter("%(asctime)s  %(levelname)-7s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        self._take(self.format(record), record.levelno)
