"""Secrets are masked whoever writes them, in whole and in part; nothing else is."""

import ast
import random
import string
from pathlib import Path

import pytest

from utils.redaction import MASK, Redactor
from utils.secret import Secret

ROOT = Path(__file__).resolve().parents[1]
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
LISTEN_KEY = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"
SIGNATURE = "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"


@pytest.mark.parametrize(
    "line",
    [
        f"/fapi/v1/order?symbol=BTCUSDT&signature={SIGNATURE}",
        f"signature={SIGNATURE}&timestamp=1",
        "signature=abc%2Fdef%3D",
        f"/private/ws?listenKey={LISTEN_KEY}&events=ORDER_TRADE_UPDATE",
        f'{{"listenKey": "{LISTEN_KEY}"}}',
        f"{{'listenKey': '{LISTEN_KEY}'}}",
        f'{{"e":"listenKeyExpired","listenKey":"{LISTEN_KEY}"}}',
        f"Signature: {SIGNATURE}",
        f"apiKey : {KEY[:40]}",
        f"{{'X-MBX-APIKEY': '{KEY}'}}",
        f"<CIMultiDict('Host': 'fapi.binance.com', 'X-MBX-APIKEY': '{KEY}')>",
        f"('X-MBX-APIKEY', '{KEY}')",
        f"(b'X-MBX-APIKEY', b'{KEY}')",
        f'{{"method":"order.place","params":{{"apiKey":"{KEY[:40]}"}}}}',
        f"the reply was {LISTEN_KEY}",
    ],
)
def test_signatures_and_listen_keys_are_masked_though_nobody_named_them(line: str) -> None:
    """They are made during the run."""
    text = Redactor().redact(line)
    assert "***" in text
    assert not any(canary in text for canary in (SIGNATURE, LISTEN_KEY, KEY[:40], "abc%2Fdef"))


def test_text_without_secrets_is_left_as_it_is() -> None:
    """Nothing is masked by mistake, and no empty or tiny secret eats the text."""
    redactor = Redactor()
    for secret in ("", "a", "abc", "long enough"):
        redactor.learn(secret)
    for line in (
        "a listenKey expired; abc; order qpmm-mm1-1 cancelled",
        "POST /fapi/v1/listenKey: no answer",
        "signature: wrong, apiKey: unknown",
    ):
        assert redactor.redact(line) == line


def test_fragments_of_a_secret_are_masked_wherever_they_begin_and_end(seed: int) -> None:
    """An error text that was cut off, or a line that was wrapped, gives nothing of six characters away."""
    rng = random.Random(seed)
    secret = "".join(rng.choices(string.ascii_letters, k=64))
    redactor = Redactor()
    redactor.learn(Secret(secret))
    for start in range(len(secret)):
        for end in range(start + 6, len(secret) + 1):
            shown = redactor.redact(f"refused <{secret[start:end]}> and {secret[end : end + 5]}")
            assert not any(secret[at : at + 6] in shown for at in range(59)), (start, end)
            assert shown.startswith(f"refused <{MASK}> and ")


def test_short_secret_is_masked_as_a_whole_only() -> None:
    """Of a made-up key like paper-key the parts are words of every other line."""
    redactor = Redactor()
    redactor.learn("paper-key")
    assert redactor.redact("paper-key of paper trading") == "*** of paper trading"


def test_secret_is_masked_in_the_form_that_a_url_has_it_in() -> None:
    """A secret may hold characters that are escaped there."""
    redactor = Redactor()
    redactor.learn("a+b/c=&d")
    assert redactor.redact("x=a%2Bb%2Fc%3D%26d or a+b/c=&d") == "x=*** or ***"


def test_of_what_is_minted_only_the_newest_are_remembered() -> None:
    """A run of a year mints listen keys without end."""
    redactor = Redactor()
    for number in range(Redactor.MOST_MINTED + 1):
        redactor.learn_minted(f"minted-{number:02d}")
    redactor.learn("known-key")
    oldest, newest = "minted-00", f"minted-{Redactor.MOST_MINTED:02d}"
    assert redactor.redact(f"{oldest} {newest} known-key") == f"{oldest} *** ***"


def test_only_signing_and_redaction_reveal_a_secret() -> None:
    """Whoever else wants the plain text has to come by here."""
    homes = {"utils/config_rules.py", "utils/signing.py", "utils/redaction.py"}
    parts = (".", "core", "utils", "sim", "demo")
    sources = [path for part in parts for path in (ROOT / part).glob("*.py")]
    revealing = {
        str(path.relative_to(ROOT))
        for path in sources
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "reveal"
    }
    assert revealing == homes


def test_text_that_was_harmless_is_masked_once_its_secret_is_known() -> None:
    """What was found to hold no secret is looked at again after each that is learned."""
    redactor = Redactor()
    line = "login of mallory.42 refused"
    assert redactor.redact(line) == redactor.redact(line) == line
    redactor.learn("mallory.42")
    assert redactor.redact(line) == f"login of {MASK} refused"
