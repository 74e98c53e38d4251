"""Raw captures: market streams as they were received, one message a line, with the depth of the book.

A line is the local time of receipt (any unit), a space, and the JSON of a combined stream: ``bookTicker``,
``aggTrade`` or ``trade``, ``depth`` diffs and ``markPrice`` are used. A line without ``stream`` is the reply of GET
depth; from it on the diffs keep a book, until one is missing. Files end in ``.jsonl`` or ``.jsonl.gz``.

Source: Market streams; "How to manage a local order book correctly".
"""

import gzip
import heapq
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from operator import attrgetter
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from msgspec import structs

from sim.market import BookTicker, DepthChange, FundingTerms, MarketError, MarketEvent, Trade
from sim.public_files import in_order
from sim.rules import SymbolRules
from sim.stream_reader import BAD_PAYLOAD, Payload, SingleTrade, StreamReader, aggregated

_ENDINGS = (".jsonl", ".jsonl.gz")
# Which streams a file holds is told by so many of its first lines, except for trades, which may be rare.
_HEAD_LINES = 5_000
# Diffs that are kept until a snapshot comes: more than a minute of them.
_WAITING_DIFFS = 10_000
_US_PER_HOUR = 3_600_000_000
# Captures of one symbol that begin further apart are not one recording.
_MAX_APART_US = 25 * _US_PER_HOUR
_FIRST_MICROSECOND_TIME = 10**14
_FIRST_NANOSECOND_TIME = 10**17

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Capture:
    """One file, the streams in it, and when its first line was received, in microseconds."""

    path: Path
    streams: frozenset[str]
    began_us: int

    @property
    def symbols(self) -> set[str]:
        """The symbols, in upper case."""
        return {stream.partition("@")[0].upper() for stream in self.streams}

    def has(self, symbol: str, kind: str) -> bool:
        """Whether there is a stream of the symbol whose name goes on like this, at any speed."""
        start = f"{symbol.lower()}@{kind}"
        return any(stream == start or stream.startswith(f"{start}@") for stream in self.streams)


def is_capture(path: Path) -> bool:
    """Whether the file, or a file in the folder, is a raw capture by its name."""
    return bool(_capture_paths(path))


def find_captures(path: Path, symbol: str) -> Sequence[Capture]:
    """The captures that hold quotes of the symbol are returned, in the order of their times.

    Raises:
        MarketError: there is none, one cannot be read, or they are of different days.
    """
    captures = [_look_into(each) for each in _capture_paths(path)]
    found = sorted(
        (each for each in captures if each.has(symbol, "bookTicker")), key=attrgetter("began_us", "path")
    )
    if not found:
        known = sorted(set().union(*(each.symbols for each in captures)))
        raise MarketError(f"{path} holds no quotes of {symbol}: it has {', '.join(known) or 'no streams'}.")
    for earlier, later in pairwise(found):
        if later.began_us - earlier.began_us > _MAX_APART_US:
            hours = (later.began_us - earlier.began_us) // _US_PER_HOUR
            raise MarketError(
                f"{earlier.path.name} and {later.path.name} begin {hours} hours apart: name one of them."
            )
    return found


def read_captures(
    captures: Mapping[str, Sequence[Capture]], rules: Mapping[str, SymbolRules]
) -> Iterator[MarketEvent]:
    """The captured events of all symbols come in the order of their exchange times.

    At an equal time trades come before quotes, as in `read_tape`, and quotes before the depth, which is often behind.
    """
    streams: list[Iterator[MarketEvent]] = []
    for symbol, files in captures.items():
        reading = _SymbolReading(symbol, files, rules[symbol])
        streams += [in_order(each) for each in (reading.funding(), reading.trades(), reading.quotes())]
        streams.append(reading.depth())
    return heapq.merge(*streams, key=attrgetter("time_ms"))


