"""The unit of the service manager: well-formed, and true to the program."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.exit_code import ExitCode
from utils.config_loader import SafetyConfig

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "deploy" / "quant-pmm.service"


def service() -> dict[str, str]:
    """Return the settings of the service; of one that is given twice the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(UNIT)
    return dict(parser["Service"])


def test_unit_knows_the_exit_codes_and_the_time_that_a_stop_takes() -> None:
    """What another start does not cure is not started again; a stop is not cut off."""
    settings = service()
    assert settings["RestartPreventExitStatus"] == f"{ExitCode.REFUSED:d} {ExitCode.HALTED:d}"
    assert settings["Restart"] == "on-failure"
    assert int(settings["TimeoutStopSec"]) > 3 * SafetyConfig().stop_timeout_s
    assert (settings["Type"], settings["User"]) == ("notify", "quant-pmm")
    assert settings["ReadWritePaths"].split() == ["/var/lib/quant-pmm", "/var/log/quant-pmm"]


def test_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """Where there is a systemd to ask; the program's path is one of this machine for that."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze")
    copy = tmp_path / UNIT.name
    copy.write_text(
        UNIT.read_text("utf-8").replace("/opt/quant-pmm/.venv/bin/python", sys.executable), "utf-8"
    )
    found = subprocess.run(
        [analyze, "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
