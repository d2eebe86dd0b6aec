"""ReLU, local response norm over two channels and max pool of 3 px with stride 2, in one pass.

One by one these steps read and write the largest feature maps of a network many times, and take longer
than its convolutions.
"""

import numba
import numpy as np

_WINDOW, _STRIDE = 3, 2


def normalised_pool(features: np.ndarray, alpha: float, k: float) -> np.ndarray:
    """Return pooled ``x * (k + alpha / 2 * (x_c^2 + x_(c-1)^2)) ** -0.75`` of ``x = max(x, 0)``.

    Args:
        features: float32, channels last: shape ``(B, H, W, C)``.
        alpha: Weight of the mean square.
        k: What is added to it.

    Returns:
        Features, float32, shape ``(B, (H - 3) // 2 + 1, (W - 3) // 2 + 1, C)``.
    """
    batch, height, width, channels = features.shape
    shape = ((height - _WINDOW) // _STRIDE + 1, (width - _WINDOW) // _STRIDE + 1)
    pooled = np.empty((batch, *shape, channels), dtype=np.float32)
    for image, out in zip(features, pooled, strict=True):
        _normalise_and_pool(image, np.float32(alpha / 2), np.float32(k), out)
    return pooled


# numpy's error model: a division by zero is infinite or NaN, as in torch.
@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _normalise_and_pool(
    image: np.ndarray, half: np.float32, k: np.float32, out: np.ndarray
) -> None:
    height, width, channels = image.shape
    rows, columns = out.shape[0], out.shape[1]
    normed = np.empty((height, width, channels), dtype=np.float32)
    for y in range(height):
        for x in range(width):
            pixel, to = image[y, x], normed[y, x]
            value = max(pixel[0], np.float32(0))
            root = np.sqrt(k + half * value * value)
            to[0] = value / (root * np.sqrt(root))
            for c in range(1, channels):
                value = max(pixel[c], np.float32(0))
                before = max(pixel[c - 1], np.float32(0))
                root = np.sqrt(k + half * (value * value + before * before))
                to[c] = value / (root * np.sqrt(root))
    for y in range(rows):
        for x in range(columns):
            to = out[y, x]
            to[:] = normed[2 * y, 2 * x]
            for dy in range(3):
                for dx in range(3):
                    pixel = normed[2 * y + dy, 2 * x + dx]
                    for c in range(channels):
                        to[c] = max(to[c], pixel[c])
