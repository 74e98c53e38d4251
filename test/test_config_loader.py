"""The settings: what loads, what is refused and in which words, and what never shows."""

import copy
import csv
import io
import json
import os
import pickle
import re
import subprocess
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from utils import config_loader
from utils.config_loader import (
    ENV_NAMES,
    PROJECT_ROOT,
    Config,
    ConfigLoaderError,
    OrderConfig,
    SafetyConfig,
    Secret,
    StrategyConfig,
    forget_keys,
    get_config,
    known_keys,
    main,
    resolve_path,
)

KEY = "k3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3y"

MVP_DOCUMENT = """
strategy_name: passive_market_maker
symbol: BTCUSDT
leverage: 5
initial_capital: 200
max_net_position_ratio: 0.2
order_config:
  levels: 3
  quantity_per_order_usdt: 10
  price_offset_percent: 0.1
refresh_config:
  orderbook_refresh_interval: 5
  risk_check_interval: 1
logging:
  log_to_csv: true
  log_directory: logs
  log_level: INFO
"""

Load = Callable[..., Config]


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENV_NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """A function that loads the two texts as the two files."""

    def load(yaml_text: str | bytes = "", env_text: str | bytes = "") -> Config:
        return get_config(_write(tmp_path / ".env", env_text), _write(tmp_path / "config.yaml", yaml_text))

    return load


def _write(file: Path, text: str | bytes) -> Path:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


# --- what loads


def test_config_has_every_default_when_yaml_is_empty(load: Load) -> None:
    """A key that is missing from the file gets its default."""
    for text in ("", "# only a comment\n", "{}", "order_config:\n"):
        assert load(text) == Config()


def test_shipped_config_says_the_defaults() -> None:
    """The shipped config.yaml changes nothing: it shows the defaults with comments."""
    assert get_config(os.devnull) == Config()


def test_defaults_are_the_documented_ones() -> None:
    """The values that others rely on."""
    config = Config()
    assert (config.symbol, config.leverage, config.initial_capital) == ("BTCUSDT", 5, 2000)
    assert config.max_net_position_ratio == 0.2
    assert config.order_config == OrderConfig(levels=3, quantity_per_order_usdt=250, price_offset_percent=0.1)
    assert (config.EXCHANGE_ENV, config.LISTEN_KEY_REFRESH_INTERVAL) == ("paper", 1800)
    assert (config.BINANCE_API_KEY, config.BINANCE_SECRET_KEY, config.PAPER_URL) == ("", "", "")
    assert config.live.max_capital_usdt == 0


def test_target_orders_per_side_is_another_name_of_levels(load: Load) -> None:
    """Whichever of the two names the file has, both read the same."""
    for text in ("strategy:\n  target_orders_per_side: 7\n", "order_config:\n  levels: 7\n"):
        config = load(text)
        assert (config.order_config.levels, config.strategy.target_orders_per_side) == (7, 7)


def test_small_fractions_may_be_written_with_an_exponent(load: Load) -> None:
    """YAML takes 8e-5 for a text; people do not. In quotes it is one."""
    assert load("order_management:\n  modify_threshold: 8e-5\n").order_management.modify_threshold == 0.00008
    with pytest.raises(ConfigLoaderError, match="modify_threshold must be a number"):
        load("order_management:\n  modify_threshold: '8e-5'\n")


def test_two_names_of_one_setting_may_not_differ(load: Load) -> None:
    """Also where one of the two says the default: nobody could tell which was meant."""
    with pytest.raises(ConfigLoaderError, match=r"line 4: .*two names of one setting.*remove one of them"):
        load("order_config:\n  levels: 3\nstrategy:\n  target_orders_per_side: 7\n")
    with pytest.raises(ConfigLoaderError, match="two names of one setting"):
        Config(order_config=OrderConfig(levels=4), strategy=StrategyConfig(target_orders_per_side=7))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strategy:\n  min_spread: 0.3\n", "strategy.min_spread .* must be below strategy.max_spread"),
        ("order_management:\n  modify_threshold: 0.02\n", "modify_threshold .* must be below"),
    ],
)
def test_bounds_that_exclude_every_quote_are_refused(load: Load, text: str, message: str) -> None:
    """A nearest that is not nearer than the farthest leaves no room."""
    with pytest.raises(ConfigLoaderError, match=message):
        load(text)


