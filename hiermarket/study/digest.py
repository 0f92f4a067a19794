"""A fingerprint of values: equal inputs, equal digest, whatever the process or the machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

if TYPE_CHECKING:
    from hashlib import blake2b

#: Bytes read at once from a file.
CHUNK = 1 << 20


def digest(*values: object) -> str:
    """Return a hexadecimal fingerprint of plain values, arrays, tables and dataclasses of them.

    Parameters
    ----------
    *values : None, bool, number, str, bytes, Enum, timestamp, array, Dataset, DataFrame, mapping, sequence or dataclass
        In order. Attributes of arrays (units, long names) do not count.

    Raises
    ------
    TypeError
        For any other kind of value: nothing is left out without a word.

    >>> digest({"b": 1, "a": 2.0}) == digest({"a": 2.0, "b": 1})
    True
    >>> digest("1") == digest(1)
    False
    """
    found = hashlib.blake2b(digest_size=20)
    for value in values:
        _feed(found, value)
    return found.hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the fingerprint of a file's bytes."""
    found = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            found.update(block)
    return found.hexdigest()


def _feed(into: blake2b, value: object) -> None:  # noqa: PLR0912  (a branch for every kind of value)
    # a kind and a length go before every value, so that ("ab", "c") is not ("a", "bc")
    if value is None or isinstance(value, bool | int | float | str | Enum | np.generic):
        plain = value.value if isinstance(value, Enum) else value.item() if isinstance(value, np.generic) else value
        _raw(into, type(plain).__name__, repr(plain).encode())
    elif isinstance(value, bytes):
        _raw(into, "bytes", value)
    elif isinstance(value, Path):
        _raw(into, "path", str(value).encode())
    elif isinstance(value, pd.Timestamp):
        _raw(into, "time", value.isoformat().encode())
    elif isinstance(value, np.ndarray):
        _array(into, value)
    elif isinstance(value, xr.Dataset):
        _raw(into, "dataset", str(len(value.variables)).encode())
        for name in sorted(value.variables, key=str):
            variable = value[name]
            _raw(into, "variable", json.dumps([str(name), [str(dim) for dim in variable.dims]]).encode())
            _array(into, np.asarray(variable.values))
    elif isinstance(value, xr.DataArray):
        _feed(into, value.rename("_").to_dataset())
    elif isinstance(value, pd.DataFrame):
        _feed(into, {str(column): value[column].to_numpy() for column in value})
    elif isinstance(value, pd.Index | pd.Series):
        _array(into, value.to_numpy())
    elif isinstance(value, Mapping):
        _raw(into, "mapping", str(len(value)).encode())
        for key in sorted(value, key=str):
            _feed(into, str(key))
            _feed(into, value[key])
    elif isinstance(value, Sequence):
        _raw(into, "sequence", str(len(value)).encode())
        for item in value:
            _feed(into, item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _raw(into, "dataclass", type(value).__name__.encode())
        for field in dataclasses.fields(value):
            _feed(into, field.name)
            _feed(into, getattr(value, field.name))
    else:
        raise TypeError(f"no fingerprint for a value of the kind {type(value).__name__}")


def _array(into: blake2b, values: np.ndarray) -> None:
    if values.dtype.kind in "OUST":  # the width of strings, and how they are kept, is no content
        _raw(into, f"strings{values.shape}", json.dumps([str(item) for item in values.ravel()]).encode())
    else:
        _raw(into, f"{values.dtype.str}{values.shape}", np.ascontiguousarray(values).tobytes())


def _raw(into: blake2b, kind: str, content: bytes) -> None:
    into.update(f"{kind}:{len(content)}:".encode())
    into.update(content)
