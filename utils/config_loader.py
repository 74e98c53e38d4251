"""The settings of the daemon: `config.yaml`, `.env` and the environment become one read-only `Config`.

Precedence of a setting: config.yaml, then the process environment, then the .env file, then the default.

This file must stay a leaf: it imports nothing of this project. Run as `python utils/config_loader.py`,
Python puts `utils/` first on its path, where `utils/http.py` hides the standard library's `http`;
everything imported here gets along without `http`.
"""

import argparse
import io
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from decimal import Decimal
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Never, NoReturn, Self, cast

import yaml
from dotenv.parser import parse_stream

PROJECT_ROOT = Path(__file__).resolve().parents[1]
MAX_FILE_BYTES = 1_000_000
MASK = "***"


class ConfigLoaderError(ValueError):
    """The settings cannot be used; the message is one sentence that says what to change and where."""


class Secret(str):
    """A text that shows itself as `***` however it is printed, joined, written or encoded.

    `reveal()` gives the plain text, which it also equals. It cannot be pickled; a copy is the object itself.
    """

    __slots__ = ("_plain",)
    _plain: str

    def __new__(cls, plain: str) -> Self:
        """Keep `plain` aside: the str value itself is the mask, for C code reads it directly (join, csv)."""
        self = super().__new__(cls, MASK if plain else "")
        self._plain = plain
        return self

    def reveal(self) -> str:
        """Return the plain text; only for the code that signs or authenticates a request."""
        return self._plain

    def __repr__(self) -> str:
        return f"'{super().__str__()}'"

    def __eq__(self, other: object) -> bool:
        return self._plain == (other._plain if isinstance(other, Secret) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._plain)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a Secret is not pickled, so that it does not reach a file")


# --------------------------------------------------------------------------------------------------
# Rules: what a key accepts, in code and in words.


@dataclass(frozen=True, slots=True)
class Rule:
    """What one key accepts: `wants` completes the sentence "... must be", `accepts` decides."""

    wants: str
    accepts: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value
    secret: bool = False

    def check(self, value: object, name: str) -> Any:
        """Return the setting that `value` stands for, or raise a ConfigLoaderError about `name`."""
        plain = value.reveal() if isinstance(value, Secret) else value
        if not self.accepts(plain):
            found = "" if self.secret else f", not {_shown(plain)}"
            raise ConfigLoaderError(f"{name} must be {self.wants}{found}.")
        return self.convert(plain)


def _shown(value: object) -> str:
    """Return `value` as an error message may show it: short, on one line."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the switch {str(value).lower()}"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a section"
    text = ascii(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return text if len(text) <= 32 else f"{text[:28]}..."


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


# The functions below return the default of a dataclass field, which stands at fields of any type: hence Any.


def _setting(default: object, rule: Rule) -> Any:
    return field(default=default, metadata={"rule": rule})


def _integer(default: int, low: int, high: int, unit: str = "") -> Any:
    rule = Rule(
        f"a whole number from {low} to {high}{unit}",
        lambda value: type(value) is int and low <= value <= high,
    )
    return _setting(default, rule)


def _number(default: float, low: float, high: float, unit: str = "") -> Any:
    rule = Rule(
        f"a number from {low} to {high}{unit}", lambda value: _is_number(value) and low <= value <= high
    )
    return _setting(default, rule)


def _positive(default: float, high: float, unit: str = "") -> Any:
    rule = Rule(
        f"a number above 0 and up to {high}{unit}", lambda value: _is_number(value) and 0 < value <= high
    )
    return _setting(default, rule)


def _positive_below(default: float, high: float, unit: str) -> Any:
    rule = Rule(
        f"a number above 0 and below {high}{unit}", lambda value: _is_number(value) and 0 < value < high
    )
    return _setting(default, rule)


def _choice(default: str, *choices: str) -> Any:
    rule = Rule(f"one of: {', '.join(choices)}", lambda value: isinstance(value, str) and value in choices)
    return _setting(default, rule)


def _switch(*, default: bool) -> Any:
    return _setting(default, Rule("true or false", lambda value: isinstance(value, bool)))


def _text(default: str, pattern: str, wants: str) -> Any:
    matches = re.compile(pattern).fullmatch
    return _setting(default, Rule(wants, lambda value: isinstance(value, str) and matches(value) is not None))


def _secret() -> Any:
    matches = re.compile(r"[!-~]{0,512}").fullmatch
    wants = "a text of printable ASCII characters without spaces"
    rule = Rule(
        wants, lambda value: isinstance(value, str) and matches(value) is not None, Secret, secret=True
    )
    return _setting(Secret(""), rule)


def _folder(default: str, pattern: str = r"(?!~)[^\x00-\x1f\x7f]{1,1000}") -> Any:
    # "~" is refused because only a shell expands it: the folder would be made under that very name.
    return _text(default, pattern, "the path of a folder as text, written out without ~")


def _paper_url() -> Any:
    wants = "the address of a simulated exchange on this machine, like http://127.0.0.1:8080"
    # Not shown when refused: somebody else's address may carry a password.
    return _setting("", Rule(wants, _is_loopback_origin, lambda value: value.rstrip("/"), secret=True))


def _is_loopback_origin(value: object) -> bool:
    if not isinstance(value, str):
        return False
    match = re.fullmatch(r"http://(?:127\.0\.0\.1|localhost|\[::1\]):([1-9][0-9]{0,4})/?", value)
    return value == "" or (match is not None and int(match[1]) <= 65535)


# --------------------------------------------------------------------------------------------------
# The settings. Units and effects are commented in config.yaml and .env.example.


class Section(Mapping[str, Any]):
    """A group of settings: read-only, by attribute, by item (`section["key"]`) and by `.get`, also dotted.

    Every subclass is a frozen dataclass; its fields are checked whichever way it is made.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, setting in _settings(type(self)).items():
            if rule := setting.metadata.get("rule"):
                # The only way to finish a field of a frozen dataclass.
                object.__setattr__(self, name, rule.check(getattr(self, name), name))

    def __getitem__(self, key: str) -> Any:
        head, _, rest = key.partition(".")
        if head not in _settings(type(self)):
            raise KeyError(key)
        value = getattr(self, head)
        if not rest:
            return value
        if not isinstance(value, Section):
            raise KeyError(key)
        return value[rest]

    def __iter__(self) -> Iterator[str]:
        return iter(_settings(type(self)))

    def __len__(self) -> int:
        return len(_settings(type(self)))

    def decimal(self, key: str) -> Decimal:
        """Return the number under `key` with the digits that the file has, for calculations with money."""
        return Decimal(str(self[key]))


