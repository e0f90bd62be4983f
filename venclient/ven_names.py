"""Names of VENs that look the same are the same: `é` is one character or two, as a keyboard or a file system has it."""

import unicodedata
from collections.abc import Iterable, Sequence


def normal_form(name: str) -> str:
    """The name in the Unicode form in which two are compared (NFC)."""
    return unicodedata.normalize("NFC", name)


def as_spelled(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """These names as they are spelled among the known ones; a name that is not known stays as it is.

    Where several known names look the same, only the very same characters are that name.
    """
    spellings: dict[str, list[str]] = {}
    for name in known:
        spellings.setdefault(normal_form(name), []).append(name)

    def spelled(name: str) -> str:
        same: Sequence[str] = spellings.get(normal_form(name), ())
        return same[0] if len(same) == 1 else name

    return [spelled(name) for name in names]
