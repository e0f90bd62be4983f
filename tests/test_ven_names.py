"""Promises about names of VENs in several Unicode forms: what looks the same is the same, and is not respelled."""

import asyncio
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import command, last_json
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from venclient.client import VENManager
from venclient.errors import BusyError, ConfigurationError
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.resources.database import ResourceDatabase
from venclient.resources.selection import Choice, select_loads

COMPOSED = "Åbenrå på Østerø"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


@pytest.mark.parametrize(("spelled", "given"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)], ids=["nfc", "nfd"])
def test_a_ven_is_found_in_either_form_and_stays_as_the_database_spells_it(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, spelled: str, given: str
) -> None:
    site = new_site(loads=4, vens=2)
    site.execute("UPDATE resources SET ven = ? WHERE rowid = 1", spelled)
    database = ResourceDatabase(str(site.db))
    assert [outline.ven for outline in database.vens([given])] == [spelled]
    assert {load.ven for load in database.unregistered([given])} == {spelled}
    site.register(vtn)
    assert {load.ven for load in database.loads([given])} == {spelled}
    assert list(select_loads(database, Choice([given])).load_ids) == [spelled]
    options = ["--db", site.db, "--ledger", site.ledger, "--json"]
    told = last_json(command("status", "--ven", given, *options, cwd=tmp_path))
    assert [ven["ven"] for ven in told["vens"]] == [spelled]


def test_of_two_vens_that_look_the_same_only_the_very_same_characters_are_one(new_site: Callable[..., Site]) -> None:
    site = new_site(loads=12, vens=2)
    site.execute("UPDATE resources SET ven = ? WHERE rowid = 1", COMPOSED)
    site.execute("UPDATE resources SET ven = ? WHERE rowid = 2", DECOMPOSED)
    database = ResourceDatabase(str(site.db))
    for name in (COMPOSED, DECOMPOSED):
        assert [outline.ven for outline in database.vens([name])] == [name]
    half = COMPOSED.replace("Å", unicodedata.normalize("NFD", "Å"))
    with pytest.raises(ConfigurationError, match="did you mean"):
        database.vens([half])


def test_two_spellings_of_a_ven_are_one_lease(tmp_path: Path) -> None:
    """Databases of two machines may spell it differently."""
    address = str(tmp_path / "ledger.db")
    with (
        Ledger(address, "http://vtn") as one,
        Ledger(address, "http://vtn") as other,
        one.leased([COMPOSED], Writer("run-1", "The first run")),
        pytest.raises(BusyError, match="The first run"),
        other.leased([DECOMPOSED], Writer("run-2", "The second run")),
    ):
        pass


def test_a_ven_manager_uploads_a_ven_in_either_form(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> None:
    site = new_site(loads=2)
    site.execute("UPDATE resources SET ven = ?", COMPOSED)

    async def upload() -> dict[str, object]:
        manager = VENManager(vtn.base_url, vtn.token, ledger_url=str(site.ledger))
        await manager.register_resources(DECOMPOSED, str(site.db))
        told = await manager.bulk_upload_historical_meterdata(DECOMPOSED, str(site.db), str(site.h5))
        await manager.cleanup()
        return told

    told = asyncio.run(upload())
    assert (told["success"], told["total_points_uploaded"]) == (True, 200)
    site.assert_stored(vtn)
