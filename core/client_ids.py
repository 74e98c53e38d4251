"""The ids that we give our orders. Pure."""

PREFIX = "qpmm-"
"""Client ids that begin like this are ours; orders of others are never touched."""

_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def is_ours(client_id: str) -> bool:
    """Tell whether an order with this client id was placed by this program."""
    return client_id.startswith(PREFIX)


def boot_of(client_id: str) -> int | None:
    """Return the number of the run that minted this id, None if it was not minted here."""
    prefix, *parts = client_id.split("-")
    if f"{prefix}-" != PREFIX or len(parts) != 3 or not all(parts) or not set(parts[1]) <= set(_BASE36):
        return None
    return int(parts[1], 36)


class ClientIds:
    """Mints client ids that no other instance and no other run ever minted: prefix, instance, boot number, sequence.

    ``boot`` is a number that no other run was given (``core.boot_number``). At most 36 characters of
    ``[.A-Z:/a-z0-9_-]``, as the exchange demands.
    """

    def __init__(self, instance_id: str, boot: int) -> None:
        self._stem = f"{PREFIX}{instance_id}-{_base36(boot)}"
        self._next = 0

    def mint(self) -> str:
        """Return a client id that was never returned before."""
        self._next += 1
        return f"{self._stem}-{_base36(self._next)}"


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _BASE36[digit] + digits
    return digits or "0"
