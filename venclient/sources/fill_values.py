"""What a dataset itself declares to be no data: its fill value, and the attributes that netCDF has for it.

HDF5's own default fill value, 0, declares nothing: zeros are real readings, and a dataset with that fill value looks
the same whether its writer chose it or not. An attribute that says 0 was put there on purpose, and holds.
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
    """An array of finite numbers, (K,) of the type that they are declared in, for each declaration."""
    return [values for values in map(_finite, _declared(dataset)) if len(values)]


@np.errstate(over="ignore")
def without_fill_values(rows: NDArray[np.generic], declared: list[Values]) -> NDArray[np.generic]:
    """The same rows, with NaN in place of declared values, also of times; then rows of integers become float64."""
    is_fill = np.zeros(rows.shape, bool)
    for values in declared:
        is_fill |= _are_among(rows, values)
    if not is_fill.any():
        return rows
    with_nan = rows if rows.dtype.kind == "f" else rows.astype(np.float64)
    with_nan[is_fill] = np.nan
    return with_nan


def _declared(dataset: h5py.Dataset) -> Iterator[Values]:
    properties = dataset.id.get_create_plist()
    if properties.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED and dataset.fillvalue != 0:
        yield np.array([dataset.fillvalue])
    for name in ATTRIBUTES:
        if name in dataset.attrs:
            yield _of_attribute(dataset.attrs, name)


def _of_attribute(attributes: h5py.AttributeManager, name: str) -> Values:
    """The numbers of an attribute, of whatever shape and type; none where they are no numbers."""
    attribute = attributes.get_id(name)
    nothing = np.empty(0)
    is_large = attribute.dtype.itemsize * math.prod(attribute.shape or ()) > MAX_ATTRIBUTE_BYTES
    if attribute.dtype.kind not in "iufSUO" or attribute.shape is None or is_large:
        return nothing
    values = np.ravel(attributes[name])
    if values.dtype.kind in "iuf":
        return values
    try:
        return values.astype(np.float64)  # a number that was written as text
    except (TypeError, ValueError):
        return nothing


def _finite(values: Values) -> Values:
    return values[np.isfinite(values)]


def _are_among(rows: NDArray[np.generic], values: Values) -> NDArray[np.bool_]:
    """Compared in the precision of the coarser of the two: -999.9 is another number in float32 than in float64."""
    if values.dtype.kind == rows.dtype.kind == "f":
        coarser = min(values.dtype, rows.dtype, key=lambda dtype: dtype.itemsize)
        rows, values = rows.astype(coarser, copy=False), values.astype(coarser, copy=False)
    return np.isin(rows, values)
