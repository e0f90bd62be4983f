"""What people look at: the check of a meter file, the status of an upload, and the report of a verification.

Nothing here changes a ledger or a VTN. Pages are imported from their own modules.
"""

from lazy_loader import attach_stub

# Each name is imported where it is first used: `status` needs no numpy, and `check` no SQL.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
