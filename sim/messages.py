"""What goes in and out of the exchange over HTTP, without HTTP."""

from collections.abc import Mapping

from msgspec import Struct


class Request(Struct, frozen=True):
    """One HTTP request, header names in lower case; query and body exactly as sent, for the signature's
    sake.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: str


class Response(Struct, frozen=True):
    """One HTTP reply, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
