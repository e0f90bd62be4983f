"""Samples, each in a folder of its own."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from demo.sample_data import SampleSummary, write_sample


@dataclass(frozen=True)
class Sample:
    """A sample in a folder, and what it holds."""

    db: Path
    h5: Path
    summary: SampleSummary

    def rows(self, sql: str) -> list[Any]:
        """Rows of the resources database; single values where the query has one column."""
        with closing(sqlite3.connect(self.db)) as connection:
            found = connection.execute(sql).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def series(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        """Every dataset by its meter and component."""
        with h5py.File(self.h5) as file:
            return {
                (meter, component): load["power"][...]
                for meter, group in file["meters"].items()
                for component, load in group.items()
            }


def sample_in(
    folder: Path, *, vens: int = 3, loads_per_ven: int = 46, meters: int = 12, points: int = 48, seed: int = 1
) -> Sample:
    """Write a sample."""
    db, h5 = folder / "resources.db", folder / "load_data.h5"
    summary = write_sample(db, h5, vens=vens, loads_per_ven=loads_per_ven, meters=meters, points=points, seed=seed)
    return Sample(db, h5, summary)
