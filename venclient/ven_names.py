"""Match names of VENs in any Unicode form: keyboards and file systems write `é` as one character or as two."""

import unicodedata
from collections.abc import Iterable, Sequence


def normal_form(name: str) -> str:
    """Return the name in the Unicode form in which names are compared (NFC)."""
    return unicodedata.normalize("NFC", name)


def as_spelled(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Replace each name by the known name with the same normal form; unknown names stay as they are.

    If several known names share a normal form, a name is not replaced, and matches only the identical one.
    """
    spellings: dict[str, list[str]] = {}
    for name in known:
        spellings.setdefault(normal_form(name), []).append(name)

    def spelled(name: str) -> str:
        matches: Sequence[str] = spellings.get(normal_form(name), ())
        return matches[0] if len(matches) == 1 else name

    return [spelled(name) for name in names]
