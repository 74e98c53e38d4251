"""The bus: every fact to every watcher, and no watcher that harms another."""

import logging

import pytest

from core.events import ConnectionEvent, ConnectionKind, EngineEvent, EngineKind, EventBus, Fact

STARTED = EngineEvent(EngineKind.STARTED)
UP = ConnectionEvent("market", ConnectionKind.UP)


def test_facts_reach_every_subscriber_in_order() -> None:
    """At once, in the order of subscription."""
    bus = EventBus()
    heard: list[tuple[str, Fact]] = []
    bus.subscribe(lambda fact: heard.append(("first", fact)))
    bus.subscribe(lambda fact: heard.append(("second", fact)))
    bus.publish(STARTED)
    bus.publish(UP)
    assert heard == [("first", STARTED), ("second", STARTED), ("first", UP), ("second", UP)]
    assert (bus.published, bus.failures) == (2, 0)


def test_late_subscriber_hears_what_comes_from_then_on() -> None:
    """Nothing is kept for those who come later."""
    bus = EventBus()
    heard: list[Fact] = []
    bus.publish(STARTED)
    bus.subscribe(heard.append)
    bus.publish(UP)
    assert heard == [UP]


def test_failing_subscriber_is_counted_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the publisher nor those after it; the log holds the fault with its cause."""

    def fail(fact: Fact) -> None:
        raise RuntimeError("the watcher is broken")

    bus = EventBus()
    heard: list[Fact] = []
    bus.subscribe(fail)
    bus.subscribe(heard.append)
    with caplog.at_level(logging.ERROR):
        bus.publish(STARTED)
    assert heard == [STARTED]
    assert (bus.published, bus.failures) == (1, 1)
    assert "a subscriber failed on EngineEvent" in caplog.text
    assert "the watcher is broken" in caplog.text
