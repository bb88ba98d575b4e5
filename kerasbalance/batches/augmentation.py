"""Random changes of the slices that a step is fed: geometry for image and mask alike, intensity for the image.

Every draw comes from the generator that names the batch, so that a batch stays a pure function of seed, phase and
iteration: read-ahead, resume and another backend give the same slices.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.errors import explain

Images = NDArray[Any]
Masks = NDArray[Any]
Range = tuple[float, float]
Values = NDArray[np.float32]
Change = Callable[[Values, Values, np.random.Generator], tuple[Values, Values]]
"""Changes the values of an image, `(height, width, channels)`; returns them and the buffer that is then free."""


@dataclass(frozen=True)
class Augmentation:
    """Changes each slice of a batch at random; for `IndexedDataset(augment=...)`.

    Image and mask are turned, scaled and shifted together: the image linearly, the mask by the nearest pixel. What
    comes into view is `fill` in the image and background in the mask. An organ has a side, so nothing is mirrored;
    flips belong to the index. Each change is made to a slice with its own share (probability), its size is drawn
    uniformly from its range.

    Args:
        geometry_share: Share of the slices that are turned, scaled and shifted.
        rotate_deg: Largest angle to either side, in degrees.
        scale: Smallest and largest factor; above 1 enlarges.
        shift: Largest shift along each axis, as a share of the side.
        contrast_share: Share of the slices whose values are scaled and shifted.
        contrast: Smallest and largest factor of the values.
        brightness: Largest value that is added to either side, in HU.
        noise_share: Share of the slices with Gaussian noise.
        noise: Largest standard deviation of the noise, in HU.
        blur_share: Share of the slices that are blurred.
        blur_px: Smallest and largest standard deviation of the Gaussian kernel, in pixels.
        low_resolution_share: Share of the slices that are shrunk and enlarged again.
        low_resolution: Smallest and largest factor of shrinking.
        gamma_share: Share of the slices with a gamma curve inside `window`.
        gamma: Smallest and largest exponent.
        window: Lower and upper end of the values that the gamma curve bends, in HU; others are kept.
        fill: Value of what comes into view, in HU.

    Raises:
        ValueError: If a share lies outside 0 to 1, or a range is empty or not positive.

    Example:
        >>> x, y = np.zeros((2, 8, 8, 1), np.int16), np.zeros((2, 8, 8, 1), np.uint8)
        >>> changed, masks = Augmentation()(x, y, np.random.default_rng(0))
        >>> changed.shape, changed.dtype, masks.dtype
        ((2, 8, 8, 1), dtype('int16'), dtype('uint8'))

    Reference:
        Isensee et al., "nnU-Net", Nature Methods 18:203-211, 2021, doi 10.1038/s41592-020-01008-z (kinds and ranges).
    """

    geometry_share: float = 0.2
    rotate_deg: float = 15.0
    scale: Range = (0.85, 1.2)
    shift: float = 0.05
    contrast_share: float = 0.15
    contrast: Range = (0.9, 1.1)
    brightness: float = 20.0
    noise_share: float = 0.1
    noise: float = 15.0
    blur_share: float = 0.1
    blur_px: Range = (0.5, 1.0)
    low_resolution_share: float = 0.1
    low_resolution: Range = (0.5, 1.0)
    gamma_share: float = 0.1
    gamma: Range = (0.7, 1.5)
    window: Range = (-150.0, 250.0)
    fill: float = -1024.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_share") and not 0 <= value <= 1:
                raise ValueError(
                    explain(f"{field.name}={value!r}", "a share from 0 to 1", "pass 0 to leave it out")
                )
        for name in ("scale", "contrast", "blur_px", "low_resolution", "gamma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(
                    explain(
                        f"{name}={(low, high)!r}",
                        "two numbers above 0, the smaller first",
                        "swap or enlarge them",
                    )
                )
        if not self.window[0] < self.window[1]:
            raise ValueError(
                explain(f"window={self.window!r}", "the lower end first", "swap the two numbers")
            )

    def __call__(self, x: Images, y: Masks, rng: np.random.Generator) -> tuple[Images, Masks]:
        """Change a batch.

        Args:
            x: Integers or floats `(batch, height, width, channels)`; left as they are.
            y: Integer masks `(batch, height, width)` or `(batch, height, width, 1)`; left as they are.
            rng: Where every draw comes from.

        Returns:
            New arrays of the same shapes and dtypes. Whole numbers are rounded and kept inside their type.

        Raises:
            ValueError: If the arrays are not images with their masks, or OpenCV is not installed.
        """
        if x.ndim != 4 or y.shape[:3] != x.shape[:3]:
            raise ValueError(
                explain(
                    f"arrays of shape {x.shape} and {y.shape}",
                    "images (batch, height, width, channels) with masks of the same height and width",
                    "augment images only; leave out augment for other data",
                )
            )
        new_x, new_y = x.copy(), y.copy()
        buffers = np.empty((2, *x.shape[1:]), np.float32)
        for image, mask in zip(new_x, new_y, strict=True):
            if rng.random() < self.geometry_share:
                self._move(image, mask, rng)
            changes = [change for share, change in self._intensities() if rng.random() < share]
            if changes:
                _apply(image, changes, (buffers[0], buffers[1]), rng)
        return new_x, new_y

    def _move(self, image: Images, mask: Masks, rng: np.random.Generator) -> None:
        cv2 = _opencv()
        height, width = image.shape[:2]
        centre = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(
            centre, rng.uniform(-self.rotate_deg, self.rotate_deg), rng.uniform(*self.scale)
        )
        matrix[:, 2] += rng.uniform(-self.shift, self.shift, 2) * (width, height)
        for channel in range(image.shape[2]):
            image[..., channel] = _moved_image(image[..., channel], matrix, self.fill)
        planes = mask.reshape(height, width, -1)
        for channel in range(planes.shape[2]):
            _move_mask(planes[..., channel], matrix)

    def _intensities(self) -> list[tuple[float, Change]]:
        return [
            (self.blur_share, self._blur),
            (self.low_resolution_share, self._shrink),
            (self.contrast_share, self._contrast),
            (self.gamma_share, self._gamma),
            (self.noise_share, self._noise),
        ]

    def _blur(self, image: Values, spare: Values, rng: np.random.Generator) -> tuple[Values, Values]:
        _opencv().GaussianBlur(image, (0, 0), rng.uniform(*self.blur_px), dst=spare)
        return spare, image

    def _shrink(self, image: Values, spare: Values, rng: np.random.Generator) -> tuple[Values, Values]:
        cv2 = _opencv()
        height, width = image.shape[:2]
        factor = rng.uniform(*self.low_resolution)
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        shrunk = cv2.resize(image, small, interpolation=cv2.INTER_LINEAR if factor >= 0.5 else cv2.INTER_AREA)
        cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR, dst=spare)
        return spare, image

    def _contrast(self, image: Values, spare: Values, rng: np.random.Generator) -> tuple[Values, Values]:
        image *= np.float32(rng.uniform(*self.contrast))
        image += np.float32(rng.uniform(-self.brightness, self.brightness))
        return image, spare

    def _gamma(self, image: Values, spare: Values, rng: np.random.Generator) -> tuple[Values, Values]:
        low, high = np.float32(self.window[0]), np.float32(self.window[1])
        np.clip(image, low, high, out=spare)
        image -= spare  # what lies outside of the window stays outside of the curve
        spare -= low
        spare /= high - low
        _opencv().pow(spare, rng.uniform(*self.gamma), dst=spare)
        spare *= high - low
        image += spare
        image += low
        return image, spare

    def _noise(self, image: Values, spare: Values, rng: np.random.Generator) -> tuple[Values, Values]:
        cv2 = _opencv()
        cv2.setRNGSeed(
            int(rng.integers(1 << 31))
        )  # of this thread; four times as fast as NumPy's normal numbers
        cv2.randn(spare, 0, rng.uniform(0, self.noise))
        image += spare
        return image, spare


def _moved_image(plane: Images, matrix: NDArray[np.float64], fill: float) -> Images:
    """Return one channel of an image after an affine change, linear in between."""
    cv2 = _opencv()
    size = plane.shape[::-1]
    if plane.dtype != np.int16:
        moved: Images = cv2.warpAffine(np.ascontiguousarray(plane), matrix, size, borderValue=fill)
        return moved
    # OpenCV has a fast way for uint16, and none for int16: the same numbers, counted from the lowest.
    counted = np.bitwise_xor(plane, np.int16(-(1 << 15))).view(np.uint16)
    turned = cv2.warpAffine(counted, matrix, size, borderValue=fill + (1 << 15))
    back: Images = np.bitwise_xor(turned.view(np.int16), np.int16(-(1 << 15)))
    return back


def _move_mask(plane: Masks, matrix: NDArray[np.float64]) -> None:
    """Change one channel of a mask in place by the nearest pixel; only what is marked is looked at."""
    cv2 = _opencv()
    column, row, width, height = cv2.boundingRect((plane != 0).view(np.uint8))
    if not width:
        return
    corners = matrix @ [[column - 1, column + width] * 2, [row - 1] * 2 + [row + height] * 2, [1] * 4]
    reach = np.stack([np.floor(corners.min(axis=1)), np.ceil(corners.max(axis=1)) + 1])
    (left, top), (right, bottom) = np.clip(reach, 0, plane.shape[::-1]).astype(int).tolist()
    source = plane.copy()
    plane[...] = 0
    if left < right and top < bottom:
        there = matrix - [[0, 0, left], [0, 0, top]]
        size = (right - left, bottom - top)
        plane[top:bottom, left:right] = cv2.warpAffine(source, there, size, flags=cv2.INTER_NEAREST)


def _apply(
    image: Images, changes: list[Change], buffers: tuple[Values, Values], rng: np.random.Generator
) -> None:
    """Change the values of one image `(height, width, channels)` in place, as float32 in between."""
    values, spare = buffers
    values[...] = image
    for change in changes:
        values, spare = change(values, spare, rng)
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        np.clip(np.rint(values, out=values), limits.min, limits.max, out=values)
    image[...] = values


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise ValueError(
            explain("an augmentation without OpenCV", "the package opencv-python-headless",
                    "pip install 'kerasbalance[augment]'")
        ) from None  # fmt: skip
    return cv2
