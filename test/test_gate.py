"""The gate: open only while nobody objects."""

from core.gate import Gate


def test_gate_is_open_while_nobody_objects() -> None:
    """A new gate has no reason to be closed."""
    gate = Gate()
    assert gate.is_open
    assert gate.reasons == ()


def test_gate_stays_closed_until_the_last_key_is_withdrawn() -> None:
    """Each part opens what it closed itself, and nothing else."""
    gate = Gate()
    gate.close("book", "the book is stale")
    gate.close("user", "the account stream is down")
    gate.open("book")
    assert not gate.is_open
    assert gate.reasons == ("the account stream is down",)
    gate.open("user")
    assert gate.is_open


def test_closing_again_renews_the_reason_and_not_the_key() -> None:
    """The first to close is told so, the second is not; the newest reason is shown."""
    gate = Gate()
    assert gate.close("book", "3 s old")
    assert not gate.close("book", "4 s old")
    assert gate.reasons == ("4 s old",)


def test_opening_what_was_never_closed_changes_nothing() -> None:
    """And says so."""
    gate = Gate()
    heard: list[str] = []
    gate.listen(lambda: heard.append("changed"))
    assert not gate.open("book")
    assert heard == []


def test_gate_is_closed_while_its_parent_is() -> None:
    """The parent's reasons come first; a child does not close its parent."""
    parent = Gate()
    child = Gate(parent)
    child.close("book", "stale")
    assert parent.is_open
    parent.close("engine", "starting")
    assert child.reasons == ("starting", "stale")
    child.open("book")
    assert not child.is_open
    parent.open("engine")
    assert child.is_open


def test_listeners_hear_of_keys_that_come_and_go_here_and_above() -> None:
    """In the same turn, once for each change; a renewed reason is no change."""
    parent = Gate()
    child = Gate(parent)
    heard: list[bool] = []
    child.listen(lambda: heard.append(child.is_open))
    child.close("book", "stale")
    child.close("book", "older")
    child.open("book")
    parent.close("engine", "stopping")
    parent.open("engine")
    assert heard == [False, True, False, True]


def test_parent_does_not_hear_of_its_child() -> None:
    """Objections to one symbol are no matter of the others."""
    parent = Gate()
    heard: list[str] = []
    parent.listen(lambda: heard.append("changed"))
    Gate(parent).close("book", "stale")
    assert heard == []