def test_values_of_the_mvp_document_load(load: Load) -> None:
    """Too small for the exchange, which is not for the loader to say."""
    config = load(MVP_DOCUMENT)
    assert config.initial_capital == 200
    assert config.order_config.quantity_per_order_usdt == 10


def test_config_gives_a_value_by_attribute_item_and_get() -> None:
    """All three ways lead to the same value, at every level."""
    config = Config()
    assert config.order_config.levels == config["order_config"]["levels"] == 3
    assert config.get("order_config").get("levels") == config["order_config.levels"] == 3
    assert config.get("nothing") is None
    assert config.order_config.get("nothing", 7) == 7
    assert "symbol" in config
    assert "nothing" not in config


@pytest.mark.parametrize("key", ["nothing", "order_config.nothing", "symbol.nothing", "_yaml_path", "", "."])
def test_item_raises_key_error_when_the_key_is_unknown(key: str) -> None:
    """Item access fails as that of a dict does."""
    with pytest.raises(KeyError):
        Config()[key]


def test_section_is_a_mapping_of_its_settings() -> None:
    """Sections can be turned into dicts; private fields are no settings."""
    assert dict(OrderConfig()) == {"levels": 3, "quantity_per_order_usdt": 250, "price_offset_percent": 0.1}
    assert len(OrderConfig()) == 3
    assert not [name for name in Config() if name.startswith("_")]


def test_config_is_read_only_at_every_level() -> None:
    """Nothing can be assigned, added or removed."""
    config: Any = Config()
    for target in (config, config.order_config):
        name = next(iter(target))
        with pytest.raises(FrozenInstanceError):
            setattr(target, name, 1)
        with pytest.raises(FrozenInstanceError):
            delattr(target, name)
        with pytest.raises(TypeError):
            target[name] = 1
        with pytest.raises((FrozenInstanceError, TypeError)):
            target.new_name = 1


def test_decimal_has_the_digits_of_the_file(load: Load) -> None:
    """Money is calculated with what was written, not with its nearest binary fraction."""
    config = load("order_config:\n  price_offset_percent: 0.1\ninitial_capital: 200\n")
    assert config.order_config.decimal("price_offset_percent") == Decimal("0.1")
    assert str(config.decimal("initial_capital")) == "200"
    assert config.decimal("order_config.price_offset_percent") == Decimal("0.1")


def test_config_made_in_code_is_checked_too() -> None:
    """No way leads around the rules."""
    with pytest.raises(ConfigLoaderError, match="levels must be a whole number from 1 to 50, not 51"):
        OrderConfig(levels=51)
    with pytest.raises(ConfigLoaderError, match="symbol must be"):
        Config(symbol="btc")
    with pytest.raises(ConfigLoaderError, match="dead_man_window_s"):
        Config(safety=SafetyConfig(dead_man_window_s=5))


