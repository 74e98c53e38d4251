"""Reads the .env file and the process environment, the only module that does."""

import io
import os
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from utils.config_rules import ConfigLoaderError
from utils.config_sections import Config, settings_of
from utils.config_yaml import number_or_text

ENV_NAMES = tuple(name for name in settings_of(Config) if name.isupper())
KEY_NAMES = frozenset({"BINANCE_API_KEY", "BINANCE_SECRET_KEY"})


def read_env_file(content: str, file: Path) -> dict[str, tuple[str, str]]:
    """Return the non-empty values of the .env file with this content, each with its place for messages, by name."""
    values: dict[str, tuple[str, str]] = {}
    for binding in parse_stream(io.StringIO(content)):
        text = binding.original.string
        line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        place = f"{file} line {line}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise ConfigLoaderError(f"{place} must have the form NAME=value; correct or remove it.")
        name = binding.key or ""
        if name in values:
            raise ConfigLoaderError(f"{place}: {name} is there twice; remove one of the two.")
        _refuse_misspelled(name, place)
        if name in ENV_NAMES and binding.value:
            values[name] = (binding.value, place)
    return values


def _refuse_misspelled(name: str, place: str) -> None:
    """Raise for a name that is almost one of ours; other programs' names may stay in the file."""
    for known in ENV_NAMES:
        if name != known and SequenceMatcher(None, name.upper(), known).ratio() > 0.85:
            raise ConfigLoaderError(f"{place}: unknown name {name}; the nearest known name is {known}.")


def read_environment(in_file: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Return the checked settings of the process environment over those of the .env file."""
    found = dict(in_file)
    for name in ENV_NAMES:
        if text := os.environ.get(name):
            found[name] = (text, "the environment")
    return {
        name: settings_of(Config)[name].metadata["rule"].check(_from_text(name, text), f"{place}: {name}")
        for name, (text, place) in found.items()
    }


def forget_keys() -> None:
    """Have the process environment hold no key any more: no child inherits one, and no dump of it shows one."""
    for name in KEY_NAMES:
        os.environ.pop(name, None)


def _from_text(name: str, text: str) -> object:
    return number_or_text(text) if isinstance(settings_of(Config)[name].default, int) else text
