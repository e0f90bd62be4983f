"""A short part of `make chaos`: one round of each kind, of the same dice each time."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.chaos_rounds import FAKETIME, KINDS
from tests.chaos_world import World
from tests.system_postgresql import SERVERS

SEED = 20250115
# A run that is frozen for longer than its lease takes 40 s: tests/test_lease.py has it in short.
ALWAYS = ("faults", "run killed", "repaired meanwhile")
SHORT = [pytest.param(kind, marks=() if kind in ALWAYS else pytest.mark.long) for kind in KINDS if kind != "run frozen"]


@pytest.fixture(scope="module")
def world(prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("chaos"), prefect_url) as made:
        yield made


@pytest.mark.parametrize("kind", SHORT)
def test_after_it_everything_is_as_it_should_be(world: World, kind: str) -> None:
    if kind == "clock jumps" and not FAKETIME.exists():
        pytest.skip("there is no libfaketime here")
    if kind == "database killed" and not SERVERS:
        pytest.skip("there is no PostgreSQL here that can be killed")
    if kind == "disk full" and (os.geteuid() or not shutil.which("mount")):
        pytest.skip("a small disk takes root")
    world.play(list(KINDS).index(kind), kind, SEED, KINDS[kind])


@pytest.mark.long
def test_a_second_round_of_random_faults(world: World) -> None:
    world.play(100, "faults", SEED, KINDS["faults"])
