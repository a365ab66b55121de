"""Converts pictures of any format, size and mode to images of a data set's shape."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiment.errors import UserError
from experiment.reading import opened

_LARGEST_FILE = 64 * 2**20
_MOST_PIXELS = 64 * 2**20  # 8,000 by 8,000


def read_square(path: Path, shape: tuple[int, int, int], formats: Sequence[str] | None = None) -> np.ndarray:
    """Reads a picture as uint8 [h, w, c]: rotated according to its EXIF data, centre-cropped and resized.

    Args:
        path: a file in a format of Pillow's; transparent pixels become white, 16 bits per channel become 8.
        shape: height, width and channels (1 or 3).
        formats: the accepted formats, by Pillow's names (default: all but EPS, which Ghostscript would execute).

    Raises:
        UserError: the file is not a picture, or too large, or has pixels that are not finite.
    """
    from PIL import Image, ImageOps  # comes with matplotlib

    height, width, channels = shape
    with opened(path, _LARGEST_FILE, follow=True) as file, _opened_picture(file, path, formats) as picture:
        if picture.width * picture.height > _MOST_PIXELS:
            raise UserError(f"{path}: {picture.width} x {picture.height} pixels exceed the limit of {_MOST_PIXELS:,}")
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith(("I", "F")):  # 16 bits and more
            values = np.asarray(picture, np.float64)
            if not np.isfinite(values).all():
                raise UserError(f"{path}: its pixels are not all finite numbers")
            # Whole numbers of 32 bits may hold bytes; floats are taken to be from 0 to their largest.
            whole = 255 if picture.mode == "I" and values.max() <= 255 else 65535
            largest = whole if picture.mode.startswith("I") else max(values.max(), 1e-9)
            if isinstance(clear := picture.info.get("transparency"), int):
                values[values == clear] = largest
            picture = Image.fromarray(np.clip(np.rint(values * (255 / largest)), 0, 255).astype(np.uint8))
        if picture.has_transparency_data:
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        cropped = ImageOps.fit(picture.convert("RGB" if channels == 3 else "L"), (width, height), Image.Resampling.BOX)
    return np.asarray(cropped).reshape(shape)


def _opened_picture(file, path: Path, formats: Sequence[str] | None):
    from PIL import Image, UnidentifiedImageError

    if formats is None:
        Image.init()  # knows all formats
        formats = [name for name in Image.ID if name != "EPS"]
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise UserError(f"{path} is not a picture in a format that can be read") from None
