"""Printing of untrusted text, as lines and tables, to a terminal."""

from typing import Any

from rich.console import Console
from rich.text import Text

from venclient.untrusted_text import visible

# Of a line in a file or a pipe, where nothing is wrapped or cut.
UNLIMITED = 10_000


class Terminal(Console):
    """A rich console that prints strings literally: no markup, no emoji codes, control characters escaped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        if not self.is_terminal:
            self.width = UNLIMITED

    def render_str(self, text: str, **options: Any) -> Text:
        """Override rich's, which renders printed strings as well as the cells of tables."""
        return super().render_str(visible(text), **options)
