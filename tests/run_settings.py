"""Settings of runs in this process."""

from contextlib import AbstractContextManager

from config.settings import given_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site


def run_settings(site: Site, vtn: ReferenceVtn, **options: object) -> AbstractContextManager[None]:
    """Runs within upload this site to this VTN, with these options besides."""
    return given_options(
        vtn_url=vtn.base_url,
        bearer_token=vtn.token,
        resources_db=str(site.db),
        meter_file=site.h5,
        ledger_url=str(site.ledger),
        **options,
    )
