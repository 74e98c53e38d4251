"""Parameters of a request: parsed once, read by type, refused with Binance's code for what is wrong with them.

Source: facts section 2 (query wins over body, empty values are refused), section 9 (-1100 to -1130).
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import unquote_plus

from sim.errors import ApiError, refusal

_MOST_DIGITS = 18
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?\Z")

Choice = TypeVar("Choice", bound=StrEnum)


def parse_form(text: str) -> tuple[dict[str, str], ApiError | None]:
    """Return the pairs of a query string or form body, percent-decoded, and what is wrong with them if anything is."""
    is_plain = "%" not in text and "+" not in text
    if is_plain and (usual := _plain_pairs(text)) is not None:
        return usual, None
    found: dict[str, str] = {}
    fault: ApiError | None = None
    for pair in text.split("&"):
        name, _, value = pair.partition("=")
        if not is_plain:
            name, value = unquote_plus(name), unquote_plus(value)
        if not name:
            continue
        if name in found:
            fault = fault or refusal(-1101, name)
        elif not value:
            fault = fault or refusal(-1105, name)
        else:
            found[name] = value
    return found, fault


def _plain_pairs(text: str) -> dict[str, str] | None:
    """Return the pairs of a text in which every pair is whole and no name comes twice, None for another one."""
    pairs = [pair.split("=", 1) for pair in text.split("&")]
    try:
        found: dict[str, str] = dict(pairs)
    except ValueError:
        return None
    return found if len(found) == len(pairs) and all(found) and all(found.values()) else None


class Params:
    """The parameters of one request by name; every reader raises ApiError for what is missing or malformed."""

    __slots__ = ("_fault", "_values")

    def __init__(self, values: Mapping[str, str], fault: ApiError | None = None) -> None:
        self._values = values
        self._fault = fault

    @classmethod
    def of_request(cls, query: str, body: str) -> "Params":
        """Return the parameters of query and body; the query wins where both name one."""
        if not body:
            return cls(*parse_form(query))
        (late, late_fault), (early, early_fault) = parse_form(body), parse_form(query)
        return cls({**late, **early}, early_fault or late_fault)

    def check(self) -> None:
        """Raise -1101 or -1105 if the text that the parameters came from was malformed."""
        if self._fault:
            raise self._fault

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def as_texts(self) -> dict[str, str]:
        """Return all parameters as they were sent."""
        return dict(self._values)

    def text(self, name: str) -> str:
        """Return the parameter; -1102 if it is missing."""
        value = self._values.get(name)
        if value is None:
            raise refusal(-1102, name)
        return value

    def text_or(self, name: str, default: str) -> str:
        """Return the parameter, or ``default``."""
        return self._values.get(name, default)

    def integer(self, name: str) -> int:
        """Return the parameter as a whole number; -1102 if missing, -1100 if it is none."""
        value = self._values.get(name)
        if value is None:
            raise refusal(-1102, name)
        return _whole_number(name, value)

    def integer_or(self, name: str, default: int) -> int:
        """Return the parameter as a whole number, or ``default``."""
        value = self._values.get(name)
        return default if value is None else _whole_number(name, value)

    def optional_integer(self, name: str) -> int | None:
        """Return the parameter as a whole number, None where it was not sent."""
        return self.integer(name) if name in self._values else None

    def decimal(self, name: str) -> Decimal:
        """Return the parameter as an exact Decimal; -1102 if missing, -1100 unless it is plain decimal text."""
        value = self._values.get(name)
        if value is None:
            raise refusal(-1102, name)
        if not _DECIMAL.match(value):
            raise refusal(-1100, name)
        return Decimal(value)

    def flag(self, name: str) -> bool:
        """Return the parameter, which must say "true" or "false"; -1102 if it is missing."""
        self.text(name)
        return self.flag_or(name, default=False)

    def flag_or(self, name: str, *, default: bool) -> bool:
        """Return the parameter, which must say "true" or "false", or ``default``."""
        value = self._values.get(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise refusal(-1130, name)
        return value.lower() == "true"

    def choice(self, name: str, kind: type[Choice], code: int) -> Choice:
        """Return the parameter as a member of ``kind``; -1102 if missing, ``code`` if it is no member."""
        value = self.text(name)
        try:
            return kind(value)
        except ValueError:
            raise refusal(code, name) from None

    def json_list(self, name: str) -> list[Any]:
        """Return the parameter as a JSON list; -1130 if it is none."""
        value = decode_json(self.text(name))
        if not isinstance(value, list):
            raise refusal(-1130, name)
        return value

    def refuse(self, *names: str) -> None:
        """Raise -1106 if one of ``names`` was sent."""
        for name in names:
            if name in self._values:
                raise refusal(-1106, name)


def _whole_number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS):
        raise refusal(-1100, name)
    return int(value)


_DECODER = json.JSONDecoder(parse_float=str, parse_constant=str)


def decode_json(text: str) -> Any:
    """Return the value of JSON ``text``, fractions kept as their text; None if it is not JSON."""
    if not text:
        return None
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def params_of_object(value: Any) -> Params:
    """Return the parameters of one object in a JSON list, as the text that a query would have; -1130 if it is
    none.
    """
    if not isinstance(value, dict):
        raise refusal(-1130, "batchOrders")
    return Params({name: _as_text(item) for name, item in value.items() if item not in (None, "")})


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)
