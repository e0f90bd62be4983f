"""The promise under fire: a fifth of all requests fails in every way there is, and the run ends complete and exact."""

from collections import Counter
from collections.abc import Callable

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site

FAULTS = ["500", "503", "429", "401", "reset_before", "reset_after", "timeout", "html", "html_before", "short"]


def test_a_run_of_300_loads_with_faults_on_a_fifth_of_all_requests_ends_complete_and_exact(
    no_faults: ReferenceVtn, new_site: Callable[..., Site]
) -> None:
    site = new_site(loads=300, points=400, vens=5)
    site.register(no_faults)
    before = len(no_faults.log())
    no_faults.switch(rate=0.2, kinds=FAULTS, seed=20250115, stall_s=2)
    results = site.upload(no_faults, chunk_size=150, threads=8)
    no_faults.switch()
    assert Counter(result.state for result in results.values()) == {"done": 300}
    site.assert_stored(no_faults)
    seen = Counter(request.fault for request in no_faults.log(after=before))
    assert set(FAULTS) <= set(seen), "every fault has struck"
    assert sum(result.retries for result in results.values()) >= 0.15 * sum(seen.values())
