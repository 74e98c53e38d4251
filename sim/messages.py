"""What goes in and out of the exchange over HTTP, without HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, header names in lower case; query and body exactly as sent, for the signature's
    sake.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP reply, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
