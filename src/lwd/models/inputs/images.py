"""Pictures as the vision tower takes them: square uint8, resized without distortion."""

import numpy as np
import simplejpeg

from lwd.errors import ConfigError
from lwd.models.inputs.prepared import Image


def pixels(camera: str, image: Image) -> np.ndarray:
    """[height, width, 3] uint8; ConfigError says what the image is instead."""
    if isinstance(image, bytes):
        try:
            return simplejpeg.decode_jpeg(image)
        except ValueError as error:
            raise ConfigError(f"camera {camera!r} gave a JPEG that is damaged: {error}.") from error
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3 and image.size:
        return image
    hint = ""
    if image.ndim == 3 and image.shape[0] == 3:
        hint = " The channels are its first axis: transpose it with (1, 2, 0)."
    elif np.issubdtype(image.dtype, np.floating):
        hint = " Scale it to 0 .. 255 and convert it."
    raise ConfigError(
        f"camera {camera!r} gave an image of shape {image.shape} and type {image.dtype}; expected "
        f"[height, width, 3] uint8.{hint}"
    )


def resize_with_pad(image: np.ndarray, side: int) -> np.ndarray:
    """[height, width, 3] uint8 to [side, side, 3]: scaled to fit, centred on black.

    Bilinear with antialiasing by Pillow, the same bytes as openpi's own client and data loader.
    """
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    from PIL import Image

    ratio = max(width / side, height / side)
    new_width, new_height = int(width / ratio), int(height / ratio)
    small = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
    padded = np.zeros((side, side, 3), np.uint8)
    top, left = (side - new_height) // 2, (side - new_width) // 2
    padded[top : top + new_height, left : left + new_width] = np.asarray(small)
    return padded
