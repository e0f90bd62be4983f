"""Each VTN is in the ledger once, under its address in normal form: what is known under several spellings is merged.

What they say differently of a month is believed of neither: the next run sends that month again.
"""

from collections import defaultdict
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from venclient.addresses import normal_form

revision = "0002"
down_revision = "0001"

# What tells the rows of a table apart that are of one VTN.
KEYS = {
    "marks": ("vtn_resource_id", "month"),
    "uploads": ("vtn_resource_id",),
    "refused": ("vtn_resource_id", "start_s"),
    "requests": ("vtn_resource_id", "ended_at_us"),
    "runs": ("ended_at_us",),
    "paces": (),
    "gzips": (),
    "leases": ("ven",),
}
# Of several rows of one key the one with the highest value stays: what was said last, and who wrote last. A run of an
# earlier version that loses its lease by this records nothing any more.
NEWEST = {"uploads": "settled_at_s", "gzips": "asked_at_s", "leases": "writer_id"}


def upgrade() -> None:
    """Merge what is known of one VTN, and write its address in normal form."""
    spellings: dict[str, list[int]] = defaultdict(list)
    for vtn_id, base_url in op.get_bind().execute(sa.text("SELECT vtn_id, base_url FROM vtns ORDER BY vtn_id")):
        spellings[normal_form(base_url)].append(vtn_id)
    for address, (kept, *others) in spellings.items():
        if others:
            _merge([kept, *others])
        _execute("UPDATE vtns SET base_url = :address WHERE vtn_id = :kept", address=address, kept=kept)


def _merge(vtn_ids: Sequence[int]) -> None:
    """Under the first of these numbers."""
    ids = ", ".join(map(str, vtn_ids))
    others = ", ".join(map(str, vtn_ids[1:]))
    _forget_contradictions(ids)
    for table, key in KEYS.items():
        same_key = " AND ".join([f"other.vtn_id IN ({ids})", *(f"other.{name} = {table}.{name}" for name in key)])
        of_same_key = (
            f"DELETE FROM {table} WHERE vtn_id IN ({ids}) AND EXISTS (SELECT 1 FROM {table} AS other WHERE {same_key}"
        )
        if table in NEWEST:
            _execute(f"{of_same_key} AND other.{NEWEST[table]} > {table}.{NEWEST[table]})")
        _execute(f"{of_same_key} AND other.vtn_id < {table}.vtn_id)")
        _execute(f"UPDATE {table} SET vtn_id = {vtn_ids[0]} WHERE vtn_id IN ({others})")
    _execute(f"DELETE FROM vtns WHERE vtn_id IN ({others})")


def _forget_contradictions(ids: str) -> None:
    """Delete marks of a month that differ, and all marks of a load of which not the same points are refused."""
    differing = (
        f"vtn_id IN ({ids}) AND EXISTS (SELECT 1 FROM marks AS other WHERE other.vtn_id IN ({ids})"
        " AND other.vtn_resource_id = marks.vtn_resource_id AND other.month = marks.month"
        " AND (other.digest <> marks.digest OR other.points <> marks.points))"
    )
    refused_by_some = (
        f"SELECT refused.vtn_resource_id FROM refused WHERE refused.vtn_id IN ({ids})"
        " GROUP BY refused.vtn_resource_id, refused.start_s HAVING count(*) < (SELECT count(*) FROM uploads"
        f" WHERE uploads.vtn_id IN ({ids}) AND uploads.vtn_resource_id = refused.vtn_resource_id)"
    )
    for loads in (f"SELECT vtn_resource_id FROM marks WHERE {differing}", refused_by_some):
        _execute(
            f"UPDATE uploads SET state = 'pending' WHERE state = 'done' AND vtn_id IN ({ids})"
            f" AND vtn_resource_id IN ({loads})"
        )
    _execute(f"DELETE FROM marks WHERE {differing}")
    of_these = f"vtn_id IN ({ids}) AND vtn_resource_id IN ({refused_by_some})"
    _execute(f"DELETE FROM marks WHERE {of_these}")
    _execute(f"DELETE FROM refused WHERE {of_these}")


def _execute(sql: str, **values: object) -> None:
    op.get_bind().execute(sa.text(sql), values)
