"""Reads config.yaml: composed to nodes, not constructed to objects. Every message knows its line, no YAML tag runs."""

import re
from dataclasses import Field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, cast

import yaml

from utils.config_checks import TWO_LEVELS
from utils.config_rules import ConfigLoaderError
from utils.config_sections import Config, Section, settings_of


class _NodeLoader(yaml.SafeLoader):
    """Composes a document without anchors and aliases: they could recurse or grow without bound."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            mark = cast(yaml.Mark, event.start_mark)
            raise yaml.MarkedYAMLError(
                problem="anchors (&) and aliases (*) are not supported", problem_mark=mark
            )
        return super().compose_node(parent, index)


def compose(text: str, file: Path) -> yaml.Node | None:
    """Return the nodes of a file with this text. Raises ConfigLoaderError where it is not YAML of a plain kind."""
    try:
        return yaml.compose(text, Loader=_NodeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigLoaderError(
            f"{file}{line} is not valid YAML: {error.problem or error.context}."
        ) from None
    except yaml.YAMLError:
        raise ConfigLoaderError(f"{file} holds a control character; remove it.") from None
    except RecursionError:
        raise ConfigLoaderError(
            f"{file} is nested too deeply; keep to the sections of the shipped config.yaml."
        ) from None
    except (ValueError, OverflowError):
        # The scanner turns digits of directives and escapes into numbers without looking at their size.
        raise ConfigLoaderError(
            f"{file} is not valid YAML: a number in a directive or an escape is too large."
        ) from None


_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,29})")
_FRACTION = re.compile(r"[-+]?([0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")
_SCIENTIFIC = re.compile(r"[-+]?[0-9]{1,30}[eE][-+]?[0-9]{1,3}")
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def scalar(node: yaml.Node) -> object:
    """Return the value of a scalar; what only looks like a number (010, 1:30, .nan) stays text."""
    if isinstance(node, yaml.SequenceNode):
        return []
    if isinstance(node, yaml.MappingNode):
        return {}
    text = str(node.value)
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind == "null":
        return None
    if kind == "bool":
        return _SWITCHES.get(text.lower(), text)
    if kind in ("int", "float"):
        return number_or_text(text)
    if isinstance(node, yaml.ScalarNode) and node.style is None and _SCIENTIFIC.fullmatch(text):
        return float(text)  # a number to people, though YAML 1.1 wants a point in it
    return text


def number_or_text(text: str) -> int | float | str:
    """Return the number that a text is to people, or the text itself."""
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text


def read_section(node: yaml.Node | None, section: type[Section], prefix: str, file: Path) -> dict[str, Any]:
    """Return the checked settings that `node` has for `section`; an empty node has none."""
    if node is None or _is_empty(node):
        return {}
    if not isinstance(node, yaml.MappingNode):
        what = f"{prefix[:-1]} must be" if prefix else "the file must hold"
        raise ConfigLoaderError(f"{place_of(file, node)}: {what} keys with values, like `levels: 3`.")
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        name = _known_name(key_node, section, prefix, file)
        if name in values:
            raise ConfigLoaderError(
                f"{place_of(file, key_node)}: {prefix}{name} is there twice; remove one of the two."
            )
        values[name] = _read_value(value_node, settings_of(section)[name], prefix + name, file)
    return values


def _read_value(node: yaml.Node, setting: Field[Any], path: str, file: Path) -> Any:
    if rule := setting.metadata.get("rule"):
        return rule.check(scalar(node), f"{place_of(file, node)}: {path}")
    section = cast(type[Section], setting.default_factory)
    return section(**read_section(node, section, f"{path}.", file))


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def place_of(file: Path, node: yaml.Node) -> str:
    """Return file and line of a node, for messages."""
    return f"{file} line {node.start_mark.line + 1}"


def _known_name(node: yaml.Node, section: type[Section], prefix: str, file: Path) -> str:
    name = node.value if isinstance(node, yaml.ScalarNode) else None
    if isinstance(name, str) and name in settings_of(section):
        return name
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", name):
        # Not shown: a text that is no name at all may be a secret in the wrong place.
        raise ConfigLoaderError(
            f"{place_of(file, node)}: a key here is not the name of a setting; correct or remove it."
        )
    raise ConfigLoaderError(
        f"{place_of(file, node)}: unknown key {prefix}{name}; "
        f"the nearest known key is {_nearest(prefix + name)}."
    )


def _nearest(path: str) -> str:
    def likeness(known: str) -> float:
        leaves = (path.rpartition(".")[2], known.rpartition(".")[2])
        return max(SequenceMatcher(None, *pair).ratio() for pair in ((path, known), leaves))

    return max(known_keys(), key=likeness)


def known_keys(section: type[Section] = Config, prefix: str = "") -> list[str]:
    """Return the full path of every key that config.yaml may have, for example `order_config.levels`."""
    keys: list[str] = []
    for name, setting in settings_of(section).items():
        if "rule" in setting.metadata:
            keys.append(prefix + name)
        else:
            keys += known_keys(cast(type[Section], setting.default_factory), f"{prefix}{name}.")
    return keys


def refuse_two_levels(root: yaml.Node | None, file: Path) -> None:
    """Raise if the file has both names of one setting with different values, also where one is the default."""
    levels = _node_at(root, "order_config", "levels")
    target = _node_at(root, "strategy", "target_orders_per_side")
    if levels is not None and target is not None and scalar(levels) != scalar(target):
        raise ConfigLoaderError(f"{place_of(file, target)}: {TWO_LEVELS}")


def _node_at(node: yaml.Node | None, *path: str) -> yaml.Node | None:
    for name in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for key, value in node.value if key.value == name), None)
    return node