def test_relative_folder_starts_at_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder a program is started from does not decide where its logs go."""
    monkeypatch.chdir(tmp_path)
    assert Config().path("logging.log_directory") == PROJECT_ROOT / "logs"
    assert resolve_path(tmp_path) == tmp_path
    assert Path(__file__).resolve().parents[1] == PROJECT_ROOT


# --- what is refused


REFUSED = {
    "unknown at the top": ("symbl: BTCUSDT", "line 1: unknown key symbl; the nearest known key is symbol."),
    "unknown in a section": (
        "order_config:\n  levls: 3",
        "line 2: unknown key order_config.levls; the nearest known key is order_config.levels.",
    ),
    "known elsewhere": ("levels: 3", "unknown key levels; the nearest known key is order_config.levels."),
    "unknown section": (
        "refresh:\n  a: 1",
        "unknown key refresh; the nearest known key is refresh_config.refresh_mode.",
    ),
    "a private name": ("_yaml_path: x", "unknown key _yaml_path;"),
    "a dotted key": (
        "order_config.levels: 3",
        "unknown key order_config.levels; the nearest known key is order_",
    ),
    "a key with spaces": ("my secret text: 1", "line 1: a key here is not the name of a setting"),
    "a key that is a list": ("[1, 2]: 3", "line 1: a key here is not the name of a setting"),
    "twice at the top": ("symbol: BTCUSDT\nsymbol: ETHUSDT", "line 2: symbol is there twice"),
    "twice in a section": (
        "live:\n  max_capital_usdt: 0\n  max_capital_usdt: 9",
        "live.max_capital_usdt is there",
    ),
    "text for a whole number": (
        "leverage: five",
        "leverage must be a whole number from 1 to 125, not 'five'.",
    ),
    "quoted number": ('leverage: "5"', "leverage must be a whole number from 1 to 125, not '5'."),
    "fraction for a whole number": ("leverage: 5.0", "leverage must be a whole number"),
    "switch for a whole number": ("leverage: true", "not the switch true."),
    "switch for a number": ("initial_capital: yes", "not the switch true."),
    "number for a switch": ("logging:\n  log_to_csv: 1", "logging.log_to_csv must be true or false, not 1."),
    "number for a text": (
        "symbol: 1000",
        "symbol must be a symbol in capital letters like BTCUSDT, not 1000.",
    ),
    "no value": ("symbol:", "symbol must be a symbol in capital letters like BTCUSDT, not empty."),
    "list for a value": ("leverage: [5]", "not a list."),
    "section for a value": ("leverage: {a: 5}", "not a section."),
    "value for a section": ("order_config: 3", "order_config must be keys with values"),
    "list for a section": ("order_config: [levels]", "order_config must be keys with values"),
    "below the range": ("leverage: 0", "leverage must be a whole number from 1 to 125, not 0."),
    "above the range": ("leverage: 126", "not 126."),
    "not above zero": ("initial_capital: 0", "a number above 0 and up to 1000000000000 USDT, not 0."),
    "offset of its limit": ("order_config: {price_offset_percent: 5}", "above 0 and below 5 percent, not 5."),
    "not a number": ("initial_capital: .nan", "not '.nan'."),
    "infinite": ("initial_capital: -.inf", "not '-.inf'."),
    "infinite by its exponent": ("initial_capital: 1.0e+999", "not inf."),
    "octal": ("leverage: 010", "not '010'."),
    "sexagesimal": ("status_interval: 1:30", "not '1:30'."),
    "more digits than anyone needs": (f"leverage: {'9' * 5000}", "not '9999"),
    "a date": ("status_interval: 2024-07-18", "not '2024-07-18'."),
    "switch that is none": ("logging: {log_to_csv: !!bool maybe}", "not 'maybe'."),
    "not one of the choices": (
        "logging:\n  log_level: LOUD",
        "one of: DEBUG, INFO, WARNING, ERROR, not 'LOUD'.",
    ),
    "instance id": ("instance_id: MM_1", "1 to 8 of the characters a-z and 0-9, not 'MM_1'."),
    "home folder": ("state_directory: ~/state", "written out without ~, not '~/state'."),
    "empty folder": ('state_directory: ""', "state_directory must be the path of a folder"),
    "longer than a message": (f"symbol: {'A' * 500}", "not 'AAAAAAAAAAAAAAAAAAAAAAAAAAA...."),
    "dead-man switch": (
        "safety: {dead_man_window_s: 20, dead_man_refresh_s: 7}",
        "safety.dead_man_refresh_s (7) must be at most a third of safety.dead_man_window_s (20)",
    ),
    "live market at another speed": ("paper: {market: live, speed: 2}", "paper.speed (2) must be 1"),
    "recording without a folder": ("paper: {market: recording}", "paper.recording must name the folder"),
    "a list as the file": ("- symbol", "line 1: the file must hold keys with values"),
    "a text as the file": ("symbol", "the file must hold keys with values"),
    "tab": ("order_config:\n\tlevels: 3", "line 2 is not valid YAML: found character '\\t'"),
    "open bracket": ("symbol: [", "line 1 is not valid YAML"),
    "two documents": (
        "symbol: BTCUSDT\n---\nsymbol: ETHUSDT",
        "line 2 is not valid YAML: but found another document",
    ),
    "anchor": ("order_config: &a {levels: 3}", "anchors (&) and aliases (*) are not supported"),
    "alias": ("symbol: *a", "anchors (&) and aliases (*) are not supported"),
    "merge": ("order_config: {<<: {levels: 3}}", "a key here is not the name of a setting"),
    "control character": ("symbol: \x07", "holds a control character"),
    "too deep": ("symbol: " + "[" * 5000, "is nested too deeply"),
    "too large an escape": ('symbol: "\\UFFFFFFFF"', "a number in a directive or an escape is too large"),
    "not UTF-8": (b"symbol: BTCUSDT\nlogging: \xff", "line 2 is not UTF-8 text"),
    "larger than settings are": ("#" * 1_000_001, "is larger than 1000000 bytes"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_yaml_is_refused_with_one_sentence(load: Load, text: str | bytes, message: str) -> None:
    """Whatever is wrong is said in one line, with the place and what would be right."""
    with pytest.raises(ConfigLoaderError) as caught:
        load(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("key", known_keys())
@pytest.mark.parametrize("value", ["[]", "{}", "", "-1", '"\\n"'])
def test_every_key_refuses_what_fits_no_key(load: Load, key: str, value: str) -> None:
    """Each key has a rule, and its message says the full path of the key."""
    section, _, name = key.rpartition(".")
    with pytest.raises(ConfigLoaderError, match=re.escape(f"{key} must be ")):
        load(f"{section}:\n  {name}: {value}\n" if section else f"{name}: {value}\n")


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("leverage", 1, 125),
        ("order_config.levels", 1, 50),
        ("refresh_config.orderbook_refresh_interval", 0.5, 3600),
        ("refresh_config.risk_check_interval", 0.1, 60),
        ("safety.max_book_age_ms", 200, 60000),
        ("safety.request_timeout_s", 0.1, 30),
        ("safety.stop_timeout_s", 1, 60),
        ("safety.position_drift_buffer_percent", 0, 50),
        ("paper.speed", 0.01, 10000),
        ("paper.latency_ms", 0, 5000),
        ("status_interval", 1, 3600),
        ("LISTEN_KEY_REFRESH_INTERVAL", 60, 3500),
    ],
)
def test_range_ends_where_the_documentation_says(load: Load, key: str, low: float, high: float) -> None:
    """Both ends are accepted, and nothing beyond them."""
    section, _, name = key.rpartition(".")
    text = f"{section}: {{{name}: %s}}" if section else f"{name}: %s"
    for value in (low, high):
        assert load(text % value)[key] == value
    for value in (low - 1, high + 1):
        with pytest.raises(ConfigLoaderError):
            load(text % value)


def test_longest_dead_man_window_allows_a_third_of_it(load: Load) -> None:
    """The two rules of the dead-man switch fit together at both ends."""
    assert load("safety: {dead_man_window_s: 600, dead_man_refresh_s: 200}").safety.dead_man_window_s == 600
    assert load("safety: {dead_man_window_s: 5, dead_man_refresh_s: 1}").safety.dead_man_window_s == 5


# --- .env and the environment


def test_env_file_sets_its_names(load: Load) -> None:
    """Quotes, export and comments are as everywhere."""
    config = load(
        env_text=f"# mine\nexport EXCHANGE_ENV='testnet'\n\nBINANCE_API_KEY={KEY} # key\nFOREIGN=1\n"
    )
    assert config.EXCHANGE_ENV == "testnet"
    assert config.BINANCE_API_KEY == KEY


def test_process_environment_wins_over_the_env_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set for one start is meant for it."""
    monkeypatch.setenv("LISTEN_KEY_REFRESH_INTERVAL", "900")
    assert load(env_text="LISTEN_KEY_REFRESH_INTERVAL=600\n").LISTEN_KEY_REFRESH_INTERVAL == 900


