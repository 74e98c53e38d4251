"""Where a benchmark ran, on which core, and the arithmetic that benchmarks share."""

import os
import platform
from collections.abc import Sequence
from importlib import metadata
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


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the others does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
