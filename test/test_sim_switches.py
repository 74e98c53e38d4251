"""The exchange's options can be set by name, wrong ones are refused in a sentence, and all are documented."""

import re
from decimal import Decimal
from enum import Enum
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sim.cli import _parser, main
from sim.deployment import Deployment
from sim.keys import KeyKind
from sim.matching import Thinning
from sim.orders import StpMode
from sim.switches import SwitchError, read_switches, switch_names
from sim.venue import Options

DOCUMENT = Path(__file__).parents[1] / "docs" / "switches.md"
ROW = re.compile(r"^\| `([a-z_.]+)` \| `([^`]+)` \| \S", re.M)


def text_of(value: object) -> str:
    """Return a default as it stands in the document."""
    if isinstance(value, Enum):
        return str(value.value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_switch_is_documented_with_its_default() -> None:
    """docs/switches.md and the code agree."""
    documented = dict(ROW.findall(DOCUMENT.read_text(encoding="utf-8")))
    assert documented == {name: text_of(value) for name, value in switch_names().items()}


def test_switches_are_read_by_the_kind_of_their_default() -> None:
    """Words, numbers, amounts, flags, in groups too; what is not named stays."""
    options = read_switches(
        [
            "deployment=demo",
            "thinning=proportional",
            "default_stp=NONE",
            "leverage=5",
            "hedge_mode=true",
            "funding_rate=-0.0002",
            "fees.tier=3",
            "fees.bnb=1.5",
            "limits.patience=2",
        ]
    )
    assert (options.deployment, options.thinning) == (Deployment.DEMO, Thinning.PROPORTIONAL)
    assert (options.default_stp, options.leverage, options.hedge_mode) == (StpMode.NONE, 5, True)
    assert (options.funding_rate, options.fees.tier, options.fees.bnb) == (
        Decimal("-0.0002"),
        3,
        Decimal("1.5"),
    )
    assert options.limits is not None
    assert (options.limits.patience, options.limits.weight_per_minute) == (2, 2400)
    assert read_switches([]) == Options()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("deployment", "deployment is no switch: write NAME=VALUE"),
        ("deploymant=demo", "there is no switch deploymant: do you mean deployment?"),
        ("xyz=1", "there is no switch xyz: docs/switches.md lists them"),
        ("fees=1", "there is no switch fees: "),
        ("deployment=moon", "moon does not fit the switch deployment: use mainnet, demo"),
        ("hedge_mode=yes", "yes does not fit the switch hedge_mode: use true or false"),
        ("leverage=x", "x does not fit the switch leverage: use a whole number"),
        ("leverage=0", "0 does not fit the switch leverage: leverage is at least 1"),
        ("funding_rate=NaN", "NaN does not fit the switch funding_rate: use a number"),
        ("fees.tier=11", "11 does not fit the switch fees.tier: there is no fee tier 11: 0 to 9"),
        ("amend_of_ended_code=-1", "-1 does not fit the switch amend_of_ended_code: "),
        ("hedge_reduce_only_code=1", "1 does not fit the switch hedge_reduce_only_code: "),
        ("halted_order_code=-1", "-1 does not fit the switch halted_order_code: it is one of -1122, -4140"),
        ("conduct.window_ms=0", "0 does not fit the switch conduct.window_ms: "),
    ],
)
def test_wrong_switch_is_refused_in_a_sentence(pair: str, message: str) -> None:
    """What is wrong, and what to do."""
    with pytest.raises(SwitchError) as caught:
        read_switches([pair])
    assert str(caught.value).startswith(message)


def test_public_key_is_read_from_its_file(tmp_path: Path) -> None:
    """The name before the sign is the API key, the file holds the PEM (facts 2)."""
    public = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    file = tmp_path / "public.pem"
    file.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    parsed = _parser().parse_args(["--public-key", f"mine={file}", "--set", "fees.tier=2"])
    assert [(key.key, key.kind) for key in parsed.public_key] == [("mine", KeyKind.ED25519)]
    assert parsed.set == ["fees.tier=2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "leverage=x"], "use a whole number"),
        (["--public-key", "mine=/nonexistent.pem"], "names no public key"),
        (["--public-key", "mine"], "names no public key"),
    ],
)
def test_command_line_refuses_what_does_not_fit(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one sentence (design 3)."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
