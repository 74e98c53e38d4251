"""What a fault of a scenario is as values: its kind, when it may strike, whom, and its own parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct


class FaultError(Exception):
    """A fault cannot be used as it is written; the text is one sentence that names the place and the remedy."""


class Acts(Enum):
    """What a kind of fault waits for: a message, or its time."""

    REQUEST = "a request"
    REPLY = "a reply"
    EVENT = "a stream payload"
    HANDSHAKE = "a stream being opened"
    TIME = "its time"


REQUIRED = object()
"""The default of a parameter that has none."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one key accepts: ``read`` converts a value or raises ValueError; ``wants`` completes "must be ..."."""

    wants: str
    read: Callable[[Any], Any]
    default: Any = REQUIRED


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault: what it waits for, its parameters, what it does in one sentence, the failures it causes."""

    name: str
    acts: frozenset[Acts]
    says: str
    failures: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom a fault strikes; empty means anybody. ``path`` may hold ``*``, ``client_id`` is how the id begins."""

    symbol: str = ""
    method: str = ""
    path: str = ""
    stream: str = ""
    event: str = ""
    execution: str = ""
    route: str = ""
    client_id: str = ""
    side: str = ""

    def hits(self, subject: "Subject") -> bool:
        """Tell whether the fault is meant for ``subject``."""
        return (
            self.method in ("", subject.method)
            and (not self.path or fnmatchcase(subject.path, self.path))
            and self.stream in ("", subject.stream, subject.event)
            and self.event in ("", subject.event)
            and self.execution in ("", subject.execution)
            and self.route in ("", subject.route)
            and self.symbol in ("", subject.symbol)
            and self.side in ("", subject.side)
            and (not self.client_id or any(each.startswith(self.client_id) for each in subject.client_ids))
        )


class Subject(Struct, frozen=True, kw_only=True):
    """A request, a payload or a stream as targets see it."""

    symbol: str = ""
    method: str = ""
    path: str = ""
    stream: str = ""
    event: str = ""
    execution: str = ""
    route: str = ""
    client_ids: tuple[str, ...] = ()
    side: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One fault of a scenario. Times are ms from its beginning, ``where`` is its place in the file.

    A message may be struck from ``from_ms`` until ``until_ms``, at most once every ``every_ms`` and ``times`` times in
    all, each with ``probability``. Other kinds strike at ``from_ms`` and, with ``every_ms``, again.
    """

    kind: Kind
    from_ms: int = 0
    until_ms: int | None = None
    every_ms: int | None = None
    times: int | None = None
    probability: float = 1.0
    target: Target = Target()
    values: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """A scenario: its faults, in the order in which they are asked, and the seed of their chances."""

    rules: tuple[Rule, ...] = ()
    seed: int = 1
