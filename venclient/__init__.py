"""Historical meter data from the loads table and the meter file to a VTN, resumable to the point. Knows no Prefect."""

from lazy_loader import attach_stub

# Each name is imported where it is first used: numpy, SQLAlchemy and authlib take most of a second.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