def _settings(section: type[Section]) -> dict[str, Field[Any]]:
    return {item.name: item for item in fields(cast(Any, section)) if not item.name.startswith("_")}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConfig(Section):
    """What rests on each side of the mid price."""

    levels: int = _integer(3, 1, 50)
    quantity_per_order_usdt: float = _positive(250, 10**9, " USDT")
    price_offset_percent: float = _positive_below(0.1, 5, " percent")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshConfig(Section):
    """How often the quotes are renewed and the position is checked."""

    orderbook_refresh_interval: float = _number(5, 0.5, 3600, " seconds")
    risk_check_interval: float = _number(1, 0.1, 60, " seconds")
    refresh_mode: str = _choice("amend", "amend", "replace")
    on_move: bool = _switch(default=True)
    min_requote_interval_ms: int = _integer(250, 0, 60_000, " milliseconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyConfig(Section):
    """Where a quote may rest, as fractions of the mid price (0.001 = 0.1 percent)."""

    min_spread: float = _number(0, 0, 0.5, " of the mid price (0.001 = 0.1 percent)")
    max_spread: float = _positive(0.2, 1, " of the mid price (0.001 = 0.1 percent)")
    target_orders_per_side: int = _integer(3, 1, 50)
    """Another name of order_config.levels; always equal to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderManagementConfig(Section):
    """When an order is kept, amended, or replaced, and how our record of orders is kept clean."""

    modify_threshold: float = _number(0.000025, 0, 0.1, " of the mid price (0.0001 = 0.01 percent)")
    max_modify_deviation: float = _positive(0.01, 1, " of the mid price (0.01 = 1 percent)")
    patience_bps_s: float = _number(4, 0, 10_000, " basis points times seconds")
    reset_interval: float = _number(300, 0, 86_400, " seconds")
    max_pending_modifications: int = _integer(10, 1, 1000)
    modification_timeout: float = _number(5, 0.5, 60, " seconds")
    cleanup_interval: float = _number(60, 1, 86_400, " seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionConfig(Section):
    """How requests leave."""

    modify_worker_count: int = _integer(2, 1, 16)
    modify_rate_limit: float = _positive(10, 100, " amend requests a second")
    order_transport: str = _choice("rest", "rest", "ws")


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskConfig(Section):
    """Limits besides max_net_position_ratio. 0 means that a limit is off."""

    max_position: float = _number(0, 0, 10**12, " of the base asset")
    max_order_count: int = _integer(100, 1, 1000)
    max_daily_loss: float = _number(100, 0, 10**12, " USDT")
    max_price_change: float = _number(0.03, 0, 1, " (0.03 = 3 percent)")
    price_change_window_s: float = _number(60, 1, 3600, " seconds")
    flatten_max_slippage_bps: float = _number(50, 1, 1000, " bps of the price (50 = 0.5 percent)")
    flatten_deadline_s: float = _number(5, 0, 300, " seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketDataConfig(Section):
    """What is listened to besides best bid and ask, and over how long it is measured."""

    depth: str = _choice("none", "none", "top20", "diff")
    trades: bool = _switch(default=True)
    significant_trade_quote: float = _positive(100_000, 10**12, " USDT")
    significant_trade_interval_s: float = _number(5, 0, 3600, " seconds")
    volatility_samples: int = _integer(100, 2, 10_000)
    volatility_half_life_s: float = _number(60, 1, 86_400, " seconds")
    flow_window_s: float = _number(60, 1, 3600, " seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingConfig(Section):
    """What is written where."""

    log_to_csv: bool = _switch(default=True)
    log_directory: str = _folder("logs")
    log_level: str = _choice("INFO", "DEBUG", "INFO", "WARNING", "ERROR")
    max_metrics_mb: int = _integer(5000, 0, 10_000_000, " MB")


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyConfig(Section):
    """When quotes are pulled, how long things may take, how often a worker may fail."""

    max_book_age_ms: int = _integer(3000, 200, 60_000, " milliseconds")
    dead_man_window_s: float = _number(20, 5, 600, " seconds")
    dead_man_refresh_s: float = _number(5, 0.5, 200, " seconds")
    request_timeout_s: float = _number(3, 0.1, 30, " seconds")
    stop_timeout_s: float = _number(4, 1, 60, " seconds")
    worker_restart_budget: int = _integer(5, 0, 1000)
    worker_restart_window_s: float = _number(60, 1, 3600, " seconds")
    position_drift_buffer_percent: float = _number(2, 0, 50, " percent")
    max_loop_lag_ms: int = _integer(1000, 50, 60_000, " milliseconds")
    max_memory_mb: int = _integer(0, 0, 1_000_000, " MB")
    max_crashes_per_hour: int = _integer(10, 0, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperConfig(Section):
    """The simulated exchange inside the process."""

    market: str = _choice("synthetic", "synthetic", "recording", "live")
    recording: str = _folder("", r"(?!~)[^\x00-\x1f\x7f]{0,1000}")
    speed: float = _number(1, 0.01, 10_000, " times real time")
    seed: int = _integer(1, 0, 2**63 - 1)
    latency_ms: float = _number(5, 0, 5000, " milliseconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConfig(Section):
    """What real money needs."""

    max_capital_usdt: float = _number(0, 0, 10**12, " USDT")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Config(Section):
    """All settings, checked. `get_config()` makes it; tests may also call it with the values they need.

    The names in capitals come from the environment or the .env file unless config.yaml has them too.
    """

    strategy_name: str = _text(
        "passive_market_maker", r"[\w-]{1,64}", "a name of letters, digits, _ and - (up to 64)"
    )
    instance_id: str = _text("mm1", r"[a-z0-9]{1,8}", "1 to 8 of the characters a-z and 0-9")
    symbol: str = _text("BTCUSDT", r"[A-Z0-9_]{1,32}", "a symbol in capital letters like BTCUSDT")
    leverage: int = _integer(5, 1, 125)
    initial_capital: float = _positive(2000, 10**12, " USDT")
    max_net_position_ratio: float = _positive(0.2, 1)
    state_directory: str = _folder("state")
    status_interval: float = _number(5, 1, 3600, " seconds")
    order_config: OrderConfig = field(default_factory=OrderConfig)
    refresh_config: RefreshConfig = field(default_factory=RefreshConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    order_management: OrderManagementConfig = field(default_factory=OrderManagementConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    risk: RiskConfig = field(default_factory=RiskConfig)
    market_data: MarketDataConfig = field(default_factory=MarketDataConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    paper: PaperConfig = field(default_factory=PaperConfig)
    live: LiveConfig = field(default_factory=LiveConfig)
    BINANCE_API_KEY: Secret = _secret()  # noqa: RUF009 - gives a field, see _setting
    BINANCE_SECRET_KEY: Secret = _secret()  # noqa: RUF009 - gives a field, see _setting
    EXCHANGE_ENV: str = _choice("paper", "paper", "testnet", "live")
    LISTEN_KEY_REFRESH_INTERVAL: int = _integer(1800, 60, 3500, " seconds")
    PAPER_URL: str = _paper_url()

    _yaml_path: Path | None = field(default=None, compare=False)
    _env_path: Path | None = field(default=None, compare=False)
    _key_files: tuple[Path, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        # Not super(): a dataclass with slots is made anew, and super() would look for the first one.
        Section.__post_init__(self)
        _settle_alias(self)
        _check_together(self)

    def __repr__(self) -> str:
        return f"<Config yaml={self._yaml_path or 'none'} env={self._env_path or 'none'}>"

    @property
    def key_files(self) -> tuple[Path, ...]:
        """Return the files in which an API key or secret was found."""
        return self._key_files

    def path(self, key: str) -> Path:
        """Return the folder under `key` as an absolute path; relative ones start at the project's folder."""
        return resolve_path(self[key])


def resolve_path(path: str | Path) -> Path:
    """Return `path` as an absolute path; relative ones start at the project's folder."""
    return PROJECT_ROOT / path


def _settle_alias(config: Config) -> None:
    """Have the two names for the number of orders a side say the same, whichever of them was set."""
    unset = StrategyConfig().target_orders_per_side
    levels, target = config.order_config.levels, config.strategy.target_orders_per_side
    if levels == unset:
        object.__setattr__(config, "order_config", replace(config.order_config, levels=target))
    elif target == unset:
        object.__setattr__(config, "strategy", replace(config.strategy, target_orders_per_side=levels))
    elif levels != target:
        raise ConfigLoaderError(_TWO_LEVELS)


_TWO_LEVELS = (
    "order_config.levels and strategy.target_orders_per_side are two names of one setting "
    "and differ here: remove one of them."
)


def _check_together(config: Config) -> None:
    _check_quoting(config)
    safety, paper = config.safety, config.paper
    if safety.dead_man_refresh_s * 3 > safety.dead_man_window_s:
        raise ConfigLoaderError(
            f"safety.dead_man_refresh_s ({safety.dead_man_refresh_s}) must be at most a third of "
            f"safety.dead_man_window_s ({safety.dead_man_window_s}): lower the first or raise the second."
        )
    if paper.market == "recording" and not paper.recording:
        raise ConfigLoaderError(
            "paper.recording must name the folder of a recording while paper.market is recording: "
            "fill it in or set paper.market to synthetic."
        )
    if paper.market == "live" and paper.speed != 1:
        raise ConfigLoaderError(
            f"paper.speed ({paper.speed:g}) must be 1 while paper.market is live: the real market has one speed."
        )


def _check_quoting(config: Config) -> None:
    strategy, management = config.strategy, config.order_management
    if strategy.min_spread >= strategy.max_spread:
        raise ConfigLoaderError(
            f"strategy.min_spread ({strategy.min_spread}) must be below "
            f"strategy.max_spread ({strategy.max_spread}): lower the first or raise the second."
        )
    _check_offsets(config)
    if management.modify_threshold >= management.max_modify_deviation:
        raise ConfigLoaderError(
            f"order_management.modify_threshold ({management.modify_threshold}) must be below "
            f"order_management.max_modify_deviation ({management.max_modify_deviation}): "
            "lower the first or raise the second."
        )


def _check_offsets(config: Config) -> None:
    strategy, levels = config.strategy, config.order_config.levels
    nearest = config.decimal("order_config.price_offset_percent")
    if nearest < 100 * config.decimal("strategy.min_spread"):
        raise ConfigLoaderError(
            f"order_config.price_offset_percent ({nearest} percent) puts level 1 nearer to the mid than "
            f"strategy.min_spread ({strategy.min_spread}) allows: raise the first or lower the second."
        )
    if nearest * levels > 100 * config.decimal("strategy.max_spread"):
        raise ConfigLoaderError(
            f"order_config.price_offset_percent ({nearest} percent) puts level {levels} farther from the mid than "
            f"strategy.max_spread ({strategy.max_spread}) allows: lower the first or raise the second."
        )


# --------------------------------------------------------------------------------------------------
# config.yaml: composed to nodes, not constructed to objects: every message knows its line, no YAML tag runs.


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


def _compose(text: str, file: Path) -> yaml.Node | None:
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


def _scalar(node: yaml.Node) -> object:
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
        return _number_or_text(text)
    if isinstance(node, yaml.ScalarNode) and node.style is None and _SCIENTIFIC.fullmatch(text):
        return float(text)  # a number to people, though YAML 1.1 wants a point in it
    return text


def _number_or_text(text: str) -> int | float | str:
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text


def _read_section(node: yaml.Node | None, section: type[Section], prefix: str, file: Path) -> dict[str, Any]:
    """Return the checked settings that `node` has for `section`; an empty node has none."""
    if node is None or _is_empty(node):
        return {}
    if not isinstance(node, yaml.MappingNode):
        what = f"{prefix[:-1]} must be" if prefix else "the file must hold"
        raise ConfigLoaderError(f"{_place(file, node)}: {what} keys with values, like `levels: 3`.")
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        name = _known_name(key_node, section, prefix, file)
        if name in values:
            raise ConfigLoaderError(
                f"{_place(file, key_node)}: {prefix}{name} is there twice; remove one of the two."
            )
        values[name] = _read_value(value_node, _settings(section)[name], prefix + name, file)
    return values


def _read_value(node: yaml.Node, setting: Field[Any], path: str, file: Path) -> Any:
    if rule := setting.metadata.get("rule"):
        return rule.check(_scalar(node), f"{_place(file, node)}: {path}")
    section = cast(type[Section], setting.default_factory)
    return section(**_read_section(node, section, f"{path}.", file))


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _place(file: Path, node: yaml.Node) -> str:
    return f"{file} line {node.start_mark.line + 1}"


def _known_name(node: yaml.Node, section: type[Section], prefix: str, file: Path) -> str:
    name = node.value if isinstance(node, yaml.ScalarNode) else None
    if isinstance(name, str) and name in _settings(section):
        return name
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", name):
        # Not shown: a text that is no name at all may be a secret in the wrong place.
        raise ConfigLoaderError(
            f"{_place(file, node)}: a key here is not the name of a setting; correct or remove it."
        )
    raise ConfigLoaderError(
        f"{_place(file, node)}: unknown key {prefix}{name}; "
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
    for name, setting in _settings(section).items():
        if "rule" in setting.metadata:
            keys.append(prefix + name)
        else:
            keys += known_keys(cast(type[Section], setting.default_factory), f"{prefix}{name}.")
    return keys


# --------------------------------------------------------------------------------------------------
# .env and the process environment

ENV_NAMES = tuple(name for name in _settings(Config) if name.isupper())
KEY_NAMES = frozenset({"BINANCE_API_KEY", "BINANCE_SECRET_KEY"})


def _read_env_file(file: Path) -> dict[str, tuple[str, str]]:
    """Return the non-empty values of the .env file, each with its place for messages, by name."""
    values: dict[str, tuple[str, str]] = {}
    for binding in parse_stream(io.StringIO(_read_text(file))):
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


def _read_environment(in_file: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Return the checked settings of the process environment over those of the .env file."""
    found = dict(in_file)
    for name in ENV_NAMES:
        if text := os.environ.get(name):
            found[name] = (text, "the environment")
    return {
        name: _settings(Config)[name].metadata["rule"].check(_from_text(name, text), f"{place}: {name}")
        for name, (text, place) in found.items()
    }


def forget_keys() -> None:
    """Have the process environment hold no key any more: no child inherits one, and no dump of it shows one."""
    for name in KEY_NAMES:
        os.environ.pop(name, None)


def _from_text(name: str, text: str) -> object:
    return _number_or_text(text) if isinstance(_settings(Config)[name].default, int) else text


# --------------------------------------------------------------------------------------------------
# Both together


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
    root = _compose(_read_text(yaml_file), yaml_file)
    settings = _read_section(root, Config, "", yaml_file)
    _refuse_two_levels(root, yaml_file)
    in_env_file = _read_env_file(env_file) if env_file else {}
    names = {env_file: in_env_file.keys(), yaml_file: settings.keys()}
    return Config(
        **{**_read_environment(in_env_file), **settings},
        _yaml_path=yaml_file,
        _env_path=env_file,
        _key_files=tuple(file for file, found in names.items() if file and KEY_NAMES & found),
    )


def _refuse_two_levels(root: yaml.Node | None, file: Path) -> None:
    """Raise if the file has both names of one setting with different values, also where one is the default."""
    levels = _node_at(root, "order_config", "levels")
    target = _node_at(root, "strategy", "target_orders_per_side")
    if levels is not None and target is not None and _scalar(levels) != _scalar(target):
        raise ConfigLoaderError(f"{_place(file, target)}: {_TWO_LEVELS}")


def _node_at(node: yaml.Node | None, *path: str) -> yaml.Node | None:
    for name in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for key, value in node.value if key.value == name), None)
    return node


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
