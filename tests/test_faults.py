"""The promise under fire: a fifth of all requests fails in every way there is, and the run ends complete and exact."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site

FAULTS = ["500", "503", "429", "401", "reset_before", "reset_after", "timeout", "html", "html_before", "short"]


@pytest.mark.parametrize("loads", [100, pytest.param(300, marks=pytest.mark.long)])
def test_a_run_with_faults_on_a_fifth_of_all_requests_ends_complete_and_exact(
    no_faults: ReferenceVtn, new_site: Callable[..., Site], loads: int
) -> None:
    site = new_site(loads=loads, points=400, vens=5)
    site.register(no_faults)
    before = len(no_faults.log())
    no_faults.switch(rate=0.2, kinds=FAULTS, seed=20250115, stall_s=0.5, retry_after_s=0)
    results = site.upload(no_faults, chunk_size=150, threads=8)
    no_faults.switch()
    assert Counter(result.state for result in results.values()) == {"done": loads}
    site.assert_stored(no_faults)
    seen = Counter(request.fault for request in no_faults.log(after=before))
    assert set(FAULTS) <= set(seen), "every fault has struck"
    assert sum(result.retries for result in results.values()) >= 0.15 * sum(seen.values())
