"""What settings have to be to each other; each by itself is checked by its rule."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from utils.config_rules import ConfigLoaderError

if TYPE_CHECKING:
    from utils.config_sections import Config

TWO_LEVELS = (
    "order_config.levels and strategy.target_orders_per_side are two names of one setting "
    "and differ here: remove one of them."
)


def settle_alias(config: Config) -> None:
    """Have the two names for the number of orders a side say the same, whichever of them was set."""
    unset = type(config.strategy)().target_orders_per_side
    levels, target = config.order_config.levels, config.strategy.target_orders_per_side
    if levels == unset:
        object.__setattr__(config, "order_config", replace(config.order_config, levels=target))
    elif target == unset:
        object.__setattr__(config, "strategy", replace(config.strategy, target_orders_per_side=levels))
    elif levels != target:
        raise ConfigLoaderError(TWO_LEVELS)


def check_together(config: Config) -> None:
    """Raise ConfigLoaderError if settings that are right by themselves do not fit together."""
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
