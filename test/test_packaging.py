"""The files around the program agree with it: pins, settings, what is kept out of the repository."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from test.process import OF_CCXT
from utils.config_loader import ENV_NAMES, get_config, known_keys

ROOT = Path(__file__).resolve().parents[1]
CONFIG = (ROOT / "config.yaml").read_text(encoding="utf-8")
ENV_EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")


def requirements(name: str) -> list[str]:
    """Return the lines of a requirements file without comments."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line]


def lock_blocks(name: str) -> list[str]:
    """Return the entries of a lock, each on one line: an include, or a package with its marker and hashes."""
    text = (ROOT / f"{name}.lock").read_text().replace("\\\n", "")
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if not line.startswith("#")]


def versions(name: str, kind: str) -> dict[str, str]:
    """Return the packages that a file and those it includes name, by their normal name, with their versions."""
    lines = lock_blocks(name) if kind == "lock" else requirements(f"{name}.txt")
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith("-r "):
            found |= versions(line.removeprefix("-r ").rpartition(".")[0], kind)
            continue
        package, _, version = line.split()[0].partition("==")
        assert package.lower().replace("_", "-") not in found, f"{package} is there twice"
        found[package.lower().replace("_", "-")] = version
    return found


def leaves(tree: dict[str, object], prefix: str = "") -> list[str]:
    """Return the full path of every value of a nested dict."""
    found: list[str] = []
    for key, value in tree.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


@pytest.mark.parametrize(
    "line",
    [
        *requirements("requirements.txt"),
        *requirements("requirements-demo.txt")[1:],
        *requirements("requirements-dev.txt")[1:],
        *requirements("requirements-bench.txt")[1:],
    ],
)
def test_requirement_is_pinned_exactly(line: str) -> None:
    """Two installations are the same program."""
    assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9]+(\.[0-9]+)+", line)


def test_dev_requirements_start_with_those_of_the_demos_and_the_daemon() -> None:
    """The tests run with what the demos run with, and those with what the daemon runs with."""
    assert requirements("requirements-dev.txt")[0] == "-r requirements-demo.txt"
    assert requirements("requirements-demo.txt")[0] == "-r requirements.txt"


@pytest.mark.parametrize(
    "name", ["requirements", "requirements-demo", "requirements-dev", "requirements-bench"]
)
def test_lock_has_what_its_requirements_pin_and_hashes_for_every_package(name: str) -> None:
    """pip refuses what is missing only when somebody installs; here it is seen when a pin is changed."""
    pinned, locked = versions(name, "txt"), versions(name, "lock")
    assert pinned.items() <= locked.items()
    packages = [block for block in lock_blocks(name) if not block.startswith("-r ")]
    assert [block for block in packages if not re.search(r" --hash=sha256:[0-9a-f]{64}$", block)] == []
    assert len(locked) > len(pinned), "what the requirements need themselves is locked, too"


def test_installation_takes_nothing_whose_hash_is_not_in_a_lock() -> None:
    """One line installs, for the daemon and for the tests, and it names no source of packages."""
    script = (ROOT / "deploy" / "environment.sh").read_text()
    assert '--require-hashes --only-binary :all: -r "$root/$lock"' in script
    callers = [(ROOT / name).read_text() for name in ("Makefile", "run")]
    asked = {lock for text in callers for lock in re.findall(r"environment\.sh\S* (\S+)", text)}
    assert asked == {"requirements.lock", "requirements-demo.lock", "requirements-dev.lock"}
    everything = "".join((ROOT / lock).read_text() for lock in asked) + script
    assert re.search(r"index-url|find-links|://", everything) is None


PERMISSIVE = re.compile("MIT|BSD|Apache|ISC|PSF|Python Software Foundation|Python-2|0BSD", re.IGNORECASE)


def licence_file_of(name: str) -> str:
    """Return how the licence begins that a package brings along, where its metadata do not name one."""
    files = [file for file in metadata.files(name) or [] if file.name.startswith("LICENSE")]
    return "".join(file.read_text()[:100] for file in files)


def test_locked_packages_of_the_daemon_have_licences_that_oblige_to_nothing() -> None:
    """Whoever runs this owes nobody anything but the notice."""
    marks = []
    for name in versions("requirements", "lock"):
        try:
            found = metadata.metadata(name)
        except metadata.PackageNotFoundError:  # of another platform or another Python
            continue
        kinds = [line for line in found.get_all("Classifier", []) if line.startswith("License ::")]
        said = " ".join([found.get("License-Expression", ""), (found.get("License") or "")[:100], *kinds])
        said = said.strip() or licence_file_of(name)
        marks.append((name, said))
    assert len(marks) >= 10
    assert [(name, said) for name, said in marks if not PERMISSIVE.search(said)] == []


def test_demo_requirements_are_what_the_demos_import_besides() -> None:
    """ccxt, and what the daemon has anyway."""
    assert [line.partition("==")[0] for line in requirements("requirements-demo.txt")[1:]] == ["ccxt"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "demo").glob("*.py"))
    assert re.search(r"^import ccxt\b", text, re.MULTILINE)


def test_runtime_requirements_are_all_imported() -> None:
    """Nothing is installed that nobody uses."""
    modules = {
        "aiohttp",
        "picows",
        "uvloop",
        "websockets",
        "yaml",
        "dotenv",
        "msgspec",
        "rich",
        "cryptography",
    }
    assert len(requirements("requirements.txt")) == len(modules)
    sources = [
        file for folder in ("", "commands", "core", "utils", "sim") for file in (ROOT / folder).glob("*.py")
    ]
    text = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    assert {name for name in modules if not re.search(rf"^\s*(import|from) {name}\b", text, re.M)} == set()


