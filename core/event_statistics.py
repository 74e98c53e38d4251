"""What a bus has done so far, in numbers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct


@dataclass(slots=True)
class Timing:
    """How long something took: how often, in total, and at most."""

    count: int = 0
    total_ns: int = 0
    max_ns: int = 0

    def add(self, took_ns: int) -> None:
        """Count one more."""
        self.count += 1
        self.total_ns += took_ns
        if took_ns > self.max_ns:
            self.max_ns = took_ns

    def add_all(self, count: int, took_ns: int) -> None:
        """Count so many more that took so long together; each of them the same, as nobody has looked closer."""
        if count:
            self.count += count
            self.total_ns += took_ns
            self.max_ns = max(self.max_ns, took_ns // count)

    @property
    def mean_ms(self) -> float:
        """The mean in ms, 0 before the first."""
        return self.total_ns / self.count / 1e6 if self.count else 0.0

    @property
    def max_ms(self) -> float:
        """The longest in ms."""
        return self.max_ns / 1e6


class SubscriberStatistics(Struct, frozen=True, kw_only=True):
    """What one subscriber has done: calls, how many of them failed, and how long they took.

    The last five are of a subscriber with a queue: how many facts wait and have waited at most, how many were left out
    or lost, and how long a fact waited before its turn.
    """

    name: str
    calls: int
    failures: int
    mean_ms: float
    max_ms: float
    waiting: int = 0
    most_waiting: int = 0
    dropped: int = 0
    lost: int = 0
    max_wait_ms: float = 0.0


class KindStatistics(Struct, frozen=True, kw_only=True):
    """How often facts of one kind were published, in all and a second."""

    count: int
    per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BusStatistics:
    """What a bus has done since the start; rates are those of the last full second or more."""

    kinds: Mapping[str, KindStatistics]
    subscribers: tuple[SubscriberStatistics, ...]

    @property
    def published(self) -> int:
        """Facts published."""
        return sum(kind.count for kind in self.kinds.values())

    @property
    def per_second(self) -> float:
        """Facts published a second."""
        return sum(kind.per_second for kind in self.kinds.values())

    @property
    def failures(self) -> int:
        """Calls of subscribers that failed."""
        return sum(each.failures for each in self.subscribers)

    @property
    def waiting(self) -> int:
        """Facts that wait in queues."""
        return sum(each.waiting for each in self.subscribers)

    @property
    def dropped(self) -> int:
        """Facts left out because a queue was full: of kinds where the next one says it all."""
        return sum(each.dropped for each in self.subscribers)

    @property
    def lost(self) -> int:
        """Facts lost because a queue was full of what must not be left out."""
        return sum(each.lost for each in self.subscribers)

    @property
    def handler_mean_ms(self) -> float:
        """Mean time of one call of a subscriber."""
        calls = sum(each.calls for each in self.subscribers)
        return sum(each.mean_ms * each.calls for each in self.subscribers) / calls if calls else 0.0

    @property
    def handler_max_ms(self) -> float:
        """Longest call of a subscriber."""
        return max((each.max_ms for each in self.subscribers), default=0.0)

    def __str__(self) -> str:
        text = (
            f"{self.published} events, handled in"
            f" {self.handler_mean_ms:.3f} ms on average and {self.handler_max_ms:.1f} ms at most"
        )
        troubles = {"failed": self.failures, "left out": self.dropped, "lost": self.lost}
        return ", ".join([text, *(f"{count} {what}" for what, count in troubles.items() if count)])


@dataclass(slots=True)
class Counts:
    """How often each kind was published, and how often a second lately."""

    total: dict[type, int] = field(default_factory=dict)
    _rates: dict[type, float] = field(default_factory=dict)
    _before: dict[type, int] = field(default_factory=dict)
    _since_ns: int = 0

    def read(self, now_ns: int) -> dict[str, KindStatistics]:
        """Return them by name; the rates are renewed when a second or more has passed."""
        passed_s = (now_ns - self._since_ns) / 1e9
        if passed_s >= 1:
            before = self._before
            self._rates = {
                kind: (count - before.get(kind, 0)) / passed_s for kind, count in self.total.items()
            }
            self._before, self._since_ns = dict(self.total), now_ns
        return {
            kind.__name__: KindStatistics(count=count, per_second=self._rates.get(kind, 0.0))
            for kind, count in self.total.items()
        }

    def begin(self, now_ns: int) -> None:
        """Let the time of the first rate begin now."""
        self._since_ns = now_ns