class _SymbolReading:
    """The events of one symbol, kind by kind; each kind reads the files once."""

    def __init__(self, symbol: str, files: Sequence[Capture], rules: SymbolRules) -> None:
        self._symbol = symbol
        self._files = files
        self._reader = StreamReader(rules)

    def quotes(self) -> Iterator[BookTicker]:
        """Best bids and asks."""
        for file in self._files:
            yield from self._parsed(file, "bookTicker", self._reader.quote)

    def trades(self) -> Iterator[Trade]:
        """Trades on the book, from aggTrade where a file has it."""
        for file in self._files:
            if self._has_aggregates(file):
                trades = self._parsed(file, "aggTrade", self._reader.trade)
                yield from (trade for trade in trades if trade is not None)
            else:
                yield from aggregated(self._symbol, self._singles(file))

    def _has_aggregates(self, file: Capture) -> bool:
        """Whether there is aggTrade is told; where the first lines have no trade at all, by those after them."""
        if file.has(self._symbol, "aggTrade") or file.has(self._symbol, "trade"):
            return file.has(self._symbol, "aggTrade")
        return any(True for _ in self._numbered(file, self._needles("aggTrade")))

    def _singles(self, file: Capture) -> Iterator[SingleTrade]:
        singles = self._parsed(file, "trade", self._reader.single)
        return (single for single in singles if single is not None)

    def funding(self) -> Iterator[FundingTerms]:
        """Changes of the funding rate. The recorded times are past, so the exchange keeps its own."""
        rate = None
        for file in self._files:
            if not file.has(self._symbol, "markPrice"):
                continue
            for terms in self._parsed(file, "markPrice", self._rate):
                if terms.rate != rate:
                    rate = terms.rate
                    yield terms

    def _rate(self, payload: Payload) -> FundingTerms:
        return self._reader.funding(payload, with_time=False)

    def depth(self) -> Iterator[DepthChange]:
        """Snapshots and the changes that follow them without a gap, from one file to the next as well."""
        book = _DepthChain(self._symbol, self._reader)
        for file in self._files:
            book.turn_over()
            # A snapshot does not say of which symbol it is, so it must be the only one in the file.
            if file.symbols == {self._symbol} and file.has(self._symbol, "depth"):
                parts = self._parsed(file, "depth", book.take, b'"lastUpdateId"')
                yield from chain.from_iterable(parts)
            if book.is_turned_over:
                for quote in islice(self._parsed(file, "bookTicker", self._reader.quote), 1):
                    yield from book.end(quote.time_ms)

    def _parsed(
        self, file: Capture, kind: str, parse: Callable[[Payload], E], other: bytes | None = None
    ) -> Iterator[E]:
        needles = self._needles(kind)
        if other is not None:
            needles.append(other)
        for number, line in self._numbered(file, needles):
            try:
                message = _message(line)
                event = parse(message["data"] if "stream" in message else message)
            except BAD_PAYLOAD as error:
                raise MarketError(f"{file.path.name}:{number}: {_reason(error)}.") from error
            yield event

    def _needles(self, kind: str) -> list[bytes]:
        """What is only in lines of such a stream of the symbol."""
        return [f'"{self._symbol.lower()}@{kind}{end}'.encode() for end in ('"', "@")]

    def _numbered(self, file: Capture, needles: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        """The lines that hold one of the needles, with their numbers."""
        for number, line in enumerate(_lines(file.path), 1):
            if any(needle in line for needle in needles):
                yield number, line


class _DepthChain:
    """Turns snapshots and diffs into changes, as a client keeps a local book.

    A change whose time goes back counts from that of the one before: the book is wrong without it.
    """

    def __init__(self, symbol: str, reader: StreamReader) -> None:
        self._symbol = symbol
        self._reader = reader
        self._waiting: deque[Payload] = deque(maxlen=_WAITING_DIFFS)
        self._last_id: int | None = None
        self._latest_ms = 0
        self.is_turned_over = False
        """Whether nothing has come of the present file yet."""

    def turn_over(self) -> None:
        """The next payload will be the first of another file: a diff that goes on with the book, or a new beginning."""
        self._waiting.clear()
        self.is_turned_over = True

    def end(self, time_ms: int) -> list[DepthChange]:
        """Nothing is known of the book any more; that is returned, if anything was."""
        last_id, self._last_id = self._last_id, None
        return [] if last_id is None else [self._in_time(self._forgotten(time_ms, last_id))]

    def take(self, payload: Payload) -> list[DepthChange]:
        """What the payload changes is returned; before a snapshot, and from a gap to the next one, nothing."""
        return [self._in_time(change) for change in self._changes(payload)]

    def _in_time(self, change: DepthChange) -> DepthChange:
        self._latest_ms = max(self._latest_ms, change.time_ms)
        return structs.replace(change, time_ms=self._latest_ms)

    def _changes(self, payload: Payload) -> list[DepthChange]:
        is_first, self.is_turned_over = self.is_turned_over, False
        if "lastUpdateId" in payload:
            is_other = self._is_of_another_book(int(payload["lastUpdateId"]), int(payload["T"]))
            return self._begin_anew(payload) if is_first or is_other else self._begin(payload)
        if self._last_id is None:
            self._waiting.append(payload)
            return []
        return self._follow(payload)

    def _is_of_another_book(self, last_id: int, time_ms: int) -> bool:
        """Whether an id is lower at a later time, which those of one book never are."""
        return last_id < (self._last_id or 0) and time_ms > self._latest_ms

    def _begin_anew(self, reply: Payload) -> list[DepthChange]:
        """The book of before ends, unless it has come further than the snapshot already."""
        reply_id, time_ms = int(reply["lastUpdateId"]), int(reply["T"])
        if reply_id < (self._last_id or 0) and not self._is_of_another_book(reply_id, time_ms):
            return []
        return [*self.end(time_ms), *self._begin(reply)]

    def _begin(self, reply: Payload) -> list[DepthChange]:
        snapshot = self._reader.snapshot(reply)
        later = [diff for diff in self._waiting if int(diff["u"]) >= snapshot.last_id]
        self._waiting.clear()
        if self._last_id is not None or (later and int(later[0]["U"]) > snapshot.last_id):
            return []  # there is a book already, or the diffs that lead on from this one were missed
        if not later:
            self._last_id = snapshot.last_id
            return [snapshot]
        changes = [snapshot]
        for diff in later:
            changes.append(self._reader.depth(diff))
            self._last_id = changes[-1].last_id
        return changes

    def _follow(self, payload: Payload) -> list[DepthChange]:
        change = self._reader.depth(payload)
        first_id, before_id, last_id = int(payload["U"]), int(payload["pu"]), self._last_id or 0
        if change.last_id < last_id and not self._is_of_another_book(change.last_id, change.time_ms):
            return []
        if before_id != last_id and not first_id <= last_id <= change.last_id:
            self._last_id = None
            self._waiting.append(payload)
            return [self._forgotten(change.time_ms, change.last_id)]
        self._last_id = change.last_id
        return [change]

    def _forgotten(self, time_ms: int, last_id: int) -> DepthChange:
        return DepthChange(time_ms, self._symbol, last_id, (), (), snapshot=True)


def _capture_paths(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(each for each in path.iterdir() if each.name.endswith(_ENDINGS) and each.is_file())
    return [path] if path.name.endswith(_ENDINGS) and path.is_file() else []


def _look_into(path: Path) -> Capture:
    streams: set[str] = set()
    began_us = 0
    for number, line in enumerate(islice(_lines(path), _HEAD_LINES), 1):
        try:
            began_us = began_us or _received_us(line)
            streams.add(str(_message(line).get("stream", "")))
        except BAD_PAYLOAD as error:
            raise MarketError(f"{path.name}:{number}: {_reason(error)}.") from error
    return Capture(path, frozenset(streams - {""}), began_us)


def _received_us(line: bytes) -> int:
    time = int(line.partition(b" ")[0])
    if time >= _FIRST_NANOSECOND_TIME:
        return time // 1000
    return time if time >= _FIRST_MICROSECOND_TIME else time * 1000


def _message(line: bytes) -> dict[str, Any]:
    message = json.loads(line.partition(b" ")[2])
    if not isinstance(message, dict):
        raise TypeError("the message is no JSON object")
    return message


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "the message is no JSON"
    if isinstance(error, KeyError):
        return f"the message has no {error.args[0]}"
    return str(error) if isinstance(error, ValueError | TypeError) else "a value cannot be read"


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with _opened(path) as lines:
            for line in lines:
                if line.strip():
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        raise MarketError(f"{path} cannot be read ({error}): use an undamaged capture.") from error


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.name.endswith(".gz") else path.open("rb")
