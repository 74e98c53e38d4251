"""Parameters as the text of a query string."""

import re
from collections.abc import Mapping
from urllib.parse import quote_plus

_plain = re.compile(r"[A-Za-z0-9_.~-]*").fullmatch
"""What percent-encoding leaves as it is: nearly every value that goes to the exchange."""


def query_text(params: Mapping[str, str | int], errors: str = "strict") -> str:
    """Return ``name=value`` joined by ``&``, percent-encoded as ``urllib.parse.urlencode`` does it, in half its time.

    ``errors`` is how lone surrogates are encoded; "strict" raises UnicodeEncodeError.
    """
    pairs = [(name, str(value)) for name, value in params.items()]
    if not _plain("".join(map("".join, pairs))):
        pairs = [(_encoded(name, errors), _encoded(text, errors)) for name, text in pairs]
    return "&".join(map("=".join, pairs))


def _encoded(text: str, errors: str) -> str:
    return text if _plain(text) else quote_plus(text, errors=errors)
