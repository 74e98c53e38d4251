"""The exchange's options as names on a command line: ``deployment=demo``, ``fees.tier=3``, ``conduct.enforced=true``.

A dot leads into a group. Values are read as what the option is: a number, an amount, a flag, or one of its words.
"""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from enum import Enum
from typing import Any

from sim.limits import LimitSizes
from sim.venue import Options


class SwitchError(ValueError):
    """A switch is not known, or its value does not fit; the text is one sentence."""


def read_switches(pairs: Iterable[str]) -> Options:
    """Return the options with each ``NAME=VALUE`` set, the others as they are by default; raises SwitchError."""
    options = Options()
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise SwitchError(f"{pair} is no switch: write NAME=VALUE")
        if name not in switch_names():
            raise SwitchError(f"there is no switch {name}{_suggestion(name)}")
        try:
            options = _set(options, name, text)
        except ValueError as error:
            raise SwitchError(f"{text} does not fit the switch {name}: {error}") from None
    return options


def switch_names() -> dict[str, object]:
    """Return every switch with its default."""
    return dict(_walk(Options(), ""))


def _walk(group: Any, prefix: str) -> Iterable[tuple[str, object]]:
    for each in fields(group):
        value = _value(group, each.name)
        if is_dataclass(value):
            yield from _walk(value, f"{prefix}{each.name}.")
        elif not isinstance(value, tuple):
            yield prefix + each.name, value


def _value(group: Any, name: str) -> Any:
    """Return a field's value; limits that are left to the deployment begin as mainnet's."""
    value = getattr(group, name)
    return LimitSizes() if value is None else value


def _set(group: Any, name: str, text: str) -> Any:
    head, _, rest = name.partition(".")
    value = _value(group, head)
    return replace(group, **{head: _set(value, rest, text) if rest else _read(text, value)})


def _read(text: str, like: object) -> object:
    """Return ``text`` as a value of the same kind as ``like``; raises ValueError that says what would fit."""
    if isinstance(like, Enum):
        return _read_word(text, type(like))
    if isinstance(like, bool):
        if text not in ("true", "false"):
            raise ValueError("use true or false")
        return text == "true"
    try:
        return int(text) if isinstance(like, int) else _finite(Decimal(text))
    except (ValueError, InvalidOperation):
        raise ValueError("use a number" if isinstance(like, Decimal) else "use a whole number") from None


def _read_word(text: str, kind: type[Enum]) -> Enum:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"use {', '.join(str(member.value) for member in kind)}") from None


def _finite(amount: Decimal) -> Decimal:
    if not amount.is_finite():
        raise ValueError("not finite")
    return amount


def _suggestion(name: str) -> str:
    close = get_close_matches(name, switch_names(), 1)
    return f": do you mean {close[0]}?" if close else ": docs/switches.md lists them"
