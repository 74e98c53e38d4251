"""How a demo is shown: a picture on a terminal, plain lines in a pipe, or one JSON object a second."""

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from rich.bar import Bar
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

FRAME_S = 0.2
LINE_S = 1.0


class View(Protocol):
    """What can be shown of a running demo."""

    @property
    def news(self) -> deque[str]:
        """Lines that were not printed yet; whoever prints takes them out."""

    def picture(self) -> RenderableType:
        """Return what a terminal shows."""

    def line(self) -> str:
        """Return the state in one line."""

    def figures(self) -> Mapping[str, object]:
        """Return the state as numbers."""

    def summary(self) -> Iterable[str]:
        """Return what is left to be said at the end."""


@asynccontextmanager
async def shown(view: View, on_failure: Callable[[], None], *, as_json: bool = False) -> AsyncIterator[None]:
    """The view is drawn while the context lasts, and its summary printed at the end.

    ``on_failure`` is called when drawing has failed, because nobody reads any more for example; that is raised later.
    """
    console = Console()
    if as_json:
        drawing = _print_json(view)
    elif console.is_terminal:
        drawing = _draw(view, console)
    else:
        drawing = _print_lines(view)
    task = asyncio.ensure_future(drawing)
    task.add_done_callback(lambda ended: None if ended.cancelled() else on_failure())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
    if as_json:
        _say(json.dumps({**view.figures(), "final": True}))
        return
    if not console.is_terminal:
        _flush_news(view)
    for each in view.summary():
        _say(each)


async def _draw(view: View, console: Console) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            view.news.clear()
            live.update(view.picture(), refresh=True)
            await asyncio.sleep(FRAME_S)


async def _print_lines(view: View) -> None:
    while True:
        for _ in range(round(LINE_S / FRAME_S)):
            _flush_news(view)
            await asyncio.sleep(FRAME_S)
        _say(view.line())


async def _print_json(view: View) -> None:
    while True:
        view.news.clear()
        await asyncio.sleep(LINE_S)
        _say(json.dumps(view.figures()))


def _flush_news(view: View) -> None:
    while view.news:
        _say(view.news.popleft())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


# --- what pictures are made of ----------------------------------------------------------------------------------


def grid(rows: Iterable[tuple[RenderableType, RenderableType]], width: int = 18) -> Table:
    """Return names beside values."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", width=width)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return table


def balance_bar(imbalance: float, width: int = 30) -> Bar:
    """Return a bar from the middle to the right for what is above 0, and to the left for what is below."""
    begin, end = sorted((0.0, imbalance))
    return Bar(2, begin + 1, end + 1, width=width, color="green" if imbalance > 0 else "red")


def lines_of(lines: Iterable[str]) -> Text:
    """Return lines that are cut where the window ends."""
    return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
