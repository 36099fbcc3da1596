"""Small pictures that a browser can show."""

import numpy as np
import simplejpeg


def jpeg(tick: int) -> bytes:
    """A picture of one colour."""
    pixels = np.full((32, 32, 3), (tick * 7 % 256, 120, 200), np.uint8)
    return simplejpeg.encode_jpeg(pixels)
