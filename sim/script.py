"""What shall happen to a market on top of what happens by itself: a YAML file with times, read and checked.

The file is a list; each element names an ``event``, its time ``at_s`` in seconds after the start, if wanted one
``symbol``, and the event's own values:

- ``jump``: the price moves by ``bps`` (basis points, negative is down) at once and stays there.
- ``flash_crash``: it moves by ``bps`` within ``fall_s``, stays for ``stay_s``, and ``recovered_percent`` of the move
  are undone within ``recover_s``.
- ``drought``: for ``seconds`` quotes and trades are ``factor`` times rarer, and so many times smaller.
- ``halt``: for ``seconds`` there is neither quote nor trade; with ``prints_only: true`` quotes go on.
- ``funding``: the funding rate is ``rate`` (a fraction of the position's value) for ``seconds``, or from then on; with
  ``due_in_s`` it is paid so many seconds later, instead of at the usual time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from sim.market import MarketError

_PERMILLE = 1000
_MS_PER_S = 1000
_A_DAY_S = Decimal(24 * 3600)
# A market is read ahead to the end of a halt at once; longer ones would hold up everything else.
_LONGEST_HALT_S = Decimal(600)


@dataclass(frozen=True, slots=True)
class Move:
    """The price moves by `hundredths_bps` within `fall_ms`, stays, and goes back in part within `recover_ms`."""

    at_ms: int
    symbol: str | None
    hundredths_bps: int
    fall_ms: int = 0
    stay_ms: int = 0
    recover_ms: int = 0
    recovered_permille: int = 0

    def permille(self, at_ms: int) -> int:
        """How much of the move is in force is returned."""
        past_ms = at_ms - self.at_ms
        if past_ms < 0:
            return 0
        if past_ms < self.fall_ms:
            return _PERMILLE * past_ms // self.fall_ms
        past_ms -= self.fall_ms + self.stay_ms
        if past_ms <= 0:
            return _PERMILLE
        if past_ms < self.recover_ms:
            return _PERMILLE - self.recovered_permille * past_ms // self.recover_ms
        return _PERMILLE - self.recovered_permille


@dataclass(frozen=True, slots=True)
class Drought:
    """From `at_ms` to `end_ms` everything is `factor` times rarer and smaller."""

    at_ms: int
    symbol: str | None
    end_ms: int
    factor: int


@dataclass(frozen=True, slots=True)
class Halt:
    """From `at_ms` to `end_ms` nothing is heard of the market, or with `prints_only` no trade."""

    at_ms: int
    symbol: str | None
    end_ms: int
    prints_only: bool


@dataclass(frozen=True, slots=True)
class FundingSpike:
    """From `at_ms` to `end_ms` (None: for good) the funding rate is `rate`; it is paid at `due_ms`, if given."""

    at_ms: int
    symbol: str | None
    rate: Decimal
    end_ms: int | None
    due_ms: int | None


Happening = Move | Drought | Halt | FundingSpike


@dataclass(frozen=True, slots=True)
class _Range:
    """The numbers that a key may have; without a default it has to be there."""

    low: Decimal
    high: Decimal
    default: Decimal | None = None
    optional: bool = False


_SECONDS = _Range(Decimal("0.001"), _A_DAY_S)
_PART_S = _Range(Decimal(0), Decimal(3600), Decimal(0))
_BPS = _Range(Decimal(-5000), Decimal(5000))
_KEYS: Mapping[str, Mapping[str, _Range]] = {
    "jump": {"bps": _BPS},
    "flash_crash": {
        "bps": _BPS,
        "fall_s": _Range(Decimal(0), Decimal(3600), Decimal(5)),
        "stay_s": _PART_S,
        "recover_s": _Range(Decimal(0), Decimal(3600), Decimal(60)),
        "recovered_percent": _Range(Decimal(0), Decimal(100), Decimal(80)),
    },
    "drought": {"seconds": _SECONDS, "factor": _Range(Decimal(2), Decimal(1000), Decimal(10))},
    "halt": {"seconds": _Range(Decimal("0.001"), _LONGEST_HALT_S)},
    "funding": {
        "rate": _Range(Decimal("-0.03"), Decimal("0.03")),
        "seconds": _Range(Decimal("0.001"), _A_DAY_S, optional=True),
        "due_in_s": _Range(Decimal(1), _A_DAY_S, optional=True),
    },
}
_AT = _Range(Decimal(0), 366 * _A_DAY_S)


def read_script(path: Path, symbols: Sequence[str]) -> tuple[Happening, ...]:
    """The happenings in the file are returned, in the order of their times.

    Raises:
        MarketError: the file cannot be read, or one of its values is wrong; the sentence says which.
    """
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MarketError(
            f"{path} cannot be read ({_first_line(error)}): name a YAML file with events."
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark is not None else "one of its values"
        raise MarketError(f"{path.name} is no YAML in {where}: write a list of events.") from error
    if not isinstance(listed, list) or not listed:
        raise MarketError(f"{path.name} is no list of events: begin each with `- at_s: SECONDS`.")
    happenings = [
        _Element(f"{path.name}, event {number}", element, symbols).happening()
        for number, element in enumerate(listed, 1)
    ]
    return tuple(sorted(happenings, key=lambda happening: happening.at_ms))


class _Element:
    """One element of the list, being checked."""

    def __init__(self, where: str, element: object, symbols: Sequence[str]) -> None:
        self._where = where
        if not isinstance(element, dict):
            raise MarketError(f"{where}: it is no mapping, write at_s, event and its values.")
        self._values: Mapping[str, Any] = {str(key): value for key, value in element.items()}
        self._kind = self._chosen_kind()
        self._check_keys()
        self._symbol = self._chosen_symbol(symbols)
        self._at_ms = self._milliseconds("at_s", _AT) or 0

    def happening(self) -> Happening:
        """The element as a happening."""
        at_ms, symbol = self._at_ms, self._symbol
        if self._kind == "jump":
            return Move(at_ms, symbol, self._hundredths("bps"))
        if self._kind == "flash_crash":
            return Move(
                at_ms,
                symbol,
                self._hundredths("bps"),
                self._duration("fall_s"),
                self._duration("stay_s"),
                self._duration("recover_s"),
                self._hundredths("recovered_percent") // 10,
            )
        if self._kind == "drought":
            return Drought(at_ms, symbol, at_ms + self._duration("seconds"), int(self._number("factor") or 2))
        if self._kind == "halt":
            return Halt(at_ms, symbol, at_ms + self._duration("seconds"), self._prints_only())
        return self._funding()

    def _funding(self) -> FundingSpike:
        at_ms = self._at_ms
        lasts_ms = self._milliseconds("seconds")
        due_ms = self._milliseconds("due_in_s")
        return FundingSpike(
            at_ms,
            self._symbol,
            self._number("rate") or Decimal(0),
            None if lasts_ms is None else at_ms + lasts_ms,
            None if due_ms is None else at_ms + due_ms,
        )

    def _chosen_kind(self) -> str:
        kind = self._values.get("event")
        if not isinstance(kind, str) or kind not in _KEYS:
            raise MarketError(f"{self._where}: {kind} is no event, use one of {', '.join(_KEYS)}.")
        return kind

    def _check_keys(self) -> None:
        allowed = ["at_s", "event", "symbol", *_KEYS[self._kind]]
        if self._kind == "halt":
            allowed.append("prints_only")
        for key in self._values:
            if key not in allowed:
                raise MarketError(f"{self._where}: {self._kind} has no {key}, use {', '.join(allowed)}.")

    def _chosen_symbol(self, symbols: Sequence[str]) -> str | None:
        symbol = self._values.get("symbol")
        if symbol is not None and symbol not in symbols:
            raise MarketError(f"{self._where}: {symbol} is not traded here, use {', '.join(symbols)}.")
        return symbol

    def _prints_only(self) -> bool:
        value = self._values.get("prints_only", False)
        if not isinstance(value, bool):
            raise MarketError(f"{self._where}: prints_only is {value}, use true or false.")
        return value

    def _duration(self, key: str) -> int:
        return self._milliseconds(key) or 0

    def _milliseconds(self, key: str, within: _Range | None = None) -> int | None:
        seconds = self._number(key, within)
        return None if seconds is None else int(seconds * _MS_PER_S)

    def _hundredths(self, key: str) -> int:
        return int((self._number(key) or 0) * 100)

    def _number(self, key: str, within: _Range | None = None) -> Decimal | None:
        within = within or _KEYS[self._kind][key]
        value = self._values.get(key)
        if value is None and (within.default is not None or within.optional):
            return within.default
        number = _decimal(value)
        if number is None or not within.low <= number <= within.high:
            raise MarketError(
                f"{self._where}: {key} is {'missing' if value is None else value}, "
                f"use a number from {within.low} to {within.high}."
            )
        return number


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _first_line(error: Exception) -> str:
    return error.strerror or "unreadable" if isinstance(error, OSError) else "it is no text"
