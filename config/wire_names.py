"""The wires that there are, by the names that `VTN_WIRE` and `--wire` take. Imports nothing that takes time."""

from typing import Literal

WireName = Literal["bulk", "openadr-3.1", "openadr-3.0.1"]