def test_yaml_wins_over_the_environment(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Precedence is yaml, then environment, then default."""
    monkeypatch.setenv("EXCHANGE_ENV", "live")
    assert load("EXCHANGE_ENV: testnet\n", "EXCHANGE_ENV=paper\n").EXCHANGE_ENV == "testnet"


def test_empty_variable_counts_as_not_set(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty value leaves the decision to the next in line."""
    for name in ENV_NAMES:
        monkeypatch.setenv(name, "")
    assert load(env_text="EXCHANGE_ENV=testnet\nPAPER_URL=\n").EXCHANGE_ENV == "testnet"
    assert load() == Config()


def test_loading_leaves_the_environment_alone(load: Load) -> None:
    """Secrets of the file do not reach child processes."""
    before = dict(os.environ)
    load(env_text=f"BINANCE_API_KEY={KEY}\n")
    assert dict(os.environ) == before


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:65535"])
def test_paper_url_is_accepted_on_this_machine(load: Load, url: str) -> None:
    """A closing slash makes no difference."""
    assert (
        load(env_text=f"PAPER_URL={url}/\n").PAPER_URL == load(env_text=f"PAPER_URL={url}\n").PAPER_URL == url
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:8080",
        "http://127.0.0.1",
        "http://127.0.0.1:65536",
        "http://127.0.0.1:0",
        "http://127.0.0.1:80/path",
        "http://127.0.0.1.example.com:80",
        "http://user@127.0.0.1:80",
        "http://127.0.0.1:80@example.com",
        "http://fapi.binance.com:80",
        "ws://127.0.0.1:80",
    ],
)
def test_paper_url_is_refused_anywhere_else(load: Load, url: str) -> None:
    """Simulated keys and orders never leave the machine."""
    with pytest.raises(
        ConfigLoaderError, match=r"line 1: PAPER_URL must be the address of a simulated exchange"
    ):
        load(env_text=f"PAPER_URL={url}\n")


