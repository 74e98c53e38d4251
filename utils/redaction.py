"""What must not be shown is taken out of whatever is shown: logs, last words, the cells of files.

The secrets of a run are known here by their plain text, whoever writes of them, and so are their fragments: an error
that quotes the first half of a key gives away half of it. What is minted during a run (signatures, listen keys) is
found by its name or by its looks besides.
"""

import re
from collections import deque
from urllib.parse import quote_plus

from utils.secret import Secret

MASK = "***"
_NAMED = re.compile(
    r"((?:signature|listenKey|apiKey|X-MBX-APIKEY)[\"']?"
    r"(?:=|\s*:\s*(?=b?[\"']|[0-9A-Za-z%+/=_-]{16})|(?<=[\"'])\s*,\s*)b?[\"']?)[0-9A-Za-z%+/=_-]+",
    re.IGNORECASE,
)
"""A value behind a name; behind a bare colon one longer than the words of a sentence ("listenKey: no answer")."""
_PARTS_OF_NAMES = ("key", "nature")
"""Each of the names has one of them in it, in whatever case: these are found in a tenth of the time."""
_LONG = re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z]{48,}")
"""Keys, secrets, signatures and listen keys have 64; nothing that is worth reading is so long without a break."""
_NOTHING = re.compile(r"(?!)")


class Redactor:
    """Masks the secrets that it has learned, and fragments of those that are long enough to be told from words."""

    SHORTEST = 4
    FRAGMENT = 6
    HAS_FRAGMENTS_FROM = 20
    MOST_MINTED = 32
    MOST_CLEAN = 1024

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()
        self._minted: deque[str] = deque(maxlen=self.MOST_MINTED)
        self._whole: tuple[str, ...] = ()
        self._fragments: frozenset[str] = frozenset()
        self._runs = _NOTHING
        """Finds what is long enough and has no other characters than fragments have: nothing else can hold one."""
        self._clean: set[str] = set()

    def learn(self, secret: str) -> None:
        """Have a secret of the configuration masked from now on, for good; one of a few characters is left alone."""
        secret = secret.reveal() if isinstance(secret, Secret) else secret
        if len(secret) >= self.SHORTEST and secret not in self._known:
            self._known = (*self._known, secret)
            self._build()

    def learn_minted(self, secret: str) -> None:
        """Have a secret masked that was made during the run; the newest few are remembered."""
        if len(secret) >= self.SHORTEST and secret not in self._minted:
            self._minted.append(secret)
            self._build()

    def forget(self) -> None:
        """Know no secret."""
        self._known = ()
        self._minted.clear()
        self._build()

    def _build(self) -> None:
        secrets = {form for each in (*self._known, *self._minted) for form in (each, quote_plus(each))}
        size = self.FRAGMENT
        # Whole new values: the thread that writes the logs reads them meanwhile.
        self._whole = tuple(sorted(secrets, key=len, reverse=True))
        self._fragments = frozenset(
            secret[start : start + size]
            for secret in secrets
            if len(secret) >= self.HAS_FRAGMENTS_FROM
            for start in range(len(secret) - size + 1)
            if not secret[start : start + size].isdigit()  # of which every price and every time has some
        )
        letters = re.escape("".join(sorted(frozenset[str]().union(*self._fragments))))
        self._runs = re.compile(f"[{letters}]{{{size},}}") if letters else _NOTHING
        self._clean = set()

    def redact(self, text: str) -> str:
        """Return the text with every secret, and every fragment of one, masked."""
        clean = (
            self._clean
        )  # texts in which nothing was found with what is known: the same ones come each second
        if text in clean:
            return text
        masked = text
        for secret in self._whole:
            masked = masked.replace(secret, MASK)
        lower = masked.lower()
        if any(part in lower for part in _PARTS_OF_NAMES):
            masked = _NAMED.sub(rf"\1{MASK}", masked)
        masked = self._without_fragments(_LONG.sub(MASK, masked))
        if masked == text:
            if len(clean) >= self.MOST_CLEAN:
                clean.clear()
            clean.add(text)
        return masked

    def _without_fragments(self, text: str) -> str:
        fragments, size = self._fragments, self.FRAGMENT
        found = [
            at
            for run in self._runs.finditer(text)
            for at in range(run.start(), run.end() - size + 1)
            if text[at : at + size] in fragments
        ]
        if not found:
            return text
        kept: list[str] = []
        end = 0
        for at in found:
            if at > end or not kept:
                kept += [text[end:at], MASK]
            end = at + size
        return "".join((*kept, text[end:]))


redactor = Redactor()
"""The one of this process: its handlers, its last words and its files are of the whole process, too."""


def redact(text: str) -> str:
    """Return the text with what this process knows to be secret masked."""
    return redactor.redact(text)
