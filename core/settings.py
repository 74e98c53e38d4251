"""The configuration, typed and exact: each part of the program receives its own frozen section.

``utils.config_loader`` has validated types and ranges already; here numbers become Decimals and names become words of
the field.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path

from utils.config_loader import Config, resolve_path
from utils.venue import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteSettings:
    """What one symbol's quotes shall look like."""

    symbol: str
    levels: int
    size_quote: Decimal
    offset_percent: Decimal
    refresh_interval_s: float
    refresh_mode: str
    min_spread: Decimal
    """Distance from the mid as a fraction of it; a quote nearer is not kept. Likewise ``max_spread``."""
    max_spread: Decimal
    on_move: bool
    min_requote_interval_ms: int
    # The fractions that every quote is compared with, exact and worked out once.
    min_spread_ratio: tuple[int, int] = field(init=False, repr=False, compare=False)
    max_spread_ratio: tuple[int, int] = field(init=False, repr=False, compare=False)
    offset_ratio: tuple[int, int] = field(init=False, repr=False, compare=False)
    """``offset_percent`` as a fraction of 1."""

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        put("min_spread_ratio", self.min_spread.as_integer_ratio())
        put("max_spread_ratio", self.max_spread.as_integer_ratio())
        put("offset_ratio", (Fraction(self.offset_percent) / 100).as_integer_ratio())