ENV_REFUSED = {
    "no name=value": ("A=1\n\n\n=x\n", "line 4 must have the form NAME=value"),
    "no equals": ("EXCHANGE_ENV\n", "line 1 must have the form NAME=value"),
    "open quote": ("BINANCE_API_KEY='abc\n", "line 1 must have the form NAME=value"),
    "twice": ("EXCHANGE_ENV=paper\nEXCHANGE_ENV=live\n", "line 2: EXCHANGE_ENV is there twice"),
    "misspelled": (
        "BINANCE_APIKEY=abc\n",
        "unknown name BINANCE_APIKEY; the nearest known name is BINANCE_API_KEY.",
    ),
    "lower case": (
        "exchange_env=live\n",
        "unknown name exchange_env; the nearest known name is EXCHANGE_ENV.",
    ),
    "environment": (
        "EXCHANGE_ENV=mainnet\n",
        "EXCHANGE_ENV must be one of: paper, testnet, live, not 'mainnet'.",
    ),
    "interval": ("LISTEN_KEY_REFRESH_INTERVAL=30m\n", "a whole number from 60 to 3500 seconds, not '30m'."),
    "fraction": ("LISTEN_KEY_REFRESH_INTERVAL=90.5\n", "a whole number from 60 to 3500 seconds, not 90.5."),
    "not UTF-8": (b"EXCHANGE_ENV=\xff\n", "line 1 is not UTF-8 text"),
}


