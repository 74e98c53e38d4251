"""Scenario files: what they may say, what is refused with which sentence, and the page that documents them."""

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.fault_file import load_script, parse_fault, parse_script
from sim.fault_kinds import KINDS, TARGETS, TIMES
from sim.fault_replies import REPLIES
from sim.fault_rules import REQUIRED, FaultError, Kind, Script
from sim.orders import Side

DOCS = (Path(__file__).resolve().parents[1] / "docs" / "faults.md").read_text(encoding="utf-8")


def test_scenario_is_read_with_times_targets_and_values() -> None:
    """Seconds become ms, for_s an end, amounts exact decimals; at_s means once."""
    script = parse_script(
        """
seed: 9
faults:
  - fault: foreign-fill      # a comment
    symbol: BTCUSDT
    side: SELL
    quantity: 0.1
    from_s: 1.5
    for_s: 10
    every_s: 2
  - {fault: drop-reply, at_s: 3, client_id: qpmm-, probability: 0.5}
"""
    )
    first, second = script.rules
    assert script.seed == 9
    assert (first.from_ms, first.until_ms, first.every_ms, first.times) == (1500, 11_500, 2000, None)
    assert (first.target.symbol, first.values["side"], first.values["quantity"]) == (
        "BTCUSDT",
        Side.SELL,
        Decimal("0.1"),
    )
    assert (second.from_ms, second.times, second.probability, second.target.client_id) == (
        3000,
        1,
        0.5,
        "qpmm-",
    )
    assert second.where == "scenario line 11"


def test_scenario_without_faults_is_one() -> None:
    """An empty list is a quiet night."""
    assert parse_script("faults: []") == Script((), 1)


