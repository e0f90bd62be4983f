"""Numbers as people read them."""

UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(number: float) -> str:
    """A number in few characters: `912`, `8.7 k`, `115 M`."""
    for size, unit in UNITS:
        if number >= 0.9995 * size:
            count = number / size
            return f"{count:.1f} {unit}" if count < 99.95 else f"{count:,.0f} {unit}"
    return f"{number:,.0f}"
