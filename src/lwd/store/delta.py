"""The difference between two artifacts: the XOR of their bytes, in byte planes, under zstd.

Consecutive versions of a policy have the same layout and nearly the same numbers, so the XOR of
their bits is mostly zero in the planes of sign, exponent and first mantissa bits. It is lossless
for every dtype. What comes out is checked by whoever knows the hash of the newer artifact.
"""

import numpy as np
import zstandard

from lwd.errors import IntegrityError

_LEVEL = 3
_WIDTHS = (2, 4)
_SAMPLE = 1 << 20


def difference(old: bytes, new: bytes) -> bytes | None:
    """Bytes that make `new` of `old`; None unless both have the same size, a multiple of four."""
    if len(old) != len(new) or len(new) % max(_WIDTHS):
        return None
    flipped = np.frombuffer(old, np.uint8) ^ np.frombuffer(new, np.uint8)
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    middle = max(0, len(flipped) // 2 - _SAMPLE // 2) // 4 * 4
    sample = flipped[middle : middle + _SAMPLE]

    def _packed(flips: np.ndarray, width: int) -> bytes:
        planes = np.ascontiguousarray(flips.reshape(-1, width).T)
        return compressor.compress(planes.ravel().data)

    # Bytes of a number: bfloat16 or float32, whichever packs a sample better.
    width = min(_WIDTHS, key=lambda width: len(_packed(sample, width)))
    return bytes([width]) + _packed(flipped, width)


def apply(old: bytes, delta: bytes) -> bytes:
    """The newer artifact; IntegrityError if `delta` is damaged or does not fit `old`."""
    width = delta[0] if delta else 0
    if width not in _WIDTHS or len(old) % width:
        raise IntegrityError(f"a delta has numbers of {width} bytes; expected one of {_WIDTHS}.")
    try:
        size = zstandard.frame_content_size(delta[1:])
        if size != len(old):  # before anything of that size is allocated
            raise IntegrityError(f"a delta of {size} bytes does not fit {len(old)} bytes.")
        planes = zstandard.ZstdDecompressor().decompress(delta[1:], max_output_size=len(old))
    except zstandard.ZstdError as error:
        raise IntegrityError(f"a delta is damaged: {error}.") from error
    new = bytearray(old)  # changed in place: artifacts are large, and robots' memories are not
    numbers = np.frombuffer(new, np.uint8).reshape(-1, width)
    for place, plane in enumerate(np.frombuffer(planes, np.uint8).reshape(width, -1)):
        numbers[:, place] ^= plane
    return bytes(new)
