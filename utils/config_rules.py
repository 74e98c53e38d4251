"""What a key of the settings accepts, in code and in words.

The functions below the rule return the default of a dataclass field, which stands at fields of any type: hence Any.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from utils.secret import Secret


class ConfigLoaderError(ValueError):
    """The settings cannot be used; the message is one sentence that says what to change and where."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one key accepts: `wants` completes the sentence "... must be", `accepts` decides."""

    wants: str
    accepts: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value
    secret: bool = False

    def check(self, value: object, name: str) -> Any:
        """Return the setting that `value` stands for, or raise a ConfigLoaderError about `name`."""
        plain = value.reveal() if isinstance(value, Secret) else value
        if not self.accepts(plain):
            found = "" if self.secret else f", not {_shown(plain)}"
            raise ConfigLoaderError(f"{name} must be {self.wants}{found}.")
        return self.convert(plain)


def _shown(value: object) -> str:
    """Return `value` as an error message may show it: short, on one line."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the switch {str(value).lower()}"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a section"
    text = ascii(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return text if len(text) <= 32 else f"{text[:28]}..."


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _setting(default: object, rule: Rule) -> Any:
    return field(default=default, metadata={"rule": rule})


def integer(default: int, low: int, high: int, unit: str = "") -> Any:
    """Have a field take whole numbers within these bounds."""
    rule = Rule(
        f"a whole number from {low} to {high}{unit}",
        lambda value: type(value) is int and low <= value <= high,
    )
    return _setting(default, rule)


def number(default: float, low: float, high: float, unit: str = "") -> Any:
    """Have a field take numbers within these bounds."""
    rule = Rule(
        f"a number from {low} to {high}{unit}", lambda value: _is_number(value) and low <= value <= high
    )
    return _setting(default, rule)


def positive(default: float, high: float, unit: str = "") -> Any:
    """Have a field take numbers above 0, up to a bound."""
    rule = Rule(
        f"a number above 0 and up to {high}{unit}", lambda value: _is_number(value) and 0 < value <= high
    )
    return _setting(default, rule)


def positive_below(default: float, high: float, unit: str) -> Any:
    """Have a field take numbers above 0 and below a bound."""
    rule = Rule(
        f"a number above 0 and below {high}{unit}", lambda value: _is_number(value) and 0 < value < high
    )
    return _setting(default, rule)


def choice(default: str, *choices: str) -> Any:
    """Have a field take one of a few words."""
    rule = Rule(f"one of: {', '.join(choices)}", lambda value: isinstance(value, str) and value in choices)
    return _setting(default, rule)


def switch(*, default: bool) -> Any:
    """Have a field take true or false."""
    return _setting(default, Rule("true or false", lambda value: isinstance(value, bool)))


def text(default: str, pattern: str, wants: str) -> Any:
    """Have a field take texts of a pattern, which ``wants`` names in words."""
    matches = re.compile(pattern).fullmatch
    return _setting(default, Rule(wants, lambda value: isinstance(value, str) and matches(value) is not None))


def secret() -> Any:
    """Have a field take a secret, empty at first."""
    matches = re.compile(r"[!-~]{0,512}").fullmatch
    wants = "a text of printable ASCII characters without spaces"
    rule = Rule(
        wants, lambda value: isinstance(value, str) and matches(value) is not None, Secret, secret=True
    )
    return _setting(Secret(""), rule)


def folder(default: str, pattern: str = r"(?!~)[^\x00-\x1f\x7f]{1,1000}") -> Any:
    """Have a field take the path of a folder."""
    # "~" is refused because only a shell expands it: the folder would be made under that very name.
    return text(default, pattern, "the path of a folder as text, written out without ~")


def paper_url() -> Any:
    """Have a field take the address of a simulated exchange on this machine, empty at first."""
    wants = "the address of a simulated exchange on this machine, like http://127.0.0.1:8080"
    # Not shown when refused: somebody else's address may carry a password.
    return _setting("", Rule(wants, _is_loopback_origin, lambda value: value.rstrip("/"), secret=True))


def _is_loopback_origin(value: object) -> bool:
    if not isinstance(value, str):
        return False
    match = re.fullmatch(r"http://(?:127\.0\.0\.1|localhost|\[::1\]):([1-9][0-9]{0,4})/?", value)
    return value == "" or (match is not None and int(match[1]) <= 65535)
