"""A text that is never shown by mistake."""

from typing import Never, Self

MASK = "***"


class Secret(str):
    """A text that shows itself as `***` however it is printed, joined, written or encoded.

    `reveal()` gives the plain text, which it also equals. It cannot be pickled; a copy is the object itself.
    """

    __slots__ = ("_plain",)
    _plain: str

    def __new__(cls, plain: str) -> Self:
        """Keep `plain` aside: the str value itself is the mask, for C code reads it directly (join, csv)."""
        self = super().__new__(cls, MASK if plain else "")
        self._plain = plain
        return self

    def reveal(self) -> str:
        """Return the plain text; only for the code that signs or authenticates a request."""
        return self._plain

    def __repr__(self) -> str:
        return f"'{super().__str__()}'"

    def __eq__(self, other: object) -> bool:
        return self._plain == (other._plain if isinstance(other, Secret) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._plain)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a Secret is not pickled, so that it does not reach a file")