@pytest.mark.parametrize(("text", "message"), ENV_REFUSED.values(), ids=ENV_REFUSED.keys())
def test_env_file_is_refused_with_one_sentence(load: Load, text: str | bytes, message: str) -> None:
    """The .env file is as strict with our names as config.yaml is."""
    with pytest.raises(ConfigLoaderError) as caught:
        load(env_text=text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_variable_is_refused_with_its_origin(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value from the process environment is not blamed on a file."""
    monkeypatch.setenv("EXCHANGE_ENV", "LIVE")
    with pytest.raises(ConfigLoaderError, match=r"^the environment: EXCHANGE_ENV must be one of"):
        load()


# --- files


def test_missing_file_is_refused_when_it_was_named(tmp_path: Path) -> None:
    """A path that somebody gave has to be right."""
    there = _write(tmp_path / "there", "")
    missing = tmp_path / "missing"
    for paths in (
        (missing, there),
        (there, missing),
        (there, tmp_path),
        (there, "nul\0character"),
        ("", there),
    ):
        with pytest.raises(ConfigLoaderError, match="cannot be read"):
            get_config(*paths)


def test_default_files_are_those_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The .env file may be missing there; config.yaml may not."""
    monkeypatch.setattr(config_loader, "PROJECT_ROOT", tmp_path)
    with pytest.raises(ConfigLoaderError, match=r"config\.yaml cannot be read"):
        get_config()
    _write(tmp_path / "config.yaml", "leverage: 2\n")
    assert get_config().leverage == 2
    assert repr(get_config()) == f"<Config yaml={tmp_path / 'config.yaml'} env=none>"
    _write(tmp_path / ".env", "EXCHANGE_ENV=testnet\n")
    assert get_config().EXCHANGE_ENV == "testnet"


def test_byte_order_mark_is_skipped(load: Load) -> None:
    """Editors of other systems may save it."""
    assert load(b"\xef\xbb\xbfleverage: 2\r\n", b"\xef\xbb\xbfEXCHANGE_ENV=testnet\r\n").leverage == 2


# --- secrets


def test_secret_shows_only_its_mask() -> None:
    """No way of turning it into text shows it, except reveal."""
    secret = Secret(KEY)
    table = io.StringIO()
    csv.writer(table).writerow([secret])
    ways = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        "%s %r" % (secret, secret),  # noqa: UP031 - as logging does it
        ",".join([*ENV_NAMES, secret]),
    ]
    ways += [secret + "", secret[:], json.dumps([secret]), table.getvalue(), str([secret]), secret.upper()]
    ways += [secret.encode().decode(), str({secret: secret}), format(secret, ">9")]
    assert [way for way in ways if KEY[:8].lower() in way.lower()] == []
    assert all("***" in way for way in ways)
    assert secret.reveal() == KEY


def test_secret_equals_its_plain_text() -> None:
    """Comparison and hash are those of the text."""
    assert Secret(KEY) == KEY == Secret(KEY)
    assert Secret(KEY) != "***"
    assert Secret(KEY) != 5
    assert Secret(KEY) in {KEY}
    assert repr(Secret("")) == "''"
    assert not Secret("")


def test_secret_is_copied_but_never_pickled() -> None:
    """A copy stays masked; a pickle would be a file with the key in it."""
    secret = Secret(KEY)
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_config_never_shows_a_secret(load: Load) -> None:
    """Neither its repr nor those of its values hold a key."""
    config = load(env_text=f"BINANCE_API_KEY={KEY}\nBINANCE_SECRET_KEY={KEY[::-1]}\n")
    shown = f"{config!r} {config} {dict(config)} {list(config.values())}"
    assert KEY not in shown
    assert KEY[::-1] not in shown
    assert re.fullmatch(r"<Config yaml=\S+config\.yaml env=\S+\.env>", repr(config))


@pytest.mark.parametrize(
    ("yaml_text", "env_text"),
    [
        ("", f"BINANCE_API_KEY='{KEY} {KEY}'\n"),
        (f"BINANCE_SECRET_KEY: [{KEY}]\n", ""),
        (f"BINANCE_SECRET_KEY: '{KEY} x'\n", ""),
        (f"{KEY}{KEY}: 1\n", ""),
        (f"BINANCE_API_KEY={KEY}\n", ""),
        ("", f"{KEY}\n"),
        ("", f"PAPER_URL=http://{KEY}@127.0.0.1:80\n"),
        ("", f"BINANCE_API_KEY='{KEY}\n"),
    ],
)
def test_message_never_shows_a_secret(load: Load, yaml_text: str, env_text: str) -> None:
    """What is refused may be a key in the wrong place."""
    with pytest.raises(ConfigLoaderError) as caught:
        load(yaml_text, env_text)
    assert KEY not in str(caught.value)


# --- the command line, in this process (test_cli_scripts.py runs it as a program)


def test_command_line_prints_that_the_settings_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files may be given by place or by name."""
    env, settings = _write(tmp_path / "e", ""), _write(tmp_path / "y", "")
    for arguments in ([env, settings], ["--env", env, "--config", settings], [env, "--config", settings]):
        assert main([str(argument) for argument in arguments]) == 0
        assert capsys.readouterr().out == f"配置加载成功！ <Config yaml={settings} env={env}>\n"


@pytest.mark.parametrize(
    "arguments",
    [["--what"], ["a", "b", "c"], ["a", "--env", "b"], ["/dev/null", "a", "--config", "b"], ["/nowhere"]],
)
def test_command_line_says_in_one_line_what_is_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one sentence on stderr, nothing on stdout."""
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1


# --- whatever comes


def _loads_or_refuses(yaml_text: bytes, env_text: bytes, folder: Path) -> None:
    try:
        config = get_config(_write(folder / ".env", env_text), _write(folder / "config.yaml", yaml_text))
    except ConfigLoaderError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most inputs are refused, some load
    else:
        assert isinstance(config, Config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples."""
    return tmp_path_factory.mktemp("fuzz")


YAML_PIECES = st.sampled_from(
    [
        *known_keys(),
        *"-:?,[]{}#&*!|>'\"%@`\n\t ~=",
        *(
            ": ",
            "\n  ",
            "- ",
            "<<: ",
            "---\n",
            "...\n",
            "%YAML ",
            "%TAG ! ",
            '"\\U',
            "\\x",
            "\ufeff",
            "99999999",
        ),
        *(
            f"!!{tag} "
            for tag in ("int", "float", "bool", "null", "timestamp", "binary", "set", "python/name:os")
        ),
    ]
)


@given(
    st.one_of(st.binary(max_size=200), st.lists(YAML_PIECES, max_size=20).map(lambda p: "".join(p).encode()))
)
@example(b'"\\UFFFFFFFF"')
@example(b"%YAML " + b"9" * 5000 + b".1\n---\n")
@example(b"&a [*a]")
@example(b"? ")
def test_any_bytes_as_yaml_load_or_are_refused(folder: Path, content: bytes) -> None:
    """No input ends in another exception."""
    _loads_or_refuses(content, b"", folder)


ENV_PIECES = st.sampled_from(
    [*ENV_NAMES, *"='\"\\#\n\r\t ${}", "export ", "1800", "http://127.0.0.1:1", "\0", "é"]
)


@given(
    st.one_of(st.binary(max_size=200), st.lists(ENV_PIECES, max_size=20).map(lambda p: "".join(p).encode()))
)
def test_any_bytes_as_env_file_load_or_are_refused(folder: Path, content: bytes) -> None:
    """No input ends in another exception."""
    _loads_or_refuses(b"", content, folder)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=10),
    st.dates(),
    st.binary(max_size=5),
)
NAMES = st.one_of(
    st.sampled_from([key.rpartition(".")[2] for key in known_keys()]), st.sampled_from(list(Config()))
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(NAMES, SCALARS), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_any_structure_loads_or_is_refused(folder: Path, tree: dict[str, object]) -> None:
    """Well-formed YAML of any shape and type ends in a Config or in one sentence."""
    _loads_or_refuses(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"), b"", folder)


@given(st.floats(min_value=0.001, max_value=4.999).map(lambda value: round(value, 6)))
def test_accepted_number_comes_back_exactly(folder: Path, value: float) -> None:
    """What was written is what is calculated with."""
    text = f"{value:.6f}"
    file = _write(folder / "number.yaml", f"order_config:\n  price_offset_percent: {text}\n")
    assert get_config(os.devnull, file).order_config.decimal("price_offset_percent") == Decimal(text)


# --- where the keys are


def test_files_that_hold_a_key_are_known(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either file may; what is in the environment alone is in neither."""

    def names(env_text: str, yaml_text: str) -> list[str]:
        return [path.name for path in load(yaml_text, env_text).key_files]

    key, secret = f"BINANCE_API_KEY={KEY}\n", f"BINANCE_SECRET_KEY: {KEY}\n"
    assert names(key, "") == [".env"]
    assert names("BINANCE_API_KEY=\n", secret) == ["config.yaml"]
    assert names(key, secret) == [".env", "config.yaml"]
    monkeypatch.setenv("BINANCE_API_KEY", KEY)
    assert names("", "") == []


def test_keys_are_taken_out_of_the_environment(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """After they were read, no child process inherits them; the rest stays."""
    for name in ENV_NAMES:
        monkeypatch.setenv(
            name, {"EXCHANGE_ENV": "paper", "LISTEN_KEY_REFRESH_INTERVAL": "600"}.get(name, "")
        )
    monkeypatch.setenv("BINANCE_API_KEY", KEY)
    monkeypatch.setenv("BINANCE_SECRET_KEY", KEY[::-1])
    config = load()
    forget_keys()
    assert (KEY, KEY[::-1]) == (config.BINANCE_API_KEY, config.BINANCE_SECRET_KEY)
    seen = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    assert "LISTEN_KEY_REFRESH_INTERVAL=600" in seen
    assert KEY not in seen
    assert KEY[::-1] not in seen
