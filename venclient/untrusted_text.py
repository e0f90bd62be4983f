"""Text from outside as it may be shown: names of the database and the meter file, and what servers answer.

Data keeps such text as it is. Whatever shows it to a person passes it through here, once and at the edge: log records
by `show_controls_in_logs`, Markdown by `markdown`, all else by `visible`.
"""

import logging
import re
import traceback
from unicodedata import category

# Persian, Indic scripts and emoji need them.
_JOINERS = "\u200c\u200d"
# CommonMark takes a backslash before any ASCII punctuation (§2.4). What begins neither markup nor a link stays as it
# is, for the sake of whoever reads the source.
_MARKUP = re.compile(r"[!-+.:<-@\[-`{-~]|^-")


def visible(text: str) -> str:
    r"""The text in one line, with control characters written out: `\x1b`, `\n`, `\u202e`.

    A terminal would obey escape sequences, a line break would forge another line, and what turns the direction of
    writing shows other text than there is. Twice is the same as once.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def markdown(text: str) -> str:
    """The text for a place within a paragraph, list item or table cell of Markdown, where it is text and nothing else.

    It begins neither markup nor HTML, nor a link, not even where it is an address.
    """
    return _MARKUP.sub(r"\\\g<0>", visible(text).strip())


def visible_traceback(error: BaseException) -> str:
    """A traceback whose lines are indented, so that no line of an error's message passes for one of the log's."""
    lines = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
    return "\n".join(f"  {visible(line)}" for line in lines)


class VisibleRecord(logging.LogRecord):
    """A log record whose message is one line, whatever handler writes it; the lines of a traceback are indented."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # as logging gives them
        if self.exc_info and self.exc_info[1] is not None:
            self.exc_text = visible_traceback(self.exc_info[1])  # formatters write this where it is there

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        return visible(super().getMessage())


def show_controls_in_logs() -> None:
    """From here on, no log line of this process has a control character in it, whoever logs it and whoever writes it.

    For a process of our own only: it holds for the loggers of all libraries.
    """
    logging.setLogRecordFactory(VisibleRecord)


def _shown(sign: str) -> str:
    is_text = sign.isprintable() or sign in _JOINERS or category(sign) == "Zs"
    return sign if is_text else sign.encode("unicode_escape").decode()
