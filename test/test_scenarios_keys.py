"""The exchange thinks differently about the key while the daemon runs."""

from pathlib import Path

import pytest

from core.key_keeper import KeyKeeper
from test.daemon import Sent, World, in_a_world, json_reply
from utils.http import HttpResponse

REFUSAL = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action, request ip: 192.0.2.7"}


def _reasons(world: World) -> str:
    assert world.engine is not None
    return "; ".join(world.engine.gate.reasons)


def test_key_that_is_not_accepted_any_more_pauses_with_its_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The address changed: no quote is sent, the exchange's switch cancels, and all comes back when it is mended."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()

        async def refuse(_sent: Sent) -> HttpResponse:
            return json_reply(401, REFUSAL)

        was_untouched, world.tamper = world.tamper, refuse
        await world.until(lambda: "does not accept the API key" in _reasons(world), 5, "the pause")
        assert "request ip: 192.0.2.7 (code -2015" in _reasons(world)
        await world.until(lambda: not world.ours(), 25, "the end of what rested")
        sent = world.count("orders")
        await world.watch(30, orders=0)
        assert world.count("orders") == sent
        world.tamper = was_untouched
        await world.until_quoting(15)
        assert _reasons(world) == ""
        assert await world.end() == 0

    in_a_world(tmp_path, story)
    [told] = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert told.message.endswith(
        "; check at the exchange that the key exists, that futures are enabled for it, and that it allows the address"
        " that this machine has now"
    )


def test_key_that_is_given_more_rights_pauses_until_they_are_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked at again every day; an answer that fails changes nothing."""
    monkeypatch.setattr(KeyKeeper, "RIGHTS_EVERY_S", 30.0)
    monkeypatch.setattr(KeyKeeper, "RETRY_S", 5.0)
    answers = iter([None, json_reply(504, {}), *[json_reply(200, rights(withdraw=True))] * 3, None, None])
    asked: list[float] = []

    async def story(world: World) -> None:
        async def answer(sent: Sent) -> HttpResponse | None:
            if not sent.path.endswith("apiRestrictions"):
                return None
            asked.append(world.now_s)
            return next(answers)

        world.has_wallet, world.tamper = True, answer
        world.start()
        await world.until_quoting()
        await world.until(lambda: "the key may withdraw" in _reasons(world), 60, "the pause")
        await world.until(lambda: not world.ours(), 10, "the end of what rested")
        await world.until_quoting(30)
        assert _reasons(world) == ""
        assert await world.end() == 0

    in_a_world(tmp_path, story)
    assert len(asked) >= 5


def rights(*, withdraw: bool) -> dict[str, bool]:
    """Return what the exchange says of a key."""
    return {"ipRestrict": True, "enableFutures": True, "enableWithdrawals": withdraw}
