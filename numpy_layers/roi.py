"""Pooling of regions of interest."""

import numpy as np

from numpy_layers.arguments import floats, half_in_single, numbers, pair, real, require


@half_in_single
def roi_pool(input, boxes, output_size, spatial_scale=1.0) -> np.ndarray:
    """Max-pools the region of each box to one size, whatever the size of the box.

    A box's corners, times `spatial_scale`, are rounded to whole pixels, halves away from 0, and both belong to it; it
    is at least one pixel wide and high. Bin i of b along a side of length l reaches from floor(i l / b) up to
    ceil((i + 1) l / b), so that neighbours may share a pixel. What of a bin lies outside the map is left out; a bin of
    which nothing is left gives 0.

    Args:
        input: [n, c, h, w].
        boxes: [k, 5], floating point or whole numbers; each row: the index of an image, x1, y1, x2, y2. Or a list with
            an array [k, 4] for each image.
        output_size: an int, or one for rows and one for columns.
        spatial_scale: the map's pixels for one unit of the boxes.

    Returns:
        [k, c, output_h, output_w].

    Source: torchvision.ops.roi_pool; Girshick, "Fast R-CNN", 2015, section 2.1.
    """
    input = floats("input", input, "n", "c", "h", "w")
    if isinstance(boxes, list | tuple) and boxes and all(np.ndim(box) == 2 for box in boxes):
        of_images = [numbers(f"boxes[{index}]", box, "k", 4).astype(input.dtype) for index, box in enumerate(boxes)]
        boxes = np.concatenate([np.insert(box, 0, index, axis=1) for index, box in enumerate(of_images)])
    boxes = numbers("boxes", boxes, "k", 5).astype(input.dtype)
    output_size = pair("output_size", output_size, 1)
    n, c, h, w = input.shape
    images = boxes[:, 0]
    wrong = images[~((images >= 0) & (images < n) & (images == np.trunc(images)))]
    require(wrong.size == 0, "the image index of boxes", wrong[:1].tolist(), f"whole numbers from 0 to {n - 1}")
    require(bool(np.isfinite(boxes).all()), "boxes", boxes[~np.isfinite(boxes).all(1)][:1].tolist(), "finite numbers")

    corners = _rounded(boxes[:, 1:] * input.dtype.type(real("spatial_scale", spatial_scale)))
    output = np.zeros((len(boxes), c, *output_size), input.dtype)
    for result, image, (x1, y1, x2, y2) in zip(output, images.astype(int), corners, strict=True):
        rows = _bins(y1, y2, output_size[0], h, input.dtype)
        columns = _bins(x1, x2, output_size[1], w, input.dtype)
        bands = _max_of_bins(input[image], rows)  # [c, output_h, w]
        maxima = _max_of_bins(bands.swapaxes(1, 2), columns).swapaxes(1, 2)
        np.copyto(result, maxima, where=rows.any(1)[:, None] & columns.any(1))
    return output


def _max_of_bins(maps: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """The maximum of maps [c, size, other] over the positions of each bin, bool [bins, size]: [c, bins, other]."""
    repeated = np.broadcast_to(maps[:, None], (len(maps), *bins.shape, maps.shape[2]))
    return repeated.max(axis=2, where=bins[:, :, None], initial=-np.inf)


def _rounded(values: np.ndarray) -> np.ndarray:
    """To the nearest whole number, halves away from 0 (NumPy's own rounding takes halves to even numbers)."""
    whole = np.trunc(values)
    return whole + np.sign(values) * (np.abs(values - whole) >= 0.5)


def _bins(first: float, last: float, bins: int, size: int, dtype: np.dtype) -> np.ndarray:
    """Which of the `size` positions of an axis belong to each bin of a box's side: bool [bins, size]."""
    # In the input's precision, as the source has it: 7 / 3 × 3 may be a little above 7, and reach one pixel further.
    length = np.maximum(last - first + 1, 1).astype(dtype) / dtype.type(bins)
    edges = np.arange(bins + 1).astype(dtype) * length
    starts, ends = first + np.floor(edges[:-1]), first + np.ceil(edges[1:])
    positions = np.arange(size)
    return (positions >= starts[:, None]) & (positions < ends[:, None])
