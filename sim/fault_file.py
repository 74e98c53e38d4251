"""Scenario files: faults written in YAML, checked word by word, refused with one sentence that names file and line.

Only the YAML of plain values is read (no tags, no anchors needed), every key must be known, and a key that is given
twice is refused.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from sim.fault_kinds import KINDS, TARGETS, TARGETS_OF, TIMES
from sim.fault_rules import REQUIRED, FaultError, Kind, Parameter, Rule, Script, Target

_MAX_BYTES = 1_000_000
_MAX_FAULTS = 1000
_MS = 1000
_NEEDS_END = ("outage",)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One value of the file and where it stands."""

    value: Any
    where: str


def load_script(path: Path) -> Script:
    """Return the scenario of a file; raises FaultError if it cannot be read or used."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise FaultError(f"{path.name} is larger than {_MAX_BYTES} bytes: a scenario is not that long.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FaultError(f"The scenario {path} cannot be read ({error.strerror}): check its path.") from None
    except UnicodeDecodeError:
        raise FaultError(f"{path.name} is no text in UTF-8: write the scenario in YAML.") from None
    return parse_script(text, path.name)


def parse_script(text: str, name: str = "scenario") -> Script:
    """Return the scenario that YAML ``text`` writes; ``name`` stands for the file in errors (FaultError)."""
    root = _compose(text, name)
    entries = _mapping(root, name)
    _known(entries, ("seed", "faults"), "a scenario")
    seed = entries.get("seed", _Entry(1, name))
    if type(seed.value) is not int:
        raise FaultError(f"{seed.where}: seed must be a whole number.")
    found = entries.get("faults")
    if found is None or not isinstance(found.value, yaml.SequenceNode):
        raise FaultError(f"{name}: faults must be a list of faults, each with - before its first key.")
    nodes = found.value.value
    if len(nodes) > _MAX_FAULTS:
        raise FaultError(f"{found.where}: there are more than {_MAX_FAULTS} faults.")
    return Script(tuple(_rule(_mapping(node, name), _place(node, name)) for node in nodes), seed.value)


def parse_fault(values: Mapping[str, str], name: str = "fault") -> Rule:
    """Return the fault that texts by key write, as in a query string; raises FaultError."""
    return _rule({key: _Entry(_plain(value), name) for key, value in values.items()}, name)


def _compose(text: str, name: str) -> Any:
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise FaultError(f"{name} line {line}: this is no YAML ({error.problem}).") from None
    except (yaml.YAMLError, RecursionError):
        raise FaultError(f"{name}: this is no YAML.") from None
    if root is None:
        raise FaultError(f"{name} is empty: write faults: and a list below it.")
    return root


def _mapping(node: Any, name: str) -> dict[str, _Entry]:
    """Return the entries of a mapping; lists stay nodes, everything else becomes plain values."""
    where = _place(node, name)
    if not isinstance(node, yaml.MappingNode):
        raise FaultError(f"{where}: there must be keys and values here, as in `fault: drop-reply`.")
    entries: dict[str, _Entry] = {}
    for key_node, value_node in node.value:
        key, place = str(key_node.value), _place(key_node, name)
        if key in entries:
            raise FaultError(f"{place}: {_short(key)} is given twice.")
        entries[key] = _Entry(_value(key, value_node, place), place)
    return entries


def _value(key: str, node: Any, place: str) -> Any:
    if key == "faults" and isinstance(node, yaml.SequenceNode):
        return node
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError):
        raise FaultError(f"{place}: the value of {_short(key)} cannot be read.") from None


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]+)?")
_WORD = re.compile(r"[a-zA-Z]+-[a-zA-Z-]+[a-zA-Z]|(?!(?i:yes|no|on|off|true|false|null|y|n)\Z)[a-zA-Z]+")


def _plain(text: str) -> Any:
    """Return what YAML makes of a text that stands alone; plain numbers and most words need no parser."""
    if number := _NUMBER.fullmatch(text):
        return float(text) if number[1] else int(text)
    if _WORD.fullmatch(text):
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def _place(node: Any, name: str) -> str:
    return f"{name} line {node.start_mark.line + 1}"


def _rule(entries: Mapping[str, _Entry], where: str) -> Rule:
    kind = _kind(entries, where)
    allowed = frozenset[str]().union(*(TARGETS_OF[acts] for acts in kind.acts)) - set(kind.parameters)
    names = ["fault", *TIMES, *sorted(allowed), *kind.parameters]
    _known(entries, names, f"the fault {kind.name}")
    values = {name: _read(entries, name, spec, where) for name, spec in kind.parameters.items()}
    times = {name: _optional(entries, name, TIMES[name]) for name in TIMES}
    targets = {name: _optional(entries, name, TARGETS[name]) for name in allowed}
    _check(kind, entries, values, where)
    from_ms, until_ms = _window(kind, times, where)
    return Rule(
        kind=kind,
        from_ms=from_ms,
        until_ms=until_ms,
        target=Target(**{name: value for name, value in targets.items() if value is not None}),
        values=values,
        where=where,
        probability=1.0 if times["probability"] is None else times["probability"],
        times=times["times"] if times["times"] is not None else (1 if times["at_s"] is not None else None),
        every_ms=_ms(times["every_s"]),
    )


def _kind(entries: Mapping[str, _Entry], where: str) -> Kind:
    entry = entries.get("fault")
    if entry is None:
        raise FaultError(f"{where}: fault is missing: name one, {_list(KINDS)}.")
    kind = KINDS.get(str(entry.value))
    if kind is None:
        raise FaultError(
            f"{entry.where}: there is no fault {_short(entry.value)}{_nearest(entry.value, KINDS)}."
        )
    return kind


def _window(kind: Kind, times: Mapping[str, Any], where: str) -> tuple[int, int | None]:
    given = [name for name in ("at_s", "from_s") if times[name] is not None]
    if len(given) > 1 or (times["for_s"] is not None and times["until_s"] is not None):
        raise FaultError(f"{where}: give either at_s or from_s, and either for_s or until_s.")
    from_ms = (_ms(times[given[0]]) or 0) if given else 0
    until_ms = from_ms + (_ms(times["for_s"]) or 0) if times["for_s"] is not None else _ms(times["until_s"])
    if until_ms is not None and until_ms <= from_ms:
        raise FaultError(f"{where}: it ends before it begins: until_s must be later than its beginning.")
    if until_ms is None and kind.name in _NEEDS_END:
        raise FaultError(f"{where}: the fault {kind.name} needs an end: add for_s.")
    return from_ms, until_ms


def _check(kind: Kind, entries: Mapping[str, _Entry], values: Mapping[str, Any], where: str) -> None:
    if kind.name == "error" and ("reply" in entries) == ("code" in entries):
        raise FaultError(f"{where}: the fault error needs either reply or code.")
    if kind.name == "symbol-rules" and all(value is None for value in values.values()):
        raise FaultError(f"{where}: the fault symbol-rules needs a rule: {', '.join(kind.parameters)}.")


def _read(entries: Mapping[str, _Entry], name: str, spec: Parameter, where: str) -> Any:
    entry = entries.get(name)
    if entry is not None:
        return _converted(entry, name, spec)
    if spec.default is REQUIRED:
        raise FaultError(f"{where}: {name} is missing: it must be {spec.wants}.")
    return spec.read(spec.default) if name == "executed" else spec.default


def _optional(entries: Mapping[str, _Entry], name: str, spec: Parameter) -> Any:
    entry = entries.get(name)
    return None if entry is None else _converted(entry, name, spec)


def _converted(entry: _Entry, name: str, spec: Parameter) -> Any:
    try:
        return spec.read(entry.value)
    except (ValueError, TypeError):
        raise FaultError(f"{entry.where}: {name} must be {spec.wants}, not {_short(entry.value)}.") from None


def _known(entries: Mapping[str, _Entry], names: Iterable[str], whose: str) -> None:
    known = list(names)
    for key, entry in entries.items():
        if key not in known:
            raise FaultError(f"{entry.where}: {whose} has no key {_short(key)}{_nearest(key, known)}.")


def _nearest(name: Any, known: Iterable[str]) -> str:
    near = get_close_matches(str(name), list(known), n=1)
    return f"; the nearest is {near[0]}" if near else f": use one of {_list(known)}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:36]}..."


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _MS)
