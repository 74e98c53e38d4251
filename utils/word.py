"""Words of the program, such as BUY or ACTIVE, that are texts as well."""

from enum import StrEnum


class Word(StrEnum):
    """A base for enumerations of words. Each hashes as the text that it is.

    The hash of ``Enum`` is a call of a Python function, each time that a member is looked up in a table or a set.
    """

    __hash__ = str.__hash__