ALIASES = {"strategy.target_orders_per_side"}
"""Keys that are another name of one that the file has; they stand in it as a comment."""


def test_config_yaml_has_every_key_but_those_of_the_environment() -> None:
    """Whoever reads the file has seen all there is."""
    assert sorted(leaves(yaml.safe_load(CONFIG))) == sorted(set(known_keys()) - set(ENV_NAMES) - ALIASES)
    assert [alias for alias in ALIASES if f"# {alias.rpartition('.')[2]}" not in CONFIG] == []


def test_config_yaml_has_a_comment_on_every_line() -> None:
    """Unit and effect stand beside the value."""
    values = [line for line in CONFIG.splitlines() if re.match(r"\s*\w+: *[^\s#]", line)]
    assert len(values) == len(known_keys()) - len(ENV_NAMES) - len(ALIASES)
    assert [line for line in values if not re.search(r" # \S.{15,}", line)] == []


def test_config_yaml_names_the_unit_of_every_key_that_has_one() -> None:
    """A number without a unit is read wrongly sooner or later."""
    units = {
        "_s:": "second",
        "_ms:": "millisecond",
        "_interval:": "second",
        "_usdt:": "USDT",
        "_percent:": "percent",
    }
    for line in CONFIG.splitlines():
        name, _, comment = line.partition("#")
        for ending, unit in units.items():
            if re.search(rf"\w{ending}", name):
                assert unit in comment, line


def test_env_example_has_exactly_the_names_that_are_read() -> None:
    """Copied as it is, it loads, and changes nothing."""
    names = re.findall(r"^([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE)
    assert sorted(names) == sorted(ENV_NAMES)
    shipped = get_config(ROOT / ".env.example")
    assert (shipped.EXCHANGE_ENV, shipped.BINANCE_API_KEY, shipped.PAPER_URL) == ("paper", "", "")


def test_env_example_has_a_comment_above_every_name() -> None:
    """Each name is explained where it is filled in."""
    for block in ENV_EXAMPLE.strip().split("\n\n"):
        assert block.startswith("# "), block


def test_secrets_and_recordings_stay_out_of_the_repository() -> None:
    """What a run leaves behind is ignored before anybody can commit it."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {".env", "/logs/", "/state/", "/data/", ".venv/"} <= set(ignored)


def test_no_file_of_the_repository_is_a_recording_or_a_secret() -> None:
    """The repository holds text of a size that a person can read."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: there is no list of the repository's files")
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    tracked = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert [
        file for file in tracked if file.stat().st_size > 300_000 or file.suffix in (".gz", ".zip", ".csv")
    ] == []
    assert ROOT / ".env" not in tracked


@pytest.mark.parametrize("script", ["run", "deploy/environment.sh", ".ci/run"])
def test_script_is_executable_and_has_no_syntax_error(script: str) -> None:
    """The commands of the README start as they are written."""
    file = ROOT / script
    assert file.stat().st_mode & 0o111
    shell = "bash" if "bash" in file.read_text().splitlines()[0] else "sh"
    subprocess.run([shell, "-n", file], check=True)


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python"])
def test_environment_refuses_what_is_no_new_python(python: str) -> None:
    """The refusal is one sentence with the remedy, and nothing is installed."""
    result = subprocess.run(
        ["sh", ROOT / "deploy" / "environment.sh", "requirements.lock"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.endswith(f"{python} is not Python 3.11 or newer: set PYTHON to one that is.\n")


STANDS_FOR_PYTHON = """#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip") echo "$*" ;;
esac
"""


def test_environment_is_made_in_a_folder_with_a_blank_in_its_name(tmp_path: Path) -> None:
    """Nothing on the way falls apart into words; the second time nothing is to be done."""
    root = tmp_path / "a folder"
    (root / "deploy").mkdir(parents=True)
    script = root / "deploy" / "environment.sh"
    script.write_text((ROOT / "deploy" / "environment.sh").read_text())
    (root / "requirements.lock").write_text("nothing\n")
    python = root / "my python"
    python.write_text(STANDS_FOR_PYTHON)
    python.chmod(0o700)

    def made() -> str:
        return subprocess.run(
            ["sh", script, "requirements.lock"],
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert made().splitlines() == [
        "-m pip install -q --disable-pip-version-check --require-hashes --only-binary :all:"
        f" -r {root}/requirements.lock"
    ]
    assert made() == ""


def test_tools_see_every_part_of_the_program() -> None:
    """Strict types, coverage and tests are switched on for all of it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert settings["mypy"]["strict"] is True
    assert settings["mypy"]["files"] == ["commands", "core", "utils", "sim", "bench", "demo", "main.py"]
    assert settings["coverage"]["run"]["source"] == ["commands", "core", "utils", "sim", "main"]
    assert settings["coverage"]["run"]["branch"] is True
    assert settings["coverage"]["report"]["fail_under"] >= 90
    assert settings["pytest"]["ini_options"]["filterwarnings"] == ["error", OF_CCXT]


def test_python_is_new_enough_for_the_program() -> None:
    """The oldest version that everything is written for is the one the tools check against."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert settings["ruff"]["target-version"] == "py311"
    assert settings["mypy"]["python_version"] == "3.11"
    assert sys.version_info >= (3, 11)
