"""openpi's messages: msgpack in which an array is a map of its bytes, dtype and shape.

The maps of an array have bytes as keys, which msgpack writes as `bin`, so that they never collide
with an observation's own. Nothing that comes in is trusted: only plain numbers become arrays, and
only where bytes, dtype and shape agree.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from lwd.errors import LwdError

_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"
_NUMBERS = "biuf"
"""Kinds of dtypes that travel: booleans, integers, floats."""
MAX_DIMENSIONS = 8
MAX_ITEMS = 4096
"""Entries of one map or list; arrays travel as bytes and do not count."""


class RequestError(LwdError):
    """A message of a robot or of a server is not what the protocol says."""


def pack(message: Mapping[str, Any]) -> bytes:
    """Message as openpi's client and server write it; TypeError for what no dtype of it holds."""
    packed = msgpack.packb(message, default=_encoded)
    assert packed is not None
    return packed


def unpack(data: bytes) -> dict[str, Any]:
    """Inverse of `pack`; arrays are read-only views of `data`. RequestError says what is wrong."""
    try:
        message = msgpack.unpackb(
            data,
            object_hook=_decoded,
            strict_map_key=False,
            max_map_len=MAX_ITEMS,
            max_array_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except RequestError:
        raise
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise RequestError(
            f"{len(data)} bytes that are no msgpack message: {type(error).__name__}: {error}. "
            "Send what openpi_client.msgpack_numpy packs."
        ) from error
    if not isinstance(message, dict) or not all(isinstance(name, str) for name in message):
        raise RequestError(
            f"the message is a {type(message).__name__}; expected a map with names as keys."
        )
    return message


def _encoded(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind not in _NUMBERS:
        raise TypeError(f"an array of dtype {value.dtype} does not travel; use numbers.")
    if isinstance(value, np.ndarray):
        data = {b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
        return {_ARRAY: True, **data}
    if isinstance(value, np.generic):
        return {_SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__} does not travel; use arrays, numbers and texts.")


def _decoded(value: dict[Any, Any]) -> Any:
    if _ARRAY in value:
        return _array(value)
    if _SCALAR in value:
        dtype = _dtype(value)
        try:
            return dtype.type(value.get(b"data"))
        except (ValueError, TypeError, OverflowError) as error:
            raise RequestError(f"a scalar that is no {dtype}: {error}.") from error
    return value


def _array(value: dict[Any, Any]) -> np.ndarray:
    dtype, data, shape = _dtype(value), value.get(b"data"), value.get(b"shape")
    whole = (
        isinstance(data, bytes)
        and isinstance(shape, (list, tuple))
        and len(shape) <= MAX_DIMENSIONS
        and all(type(n) is int and n >= 0 for n in shape)
        and math.prod(shape) * dtype.itemsize == len(data)
    )
    if not whole:
        held = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise RequestError(f"an array of dtype {dtype} and shape {shape!r:.80} with {held}.")
    assert isinstance(data, bytes)
    return np.frombuffer(data, dtype).reshape(shape)


def _dtype(value: dict[Any, Any]) -> np.dtype:
    name = value.get(b"dtype")
    try:
        dtype = np.dtype(name) if isinstance(name, str) and len(name) <= 8 else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.kind not in _NUMBERS or dtype.itemsize == 0:
        raise RequestError(f"an array of dtype {name!r:.40}; numbers such as '<f4', '|u1' travel.")
    return dtype