@dataclass(frozen=True, slots=True, kw_only=True)
class ManageSettings:
    """When an order is kept, amended or replaced; fractions are of the mid price."""

    modify_threshold: Decimal
    max_modify_deviation: Decimal
    patience_bps_s: float
    reset_interval_s: float
    """0 means never."""
    max_pending_modifications: int
    modification_timeout_s: float
    cleanup_interval_s: float
    threshold_ratio: tuple[int, int] = field(init=False, repr=False, compare=False)
    """``modify_threshold`` as an exact fraction; ``deviation_ratio`` is ``max_modify_deviation``."""
    deviation_ratio: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        put("threshold_ratio", self.modify_threshold.as_integer_ratio())
        put("deviation_ratio", self.max_modify_deviation.as_integer_ratio())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSettings:
    """How requests leave; ``modify_rate_limit`` is in amend requests a second."""

    modify_worker_count: int
    modify_rate_limit: float
    order_transport: str
    busy_poll: bool = False
    """Whether the event loop never sleeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskSettings:
    """How much may be held, and how often that is checked."""

    capital_quote: Decimal
    leverage: int
    max_net_position_ratio: Decimal
    check_interval_s: float
    drift_buffer_percent: Decimal
    max_position: Decimal = Decimal(0)
    """In the base asset; 0 means no limit beside the one below. Likewise 0 for the other limits."""
    max_order_count: int = 100
    max_daily_loss_quote: Decimal = Decimal(0)
    max_price_change: Decimal = Decimal(0)
    price_change_window_s: float = 60.0
    flatten_max_slippage_bps: Decimal = Decimal(50)
    """How much worse than the touch a closing order may be before the deadline, which counts from the first step."""
    flatten_deadline_s: float = 5.0
    position_limit_quote: Decimal = field(init=False, repr=False, compare=False)
    """The largest position allowed, as a notional in the quote asset."""

    def __post_init__(self) -> None:
        limit_quote = self.capital_quote * self.leverage * self.max_net_position_ratio
        object.__setattr__(self, "position_limit_quote", limit_quote)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketDataSettings:
    """What is listened to besides best bid and ask, and over how long it is measured."""

    depth: str
    trades: bool
    significant_trade_quote: Decimal
    significant_trade_interval_s: float
    """0 means that only large trades are significant."""
    volatility_samples: int
    volatility_half_life_s: float
    flow_window_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetySettings:
    """Bounds on waiting, staleness and restarts."""

    max_book_age_ms: int
    dead_man_window_s: float
    dead_man_refresh_s: float
    request_timeout_s: float
    stop_timeout_s: float
    restart_budget: int
    restart_window_s: float
    listen_key_refresh_s: float
    max_loop_lag_ms: int = 1000
    max_memory_mb: int = 0
    """0 means no bound."""
    max_crashes_per_hour: int = 10
    """0 means that none is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Where metrics and logs go."""

    log_to_csv: bool
    directory: Path
    level: str
    status_interval_s: float
    max_metrics_mb: int
    """0 means no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperSettings:
    """The market of the embedded simulated exchange."""

    market: str
    recording: str
    speed: Decimal
    seed: int
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a run is made of, except the keys."""

    environment: Environment
    paper_url: str
    """Where the simulated exchange is; empty for the embedded one, and for every real one."""
    instance_id: str
    strategy_name: str
    state_directory: Path
    live_max_capital_quote: Decimal
    quotes: tuple[QuoteSettings, ...]
    manage: ManageSettings
    execution: ExecutionSettings
    risk: RiskSettings
    market_data: MarketDataSettings
    safety: SafetySettings
    logs: LogSettings
    paper: PaperSettings

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols to be quoted."""
        return tuple(quotes.symbol for quotes in self.quotes)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Return the folders that are written to."""
        return tuple(dict.fromkeys((self.state_directory, self.logs.directory)))


def settings_from(config: Config) -> Settings:
    """Return the typed settings of a validated configuration."""
    environment = Environment(config.EXCHANGE_ENV)
    return Settings(
        environment=environment,
        paper_url=config.PAPER_URL if environment is Environment.PAPER else "",
        instance_id=config.instance_id,
        strategy_name=config.strategy_name,
        state_directory=resolve_path(config.state_directory),
        live_max_capital_quote=config.decimal("live.max_capital_usdt"),
        quotes=(_quotes(config),),
        manage=_manage(config),
        execution=_execution(config),
        risk=_risk(config),
        market_data=_market_data(config),
        safety=_safety(config),
        logs=_logs(config),
        paper=_paper(config),
    )


def _quotes(config: Config) -> QuoteSettings:
    return QuoteSettings(
        symbol=config.symbol,
        levels=config.order_config.levels,
        size_quote=config.decimal("order_config.quantity_per_order_usdt"),
        offset_percent=config.decimal("order_config.price_offset_percent"),
        refresh_interval_s=float(config.refresh_config.orderbook_refresh_interval),
        refresh_mode=config.refresh_config.refresh_mode,
        min_spread=config.decimal("strategy.min_spread"),
        max_spread=config.decimal("strategy.max_spread"),
        on_move=config.refresh_config.on_move,
        min_requote_interval_ms=config.refresh_config.min_requote_interval_ms,
    )


def _manage(config: Config) -> ManageSettings:
    management = config.order_management
    return ManageSettings(
        modify_threshold=config.decimal("order_management.modify_threshold"),
        max_modify_deviation=config.decimal("order_management.max_modify_deviation"),
        patience_bps_s=float(management.patience_bps_s),
        reset_interval_s=float(management.reset_interval),
        max_pending_modifications=management.max_pending_modifications,
        modification_timeout_s=float(management.modification_timeout),
        cleanup_interval_s=float(management.cleanup_interval),
    )


def _execution(config: Config) -> ExecutionSettings:
    execution = config.execution
    return ExecutionSettings(
        modify_worker_count=execution.modify_worker_count,
        modify_rate_limit=float(execution.modify_rate_limit),
        order_transport=execution.order_transport,
        busy_poll=execution.busy_poll,
    )


def _risk(config: Config) -> RiskSettings:
    return RiskSettings(
        capital_quote=config.decimal("initial_capital"),
        leverage=config.leverage,
        max_net_position_ratio=config.decimal("max_net_position_ratio"),
        check_interval_s=float(config.refresh_config.risk_check_interval),
        drift_buffer_percent=config.decimal("safety.position_drift_buffer_percent"),
        max_position=config.decimal("risk.max_position"),
        max_order_count=config.risk.max_order_count,
        max_daily_loss_quote=config.decimal("risk.max_daily_loss"),
        max_price_change=config.decimal("risk.max_price_change"),
        price_change_window_s=float(config.risk.price_change_window_s),
        flatten_max_slippage_bps=config.decimal("risk.flatten_max_slippage_bps"),
        flatten_deadline_s=float(config.risk.flatten_deadline_s),
    )


def _market_data(config: Config) -> MarketDataSettings:
    market = config.market_data
    return MarketDataSettings(
        depth=market.depth,
        trades=market.trades,
        significant_trade_quote=config.decimal("market_data.significant_trade_quote"),
        significant_trade_interval_s=float(market.significant_trade_interval_s),
        volatility_samples=market.volatility_samples,
        volatility_half_life_s=float(market.volatility_half_life_s),
        flow_window_s=float(market.flow_window_s),
    )


def _safety(config: Config) -> SafetySettings:
    safety = config.safety
    return SafetySettings(
        max_book_age_ms=int(safety.max_book_age_ms),
        dead_man_window_s=float(safety.dead_man_window_s),
        dead_man_refresh_s=float(safety.dead_man_refresh_s),
        request_timeout_s=float(safety.request_timeout_s),
        stop_timeout_s=float(safety.stop_timeout_s),
        restart_budget=safety.worker_restart_budget,
        restart_window_s=float(safety.worker_restart_window_s),
        listen_key_refresh_s=float(config.LISTEN_KEY_REFRESH_INTERVAL),
        max_loop_lag_ms=int(safety.max_loop_lag_ms),
        max_memory_mb=safety.max_memory_mb,
        max_crashes_per_hour=safety.max_crashes_per_hour,
    )


def _logs(config: Config) -> LogSettings:
    return LogSettings(
        log_to_csv=config.logging.log_to_csv,
        directory=resolve_path(config.logging.log_directory),
        level=config.logging.log_level,
        status_interval_s=float(config.status_interval),
        max_metrics_mb=config.logging.max_metrics_mb,
    )


def _paper(config: Config) -> PaperSettings:
    paper = config.paper
    return PaperSettings(
        market=paper.market,
        recording=paper.recording,
        speed=config.decimal("paper.speed"),
        seed=paper.seed,
        latency_ms=float(paper.latency_ms),
    )
