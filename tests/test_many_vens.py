"""Promises about runs of many VENs: each takes what it takes in a run of few."""

import json
import resource
from collections.abc import Callable

import pytest

from tests.commands import run_options, start
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site

FEW, MANY = 100, 800


@pytest.mark.long
def test_a_ven_takes_no_more_of_the_processor_in_a_run_of_many(
    new_site: Callable[..., Site], vtn: ReferenceVtn, prefect_url: str
) -> None:
    """Prefect once looked through the whole plan for each batch: 1,200 VENs took five times as long as they had to."""

    def cpu_s(vens: int) -> float:
        site = new_site(loads=vens, vens=vens, points=24)
        site.register(vtn)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with start("run", *run_options(site, vtn), "--json", cwd=site.db.parent, prefect_url=prefect_url) as run:
            output, errors = run.communicate()
        assert json.loads(output.splitlines()[-1])["total_points_uploaded"] == 24 * vens, errors
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime

    assert cpu_s(MANY) < 6 * cpu_s(FEW)
