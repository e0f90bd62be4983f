"""Values that a dataset declares as missing data: its HDF5 fill value, and netCDF's attributes.

HDF5's default fill value, 0, is ignored: zeros are real readings, and the file does not say whether its writer chose
it. An attribute that says 0 was set on purpose and counts.
"""

import math
from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

# netCDF Users' Guide, "Attribute Conventions"; CF conventions, section 2.5.1.
ATTRIBUTES = ("_FillValue", "missing_value")
MAX_ATTRIBUTE_BYTES = 64_000

Values = NDArray[np.generic]


def declared_fill_values(dataset: h5py.Dataset) -> list[Values]:
    """For each declaration, its finite values: (K,), in the declared type."""
    finite = (values[np.isfinite(values)] for values in _declared(dataset))
    return [values for values in finite if len(values)]


@np.errstate(over="ignore")
def without_fill_values(rows: NDArray[np.generic], declared: list[Values]) -> NDArray[np.generic]:
    """Replace declared values by NaN, also in timestamps. Integer rows then become float64; floats change in place."""
    if not declared:
        return rows
    is_fill = np.zeros(rows.shape, bool)
    for values in declared:
        is_fill |= _is_in(rows, values)
    if not is_fill.any():
        return rows
    with_nan = rows if rows.dtype.kind == "f" else rows.astype(np.float64)
    with_nan[is_fill] = np.nan
    return with_nan


def _declared(dataset: h5py.Dataset) -> Iterator[Values]:
    properties = dataset.id.get_create_plist()
    if properties.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED and dataset.fillvalue != 0:
        yield np.array([dataset.fillvalue])
    for name in ATTRIBUTES if len(dataset.attrs) else ():
        if name in dataset.attrs:
            yield _attribute_values(dataset.attrs, name)


def _attribute_values(attributes: h5py.AttributeManager, name: str) -> Values:
    """The numbers in an attribute of any shape and type, flattened; empty if it has none."""
    attribute = attributes.get_id(name)
    nothing = np.empty(0)
    # Checked before it is read: the size comes from the file.
    is_large = attribute.dtype.itemsize * math.prod(attribute.shape or ()) > MAX_ATTRIBUTE_BYTES
    if attribute.dtype.kind not in "iufSUO" or attribute.shape is None or is_large:
        return nothing
    values = np.ravel(attributes[name])
    if values.dtype.kind in "iuf":
        return values
    try:
        return values.astype(np.float64)  # numbers written as text
    except (TypeError, ValueError):
        return nothing


def _is_in(rows: NDArray[np.generic], values: Values) -> NDArray[np.bool_]:
    """Compare in the lower precision of the two: -999.9 in float32 is not -999.9 in float64."""
    if values.dtype.kind == rows.dtype.kind == "f":
        lower = min(values.dtype, rows.dtype, key=lambda dtype: dtype.itemsize)
        rows, values = rows.astype(lower, copy=False), values.astype(lower, copy=False)
    return np.isin(rows, values)
