"""Where a benchmark ran, on which core, and the arithmetic that benchmarks share."""

import os
import platform
import resource
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from importlib import metadata
from itertools import accumulate
from pathlib import Path

_PACKAGES = ("aiohttp", "websockets", "msgspec", "uvloop", "picows", "ccxt", "python-binance")


def machine() -> dict[str, str]:
    """Return processor, system, Python, and the versions of what is installed."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text("utf-8").splitlines() if line.startswith("model name")]
        model = f"{len(names)} x {names[0].partition(': ')[2]}" if names else model
    return {
        "machine": model,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": ", ".join(filter(None, map(_version, _PACKAGES))),
    }


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""


def two_cores() -> tuple[int, int]:
    """Return a core for the venue and another one for its clients; the same one where there is no other."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]


def pin(core: int) -> None:
    """Keep this process, and those that it starts, on a core."""
    os.sched_setaffinity(0, {core})


def resident_mib(pid: int | str = "self") -> float:
    """Return the memory of a process that is resident now. Linux only."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def open_descriptors(pid: int | str = "self") -> int:
    """Return how many files and sockets a process has open now. Linux only."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def waited_ns(pid: int) -> int:
    """Return how long the main thread of a process has waited for its core while others had it. Linux only."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the others does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def quantiles_of_counts(counts: Sequence[int], shares: Iterable[float]) -> list[int]:
    """Return for each share the first place up to which that share of all that was counted is found."""
    sums = list(accumulate(counts))
    return [bisect_left(sums, share * sums[-1]) for share in shares]
