"""docs/failure-modes.md has all entries of the catalogue, each with a test, faults and a mutant that exist."""

import re
from pathlib import Path

from test.mutants.catalogue import load
from test.simulation.kinds import ALL
from test.test_quoting_guide import names_of_tests

ROOT = Path(__file__).resolve().parents[1]
COUNTS = [
    "ORD",
    "12",
    "LIF",
    "13",
    "STR",
    "16",
    "POS",
    "14",
    "REJ",
    "9",
    "LIM",
    "8",
    "NET",
    "9",
    "PRC",
    "16",
    "ACC",
    "9",
    "VEN",
    "10",
    "SEC",
    "5",
]
NUMBERS = dict(zip(COUNTS[::2], map(int, COUNTS[1::2]), strict=True))


def rows() -> list[list[str]]:
    """The cells of each row: id, failure, faults, what the daemon does, test, mutant."""
    text = (ROOT / "docs" / "failure-modes.md").read_text(encoding="utf-8")
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if re.match(r"\| [A-Z]{3}-\d\d ", line)
    ]


def test_every_entry_has_its_row() -> None:
    """121 of them, in the order of the catalogue."""
    assert [row[0] for row in rows()] == [f"{k}-{i:02d}" for k, n in NUMBERS.items() for i in range(1, n + 1)]
    assert len(rows()) == 121


def test_every_row_names_a_test_or_says_that_there_is_none() -> None:
    """A test that is renamed takes its row with it."""
    known = names_of_tests()
    for row in rows():
        if row[4] == "—":
            assert row[3].startswith("Not covered: "), row[0]
        else:
            assert {name.strip("`") for name in row[4].split(", ")} <= known, row


def test_every_fault_in_the_table_can_be_injected() -> None:
    """By the simulation, which knows all kinds of the exchange, too."""
    for row in rows():
        kinds = re.findall(r"`([\w-]+)`", row[2])
        assert kinds or row[2] in ("by its test", "—"), row
        assert set(kinds) <= ALL.keys(), row


def test_rows_with_a_mutant_are_those_of_the_catalogue() -> None:
    """And the first test of the row is the scenario that kills it."""
    mutants = {mutant.id: f"`{mutant.test_name}`" for mutant in load()}
    assert {row[0]: row[4].split(", ")[0] for row in rows() if row[5] == "yes"} == mutants


def test_table_of_kills_has_every_mutant_with_its_faults() -> None:
    """As the catalogue of mutants has them; the simulation has killed each, with a seed of the first 200."""
    text = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    found = {cells[0]: cells for cells in lines if re.fullmatch(r"[A-Z]{3}-\d\d", cells[0])}
    assert list(found) == [mutant.id for mutant in load()]
    for mutant in load():
        _, _, kinds, rule, seed, _, _ = found[mutant.id]
        assert tuple(re.findall(r"`([\w-]+)`", kinds)) == mutant.kinds
        assert re.fullmatch(r"INV-\d\d", rule)
        assert 1 <= int(seed) <= 200
