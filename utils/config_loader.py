"""The settings of the daemon: `config.yaml`, `.env` and the environment become one read-only `Config`.

Precedence of a setting: config.yaml, then the process environment, then the .env file, then the default.

The rules that a key keeps are in `config_rules`, the keys in `config_sections`, what they have to be to each other in
`config_checks`; `config_yaml` and `config_env` read.

Run as `python utils/config_loader.py`, Python puts `utils/` first on its path, where `utils/http.py` hides the standard
library's `http`: the project's folder takes its place before anything else is imported.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file
    _HERE = Path(__file__).resolve().parent
    sys.path[:] = [str(_HERE.parent), *(each for each in sys.path if Path(each).resolve() != _HERE)]

import argparse
import io
from typing import NoReturn

from utils.config_env import ENV_NAMES, KEY_NAMES, forget_keys, read_env_file, read_environment
from utils.config_rules import ConfigLoaderError
from utils.config_sections import (
    PROJECT_ROOT,
    Config,
    ExecutionConfig,
    LiveConfig,
    LoggingConfig,
    MarketDataConfig,
    OrderConfig,
    OrderManagementConfig,
    PaperConfig,
    RefreshConfig,
    RiskConfig,
    SafetyConfig,
    Section,
    StrategyConfig,
    resolve_path,
)
from utils.config_yaml import compose, known_keys, read_section, refuse_two_levels
from utils.secret import Secret

__all__ = [
    "ENV_NAMES",
    "PROJECT_ROOT",
    "Config",
    "ConfigLoaderError",
    "ExecutionConfig",
    "LiveConfig",
    "LoggingConfig",
    "MarketDataConfig",
    "OrderConfig",
    "OrderManagementConfig",
    "PaperConfig",
    "RefreshConfig",
    "RiskConfig",
    "SafetyConfig",
    "Secret",
    "Section",
    "StrategyConfig",
    "forget_keys",
    "get_config",
    "known_keys",
    "main",
    "resolve_path",
]

MAX_FILE_BYTES = 1_000_000


def get_config(env_path: str | Path | None = None, yaml_path: str | Path | None = None) -> Config:
    """Return all settings, read and checked.

    Args:
        env_path: the .env file; None means `.env` in the project's folder, which may be missing.
        yaml_path: the YAML file; None means `config.yaml` in the project's folder.

    Raises:
        ConfigLoaderError: a file cannot be read, or a setting is unknown, of the wrong type or out of range.
    """
    yaml_file = PROJECT_ROOT / "config.yaml" if yaml_path is None else Path(yaml_path)
    env_file = _default_env_file() if env_path is None else Path(env_path)
    root = compose(_read_text(yaml_file), yaml_file)
    settings = read_section(root, Config, "", yaml_file)
    refuse_two_levels(root, yaml_file)
    in_env_file = read_env_file(_read_text(env_file), env_file) if env_file else {}
    names = {env_file: in_env_file.keys(), yaml_file: settings.keys()}
    return Config(
        **{**read_environment(in_env_file), **settings},
        _yaml_path=yaml_file,
        _env_path=env_file,
        _key_files=tuple(file for file, found in names.items() if file and KEY_NAMES & found),
    )


def _default_env_file() -> Path | None:
    file = PROJECT_ROOT / ".env"
    return file if file.exists() else None


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: the path holds a NUL character
        reason = getattr(error, "strerror", None) or "the path is not valid"
        raise ConfigLoaderError(
            f"{file} cannot be read ({reason}): correct the path or create the file."
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigLoaderError(
            f"{file} is larger than {MAX_FILE_BYTES} bytes; this is not a file of settings."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigLoaderError(f"{file} line {line} is not UTF-8 text; save the file as UTF-8.") from None


class _ArgumentParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigLoaderError(f"{message}; use: python utils/config_loader.py [ENV_FILE] [YAML_FILE].")


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = _ArgumentParser(description="Load and check the settings, without starting anything.")
    parser.add_argument("env_file", nargs="?", help="the .env file (default: the project's)")
    parser.add_argument("yaml_file", nargs="?", help="the YAML file (default: the project's config.yaml)")
    parser.add_argument("--env", metavar="FILE", help="the .env file, by name")
    parser.add_argument("--config", metavar="FILE", help="the YAML file, by name")
    options = parser.parse_args(arguments)
    if None not in (options.env_file, options.env) or None not in (options.yaml_file, options.config):
        parser.error("the same file is given twice")
    return options


def main(arguments: list[str]) -> int:
    """Print that the settings load, or on stderr why not; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the success line is Chinese, whatever the locale is
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        options = _parse_arguments(arguments)
        config = get_config(options.env or options.env_file, options.config or options.yaml_file)
    except ConfigLoaderError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"配置加载成功！ {config}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
