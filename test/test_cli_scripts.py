"""The two files that may be run by themselves, as programs: from any folder, in every way Python offers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.config_loader import ENV_NAMES

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("utils/config_loader.py", "core/state.py")


def run(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python without any setting of ours but `variables`, and return how it ended."""
    environment = {
        name: value for name, value in os.environ.items() if name not in (*ENV_NAMES, "PYTHONPATH")
    }
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )


@pytest.fixture(params=["root", "folder", "elsewhere", "slash"])
def cwd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folders that somebody may stand in."""
    return {"root": ROOT, "folder": ROOT / "utils", "elsewhere": tmp_path, "slash": Path("/")}[request.param]


@pytest.mark.parametrize("option", [[], ["-P"], ["-I"]], ids=["plain", "-P", "-I"])
def test_config_loader_says_that_the_settings_load(cwd: Path, option: list[str], tmp_path: Path) -> None:
    """The success line names both files, wherever the program is started."""
    env = tmp_path / ".env"
    env.write_text("BINANCE_API_KEY=k3yk3yk3y\n")
    result = run(*option, str(ROOT / SCRIPTS[0]), str(env), cwd=cwd)
    assert (result.stderr, result.returncode) == ("", 0)
    assert result.stdout == f"配置加载成功！ <Config yaml={ROOT / 'config.yaml'} env={env}>\n"


def test_config_loader_runs_as_a_module() -> None:
    """With -m it prints the same line."""
    result = run("-m", "utils.config_loader", os.devnull)
    assert (result.stderr, result.returncode) == ("", 0)
    assert result.stdout.startswith("配置加载成功！ <Config yaml=")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gb2312"])
def test_config_loader_prints_utf8_whatever_the_locale_is(encoding: str) -> None:
    """A server's plain locale is no reason to fail."""
    result = run(SCRIPTS[0], os.devnull, PYTHONIOENCODING=encoding, LC_ALL="C")
    assert result.returncode == 0
    assert result.stdout.startswith("配置加载成功！")


def test_config_loader_refuses_in_one_sentence(tmp_path: Path) -> None:
    """A wrong setting ends with code 2 and one line on stderr, never with a traceback."""
    settings = tmp_path / "config.yaml"
    settings.write_text("order_config:\n  levls: 3\n")
    result = run(SCRIPTS[0], os.devnull, str(settings))
    assert (result.stdout, result.returncode) == ("", 2)
    assert result.stderr == (
        f"{settings} line 2: unknown key order_config.levls; the nearest known key is order_config.levels.\n"
    )


def test_config_loader_explains_itself() -> None:
    """--help ends with code 0."""
    result = run(SCRIPTS[0], "--help")
    assert result.returncode == 0
    assert "--config" in result.stdout


def test_config_loader_needs_nothing_that_utils_http_hides() -> None:
    """With utils/ first on the path, `import http` would find ours: so nothing may import it."""
    code = "import runpy, sys; runpy.run_path('utils/config_loader.py'); print('http' in sys.modules)"
    assert run("-c", code).stdout == "False\n"
    assert (ROOT / "utils" / "http.py").is_file()


@pytest.mark.parametrize("option", [[], ["-P"], ["-I"]], ids=["plain", "-P", "-I"])
def test_state_prints_its_three_lines(cwd: Path, option: list[str]) -> None:
    """Initial, updated, and after a batch under the lock, wherever the program is started."""
    result = run(*option, str(ROOT / SCRIPTS[1]), cwd=cwd)
    assert (result.stderr, result.returncode) == ("", 0)
    labels = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert labels == ["initial state", "updated state", "after safe_update"]


def test_state_runs_as_a_module() -> None:
    """With -m it prints the same three lines."""
    result = run("-m", "core.state")
    assert (result.stderr, result.returncode) == ("", 0)
    assert result.stdout == run(SCRIPTS[1]).stdout


@pytest.mark.parametrize("package", ["core", "utils", "sim", "test"])
def test_package_is_ours_and_not_one_of_the_same_name(package: str) -> None:
    """The names are common; ours are found first, and the standard library's `test` is not."""
    result = run("-c", f"import {package}; print({package}.__file__)")
    assert result.stdout.strip() == str(ROOT / package / "__init__.py")
