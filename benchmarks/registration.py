"""`bulk-upload register` of the whole database."""

from benchmarks.figures import Figure, Section
from benchmarks.stand import Stand

VENS = 2_531
METERS = 153

TEXT = """`bulk-upload register` of {loads:,} loads of {vens:,} VENs, once, from the start of the command to its
end, with the reference VTN, which has each resource on the disk before it answers."""


def measure() -> Section:
    """Seconds to register the whole database."""
    with Stand.made(vens=VENS, meters=METERS, points=1) as stand:
        loads = len(stand.loads())
        stand.unregister()
        with stand.reference_vtn() as url:
            seconds = stand.wall_s(url, "register")
    return Section(
        "Registering",
        TEXT.format(loads=loads, vens=VENS),
        [Figure("register.whole", f"{loads:,} loads", seconds, "s", 90, is_better_higher=False)],
    )
