"""The number of a start: it grows with each one, whatever the clock does and whatever became of the files."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import boot_number
from core.boot_number import earlier_boots, next_boot
from core.client_ids import ClientIds, boot_of
from test.daemon import World, in_a_world
from utils.errors import StartRefused

NOW_MS = 1_790_000_000_000
BOTH = ("BTCUSDT", "ETHUSDT")


@given(
    starts=st.lists(
        st.tuples(st.integers(0, 10), st.sampled_from([BOTH[:1], BOTH[1:], BOTH])), min_size=2, max_size=8
    )
)
def test_no_start_is_given_a_number_twice_however_the_clock_jumps(
    starts: list[tuple[int, tuple[str, ...]]],
) -> None:
    """For each symbol the numbers grow, although the clock stands at one of eleven ms and symbols come and go."""
    with TemporaryDirectory() as folder:
        given_to: dict[str, list[int]] = {symbol: [] for symbol in BOTH}
        for offset_ms, symbols in starts:
            number = next_boot(Path(folder), "live", symbols, NOW_MS + offset_ms)
            assert number >= NOW_MS + offset_ms
            for symbol in symbols:
                given_to[symbol].append(number)
        for numbers in given_to.values():
            assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("damage", [b"", b'{"boo', b'{"boot": "x"}', None])
def test_lost_or_damaged_file_leaves_it_to_the_clock(tmp_path: Path, damage: bytes | None) -> None:
    """Which is right unless it was set back at the same time."""
    next_boot(tmp_path, "live", BOTH[:1], NOW_MS)
    path = tmp_path / "boot-live-BTCUSDT.json"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert next_boot(tmp_path, "live", BOTH[:1], NOW_MS + 5) == NOW_MS + 5


def test_full_disk_refuses_the_start_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, no traceback."""

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(boot_number, "write_whole", full)
    with pytest.raises(StartRefused, match=r"cannot be written to \(No space left on device\); make room"):
        next_boot(tmp_path, "live", BOTH[:1], NOW_MS)


def test_ids_after_a_restart_with_the_clock_set_back_are_new_ones(tmp_path: Path) -> None:
    """The second daemon's clock stands where the first one's stood: no client id comes again at the exchange."""

    async def story(world: World) -> None:
        began_s = world.now_s
        world.start()
        await world.until_quoting()
        await world.end()
        world.skew_ms = -round((world.now_s - began_s) * 1000)
        world.start()
        await world.until_quoting()
        await world.end()
        ids = [order["clientOrderId"] for order in world.record()["orders"]]
        assert len(ids) == len(set(ids)) >= 12
        boots = {client_id.split("-")[2] for client_id in ids}
        assert len(boots) == 2

    in_a_world(tmp_path, story)


@given(boot=st.integers(0, 2**53), count=st.integers(1, 40))
def test_id_tells_which_run_minted_it(boot: int, count: int) -> None:
    """An id that was not minted here tells nothing."""
    ids = ClientIds("mm1", boot)
    assert {boot_of(ids.mint()) for _ in range(count)} == {boot}
    strange = ["", "qpmm-", "qpmm-of-another", "qpmm-mm1--1", "qpmm-mm1-1_0-1", "web_mm1-1-1", "qpmm-a-b-c-d"]
    assert [boot_of(each) for each in strange] == [None] * len(strange)


def test_last_hundred_runs_are_remembered(tmp_path: Path) -> None:
    """And the present one."""
    numbers = [next_boot(tmp_path, "live", ["BTCUSDT"], NOW_MS + start) for start in range(120)]
    assert earlier_boots(tmp_path, "live", ["BTCUSDT"]) == set(numbers[-101:])