REFUSED = [
    ("", "scenario is empty: write faults: and a list below it."),
    ("faults", "scenario line 1: there must be keys and values here"),
    ("faults: 3", "scenario: faults must be a list of faults"),
    ("seed: 1", "scenario: faults must be a list of faults"),
    ("seed: one\nfaults: []", "scenario line 1: seed must be a whole number."),
    ("fault: []", "scenario line 1: a scenario has no key 'fault'; the nearest is faults."),
    ("faults: [\n", "scenario line 2: this is no YAML"),
    (
        "faults:\n  - drop-reply",
        "scenario line 2: there must be keys and values here, as in `fault: drop-reply`.",
    ),
    ("faults:\n  - method: POST", "scenario line 2: fault is missing: name one, error, delay-request"),
    (
        "faults:\n  - fault: drop-repli",
        "scenario line 2: there is no fault 'drop-repli'; the nearest is drop-reply.",
    ),
    (
        "faults:\n  - fault: drop-reply\n    metod: POST",
        "scenario line 3: the fault drop-reply has no key 'metod'; the nearest is method.",
    ),
    ("faults:\n  - fault: drop-reply\n    fault: error", "scenario line 3: 'fault' is given twice."),
    (
        "faults:\n  - fault: drop-reply\n    stream: bookTicker",
        "scenario line 3: the fault drop-reply has no key 'stream'",
    ),
    (
        "faults:\n  - fault: drop-reply\n    probability: 2",
        "scenario line 3: probability must be a number from 0 to 1, not 2.",
    ),
    (
        "faults:\n  - fault: drop-reply\n    method: PATCH",
        "scenario line 3: method must be one of GET, POST, PUT, DELETE, not 'PATCH'.",
    ),
    (
        "faults:\n  - fault: delay-reply",
        "scenario line 2: delay_ms is missing: it must be MS, uniform:LOW-HIGH",
    ),
    (
        "faults:\n  - {fault: delay-reply, delay_ms: long}",
        "scenario line 2: delay_ms must be MS, uniform:LOW-HIGH",
    ),
    ("faults:\n  - {fault: error}", "scenario line 2: the fault error needs either reply or code."),
    ("faults:\n  - {fault: error, reply: html-502, code: -1}", "the fault error needs either reply or code."),
    ("faults:\n  - {fault: error, reply: 503}", "reply must be one of unknown-503, unavailable-503"),
    (
        "faults:\n  - {fault: error, code: -1, executed: 1}",
        "executed must be true, false or sometimes, not 1.",
    ),
    (
        "faults:\n  - {fault: halt, at_s: 1, from_s: 2}",
        "give either at_s or from_s, and either for_s or until_s.",
    ),
    (
        "faults:\n  - {fault: halt, for_s: 1, until_s: 2}",
        "give either at_s or from_s, and either for_s or until_s.",
    ),
    ("faults:\n  - {fault: halt, from_s: 5, until_s: 5}", "it ends before it begins"),
    ("faults:\n  - {fault: outage, at_s: 5}", "the fault outage needs an end: add for_s."),
    ("faults:\n  - {fault: symbol-rules}", "the fault symbol-rules needs a rule: tick_size, step_size"),
    ("faults:\n  - {fault: foreign-fill, side: LONG, quantity: 1}", "side must be BUY or SELL, not 'LONG'."),
    ("faults:\n  - {fault: transfer, amount: .nan}", "amount must be a number, not nan."),
    ("faults:\n  - {fault: wipe-account, wallet: -1}", "wallet must be a number above 0, not -1."),
    ("faults:\n  - {fault: drop-fields, fields: []}", "fields must be a list of names, not []."),
    ("faults:\n  - {fault: halt, for_s: !!python/name:os.system x}", "the value of 'for_s' cannot be read."),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_scenario_that_makes_no_sense_is_refused_with_its_line(text: str, sentence: str) -> None:
    """One sentence that names the line and the key, and what may stand there."""
    with pytest.raises(FaultError) as refused:
        parse_script(text)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_file_that_cannot_be_read_is_refused_with_its_name(tmp_path: Path) -> None:
    """Missing, not text, or far too long: the sentence says which."""
    with pytest.raises(FaultError, match=r"nowhere.yaml cannot be read \(No such file or directory\)"):
        load_script(tmp_path / "nowhere.yaml")
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FaultError, match=r"a.yaml is no text in UTF-8"):
        load_script(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("#" * 1_000_001)
    with pytest.raises(FaultError, match=r"b.yaml is larger than 1000000 bytes"):
        load_script(tmp_path / "b.yaml")


def _refusal(parse: Callable[[Any], object], given_text: object) -> str:
    """Return the sentence of the refusal, "" if there is none; any other exception is a failure."""
    try:
        parse(given_text)
    except FaultError as error:
        return str(error)
    return ""


@given(st.text(max_size=200) | st.sampled_from(REFUSED).map(lambda row: row[0]))
def test_whatever_is_written_is_a_scenario_or_one_sentence(text: str) -> None:
    """No text ends in a traceback."""
    assert "\n" not in _refusal(parse_script, text)


@given(
    st.dictionaries(st.sampled_from(["fault", *TIMES, *TARGETS, "reply", "code", "x"]), st.text(max_size=20))
)
def test_whatever_a_query_asks_for_is_a_fault_or_one_sentence(values: dict[str, str]) -> None:
    """The door /sim/fault reads texts, and refuses like files do."""
    assert "\n" not in _refusal(parse_fault, values)


# --- docs/faults.md -------------------------------------------------------------------------------------------------


def _keys(kind: Kind) -> str:
    """Return a kind's own keys as the documentation lists them, required ones in bold."""
    names = [
        f"**`{name}`**" if spec.default is REQUIRED else f"`{name}`" for name, spec in kind.parameters.items()
    ]
    return ", ".join(names)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_documentation_has_the_kind_with_its_keys(name: str) -> None:
    """The table is what the program does."""
    kind = KINDS[name]
    assert f"| `{name}` | {kind.says} | {_keys(kind)} |" in DOCS


def test_documentation_has_no_kind_that_there_is_not() -> None:
    """Nothing is promised that a scenario cannot write."""
    table = DOCS.partition("## The kinds")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == set(KINDS)


def test_documentation_maps_every_failure_to_its_kinds_or_says_why_not() -> None:
    """Every failure of the groups B1 to B10 has a row: the kinds that cause it, or whose failure it is instead."""
    table = DOCS.partition("## Which fault causes which failure")[2]
    rows = dict(re.findall(r"^\| ([A-Z]{3}-\d\d) \| [^|]+ \| ([^|]+) \|$", table, re.MULTILINE))
    sizes = {
        "ORD": 12,
        "LIF": 13,
        "STR": 16,
        "POS": 14,
        "REJ": 9,
        "LIM": 8,
        "NET": 9,
        "PRC": 16,
        "ACC": 9,
        "VEN": 10,
    }
    assert set(rows) == {
        f"{group}-{number:02d}" for group, size in sizes.items() for number in range(1, size + 1)
    }
    for failure, cell in rows.items():
        named = set(re.findall(r"`([a-z-]+)`", cell))
        assert named == {kind.name for kind in KINDS.values() if failure in kind.failures}, failure
        assert named or cell.startswith("not a fault of the exchange: "), failure


def test_documentation_has_every_reply_and_every_common_key() -> None:
    """Names that can be written can be looked up."""
    for name in (*REPLIES, *TIMES, *TARGETS):
        assert f"`{name}`" in DOCS
