"""Copies of the project in a temporary folder, in which patches are tried out; bounded in time and memory."""

import compileall
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from test.mutants.catalogue import ROOT, Edit, patched

MOST_BYTES = 2 * 2**30
"""Of address space for one run: a mutant that eats memory ends by itself."""


@dataclass(frozen=True, slots=True)
class Run:
    """How a command ended; ``code`` is None when its time was over."""

    code: int | None
    output: str
    seconds: float


class Workshop:
    """A folder with an untouched copy of the project, of which further copies are made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.untouched = folder / "untouched"
        _copy_project(self.untouched)
        compileall.compile_dir(self.untouched, quiet=2)

    def copy_with(self, name: str, edits: tuple[Edit, ...]) -> Path:
        """Return a new copy with these edits made. Raises DoesNotApply."""
        texts = patched(self.untouched, edits)
        copy = self._folder / name
        shutil.copytree(
            self.untouched, copy
        )  # with the times of the files, so that what is compiled stays valid
        for file, text in texts.items():
            (copy / file).write_text(text, encoding="utf-8")
        return copy

    def remove(self, copy: Path) -> None:
        """Have a copy be gone."""
        shutil.rmtree(copy, ignore_errors=True)


def _copy_project(target: Path) -> None:
    """Copy the files that are under version control, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


def run_python(folder: Path, arguments: Sequence[str], timeout_s: float) -> Run:
    """Run Python with these arguments in a copy; kill it when its time is over."""
    environment = {**os.environ, "QUANT_PMM_DATA": _data_folder(), "PYTHONHASHSEED": "0"}
    environment.pop("PYTHONPATH", None)
    began_s = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            return Run(None, output, time.monotonic() - began_s)
    return Run(process.returncode, output, time.monotonic() - began_s)


def _data_folder() -> str:
    return os.environ.get("QUANT_PMM_DATA") or str(ROOT.parent / "shared" / "data")
