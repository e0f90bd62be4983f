"""A VTN that follows the published OpenADR 3 API: history is stored as reports (docs/other-vtns.md).

A report holds a month of a load, or a day or an hour of it; it is created once, and replaced as a whole from then on.
`encoding` and `decoding` convert points to and from reports.
"""

from lazy_loader import attach_stub

# Each name is imported where it is first used: settings need one name of it, and nothing of HTTP and tokens.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
