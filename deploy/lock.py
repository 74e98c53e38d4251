"""Write the lock files anew: every package that an installation gets, exactly, with the hashes of all its wheels.

    python deploy/lock.py        after a change of requirements*.txt; needs `uv` on the PATH, and the network

Each requirements*.txt has its .lock beside it. A file includes the one below it, so that a package stands in one place
and the tests run with what the daemon runs with. The hashes are those of every platform and of Python 3.11 and newer.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("requirements", "requirements-demo", "requirements-dev", "requirements-bench")
HEAD = "# Made by deploy/lock.py from {name}.txt. Installed with --require-hashes: what differs is refused.\n"
COMPILE = (
    *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--only-binary", ":all:", "--no-header", "--no-annotate", "--constraints", "-"),
)


def blocks(text: str) -> dict[str, str]:
    """Return each package's pin with its hashes, by the package's name."""
    parts = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    return {part.partition("==")[0]: part for part in parts}


def compiled(layer: str, constraints: str = "") -> dict[str, str]:
    """Return everything that an installation of this layer gets."""
    command = [*COMPILE, f"{layer}.txt"]
    done = subprocess.run(command, cwd=ROOT, input=constraints, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        sys.exit(done.stderr)
    return blocks(done.stdout)


def main() -> None:
    """Resolve the uppermost layer, and the others to the same versions; write each package where it is first needed."""
    everything = compiled(LAYERS[-1])
    constraints = "\n".join(block.split()[0] for block in everything.values())
    below: set[str] = set()
    for number, layer in enumerate(LAYERS):
        wanted = compiled(layer, constraints).keys() - below
        include = f"-r {LAYERS[number - 1]}.lock\n" if number else ""
        text = "\n".join(everything[name] for name in sorted(wanted))
        (ROOT / f"{layer}.lock").write_text(f"{HEAD.format(name=layer)}{include}{text}\n", encoding="utf-8")
        below |= wanted


if __name__ == "__main__":
    main()
