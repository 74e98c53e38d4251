"""The settings by groups, with their defaults. Units and effects are commented in config.yaml and .env.example."""

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from utils.config_checks import check_together, settle_alias
from utils.config_rules import (
    choice,
    folder,
    integer,
    number,
    paper_url,
    positive,
    positive_below,
    secret,
    switch,
    text,
)
from utils.secret import Secret

PROJECT_ROOT = Path(__file__).resolve().parents[1]


class Section(Mapping[str, Any]):
    """A group of settings: read-only, by attribute, by item (`section["key"]`) and by `.get`, also dotted.

    Every subclass is a frozen dataclass; its fields are checked whichever way it is made.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, setting in settings_of(type(self)).items():
            if rule := setting.metadata.get("rule"):
                # The only way to finish a field of a frozen dataclass.
                object.__setattr__(self, name, rule.check(getattr(self, name), name))

    def __getitem__(self, key: str) -> Any:
        head, _, rest = key.partition(".")
        if head not in settings_of(type(self)):
            raise KeyError(key)
        value = getattr(self, head)
        if not rest:
            return value
        if not isinstance(value, Section):
            raise KeyError(key)
        return value[rest]

    def __iter__(self) -> Iterator[str]:
        return iter(settings_of(type(self)))

    def __len__(self) -> int:
        return len(settings_of(type(self)))

    def decimal(self, key: str) -> Decimal:
        """Return the number under `key` with the digits that the file has, for calculations with money."""
        return Decimal(str(self[key]))


def settings_of(section: type[Section]) -> dict[str, Field[Any]]:
    """Return the fields of a group that are settings, by name."""
    return {item.name: item for item in fields(cast(Any, section)) if not item.name.startswith("_")}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConfig(Section):
    """What rests on each side of the mid price."""

    levels: int = integer(3, 1, 50)
    quantity_per_order_usdt: float = positive(250, 10**9, " USDT")
    price_offset_percent: float = positive_below(0.1, 5, " percent")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshConfig(Section):
    """How often the quotes are renewed and the position is checked."""

    orderbook_refresh_interval: float = number(5, 0.5, 3600, " seconds")
    risk_check_interval: float = number(1, 0.1, 60, " seconds")
    refresh_mode: str = choice("amend", "amend", "replace")
    on_move: bool = switch(default=True)
    min_requote_interval_ms: int = integer(250, 0, 60_000, " milliseconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyConfig(Section):
    """Where a quote may rest, as fractions of the mid price (0.001 = 0.1 percent)."""

    min_spread: float = number(0, 0, 0.5, " of the mid price (0.001 = 0.1 percent)")
    max_spread: float = positive(0.2, 1, " of the mid price (0.001 = 0.1 percent)")
    target_orders_per_side: int = integer(3, 1, 50)
    """Another name of order_config.levels; always equal to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderManagementConfig(Section):
    """When an order is kept, amended, or replaced, and how our record of orders is kept clean."""

    modify_threshold: float = number(0.000025, 0, 0.1, " of the mid price (0.0001 = 0.01 percent)")
    max_modify_deviation: float = positive(0.01, 1, " of the mid price (0.01 = 1 percent)")
    patience_bps_s: float = number(4, 0, 10_000, " basis points times seconds")
    reset_interval: float = number(300, 0, 86_400, " seconds")
    max_pending_modifications: int = integer(10, 1, 1000)
    modification_timeout: float = number(5, 0.5, 60, " seconds")
    cleanup_interval: float = number(60, 1, 86_400, " seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionConfig(Section):
    """How requests leave."""

    modify_worker_count: int = integer(2, 1, 16)
    modify_rate_limit: float = positive(10, 100, " amend requests a second")
    order_transport: str = choice("ws", "rest", "ws")
    busy_poll: bool = switch(default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskConfig(Section):
    """Limits besides max_net_position_ratio. 0 means that a limit is off."""

    max_position: float = number(0, 0, 10**12, " of the base asset")
    max_order_count: int = integer(100, 1, 1000)
    max_daily_loss: float = number(100, 0, 10**12, " USDT")
    max_price_change: float = number(0.03, 0, 1, " (0.03 = 3 percent)")
    price_change_window_s: float = number(60, 1, 3600, " seconds")
    flatten_max_slippage_bps: float = number(50, 1, 1000, " bps of the price (50 = 0.5 percent)")
    flatten_deadline_s: float = number(5, 0, 300, " seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketDataConfig(Section):
    """What is listened to besides best bid and ask, and over how long it is measured."""

    depth: str = choice("none", "none", "top20", "diff")
    trades: bool = switch(default=True)
    significant_trade_quote: float = positive(100_000, 10**12, " USDT")
    significant_trade_interval_s: float = number(5, 0, 3600, " seconds")
    volatility_samples: int = integer(100, 2, 10_000)
    volatility_half_life_s: float = number(60, 1, 86_400, " seconds")
    flow_window_s: float = number(60, 1, 3600, " seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingConfig(Section):
    """What is written where."""

    log_to_csv: bool = switch(default=True)
    log_directory: str = folder("logs")
    log_level: str = choice("INFO", "DEBUG", "INFO", "WARNING", "ERROR")
    max_metrics_mb: int = integer(5000, 0, 10_000_000, " MB")


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyConfig(Section):
    """When quotes are pulled, how long things may take, how often a worker may fail."""

    max_book_age_ms: int = integer(3000, 200, 60_000, " milliseconds")
    dead_man_window_s: float = number(20, 5, 600, " seconds")
    dead_man_refresh_s: float = number(5, 0.5, 200, " seconds")
    request_timeout_s: float = number(3, 0.1, 30, " seconds")
    stop_timeout_s: float = number(4, 1, 60, " seconds")
    worker_restart_budget: int = integer(5, 0, 1000)
    worker_restart_window_s: float = number(60, 1, 3600, " seconds")
    position_drift_buffer_percent: float = number(2, 0, 50, " percent")
    max_loop_lag_ms: int = integer(1000, 50, 60_000, " milliseconds")
    max_memory_mb: int = integer(0, 0, 1_000_000, " MB")
    max_crashes_per_hour: int = integer(10, 0, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperConfig(Section):
    """The simulated exchange inside the process."""

    market: str = choice("synthetic", "synthetic", "recording", "live")
    recording: str = folder("", r"(?!~)[^\x00-\x1f\x7f]{0,1000}")
    speed: float = number(1, 0.01, 10_000, " times real time")
    seed: int = integer(1, 0, 2**63 - 1)
    latency_ms: float = number(5, 0, 5000, " milliseconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConfig(Section):
    """What real money needs."""

    max_capital_usdt: float = number(0, 0, 10**12, " USDT")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Config(Section):
    """All settings, checked. `get_config()` makes it; tests may also call it with the values they need.

    The names in capitals come from the environment or the .env file unless config.yaml has them too.
    """

    strategy_name: str = text(
        "passive_market_maker", r"[\w-]{1,64}", "a name of letters, digits, _ and - (up to 64)"
    )
    instance_id: str = text("mm1", r"[a-z0-9]{1,8}", "1 to 8 of the characters a-z and 0-9")
    symbol: str = text("BTCUSDT", r"[A-Z0-9_]{1,32}", "a symbol in capital letters like BTCUSDT")
    leverage: int = integer(5, 1, 125)
    initial_capital: float = positive(2000, 10**12, " USDT")
    max_net_position_ratio: float = positive(0.2, 1)
    state_directory: str = folder("state")
    status_interval: float = number(5, 1, 3600, " seconds")
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
    BINANCE_API_KEY: Secret = secret()  # noqa: RUF009 - gives a field, see _setting
    BINANCE_SECRET_KEY: Secret = secret()  # noqa: RUF009 - gives a field, see _setting
    EXCHANGE_ENV: str = choice("paper", "paper", "testnet", "live")
    LISTEN_KEY_REFRESH_INTERVAL: int = integer(1800, 60, 3500, " seconds")
    PAPER_URL: str = paper_url()

    _yaml_path: Path | None = field(default=None, compare=False)
    _env_path: Path | None = field(default=None, compare=False)
    _key_files: tuple[Path, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        # Not super(): a dataclass with slots is made anew, and super() would look for the first one.
        Section.__post_init__(self)
        settle_alias(self)
        check_together(self)

    def __repr__(self) -> str:
        return f"<Config yaml={self._yaml_path or 'none'} env={self._env_path or 'none'}>"

    @property
    def env_path(self) -> Path | None:
        """Return the environment file that was read; None if there was none."""
        return self._env_path

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
