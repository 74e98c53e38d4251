"""The planted mutants: for each failure mode of the first rank, a patch that takes away what guards against it.

In ``catalogue.toml`` ``id``, ``title`` and ``breaks`` say which mode it is and what the patch does. ``scenario``
is the test that shows the mode, ``kinds`` are the faults under which the simulation meets it, ``faults_per_hour`` how
many of them where one in six seconds is too few for two to meet. ``edits`` are the patch.
``inject`` is what has to go wrong inside of the program first, where no fault from outside brings the mode about: it
is part of the control run, too, which has to stand it.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_name("catalogue.toml")


class DoesNotApply(Exception):
    """The text that an edit replaces is not there, or is there more than once."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one file of the project."""

    file: str
    old: str
    new: str

    def applied_to(self, text: str) -> str:
        """Return the text with the replacement made. Raises DoesNotApply unless it can be made exactly once."""
        found = text.count(self.old)
        if found != 1:
            raise DoesNotApply(f"{self.file}: {found} times instead of once: {self.old!r}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One failure mode with the patch that lets it happen."""

    id: str
    title: str
    breaks: str
    scenario: str
    kinds: tuple[str, ...]
    edits: tuple[Edit, ...]
    inject: tuple[Edit, ...] = ()
    faults_per_hour: float = 600.0

    @property
    def test_file(self) -> str:
        """Return the file of its scenario."""
        return self.scenario.partition("::")[0]

    @property
    def test_name(self) -> str:
        """Return the name of its scenario, without parameters."""
        return self.scenario.partition("::")[2].partition("[")[0]


def load(file: Path = FILE) -> tuple[Mutant, ...]:
    """Return all mutants, in the order of the catalogue."""
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["mutant"]
    return tuple(
        Mutant(
            id=entry["id"],
            title=entry["title"],
            breaks=entry["breaks"],
            scenario=entry["scenario"],
            kinds=tuple(entry["kinds"]),
            edits=tuple(Edit(**edit) for edit in entry["edits"]),
            inject=tuple(Edit(**edit) for edit in entry.get("inject", ())),
            faults_per_hour=float(entry.get("faults_per_hour", 600)),
        )
        for entry in entries
    )


def patched(root: Path, edits: tuple[Edit, ...]) -> dict[str, str]:
    """Return the files that the edits change, as they are afterwards. Raises DoesNotApply."""
    texts: dict[str, str] = {}
    for edit in edits:
        text = texts.get(edit.file) or (root / edit.file).read_text(encoding="utf-8")
        texts[edit.file] = edit.applied_to(text)
    return texts
