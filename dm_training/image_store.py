"""The pixels of samples, read when asked for or held in memory.

Nothing here needs tensorflow until an image is wanted as a tensor.
"""

from __future__ import annotations

import numpy as np

from dm_preprocess import images
from dm_training.samples import Samples


class ImageStore:
    """The pixels of samples at one size: read when asked for, or held in memory.

    Args:
        samples: What to read.
        height, width: Size of every image; a file of another size is brought to it
            by area averaging (`dm_preprocess.images.fit`). None keeps each file's own.
        fit: "squash" or "pad", for files of another size.
        in_memory: Decode all once, 2 bytes a pixel.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        height: int | None,
        width: int | None,
        fit: str = "squash",
        in_memory: bool = False,
    ):
        self.paths = samples.paths
        self.height, self.width, self.fit = height, width, fit
        self._pixels = self._load() if in_memory else None

    def read(self, index: int) -> np.ndarray:
        """The raw grey image number `index`, uint16 (H, W)."""
        if self._pixels is not None:
            return self._pixels[index]
        return self._decode(int(index))

    def tensor(self, index):
        """The same inside tf.data: float32 (H, W, 1), raw grey levels.

        The decoder releases the interpreter's lock, so parallel calls run in parallel.
        """
        import tensorflow as tf

        image = tf.numpy_function(self.read, [index], tf.uint16)
        image.set_shape((self.height, self.width))
        return tf.cast(image[..., None], tf.float32)

    def _decode(self, index: int) -> np.ndarray:
        image = images.read_png(self.paths[index])
        if self.height is None or image.shape == (self.height, self.width):
            return image
        return images.fit(image, self.height, self.width, mode=self.fit)[0]

    def _load(self) -> np.ndarray:
        from joblib import Parallel, delayed

        work = (delayed(self._decode)(i) for i in range(len(self.paths)))
        return np.stack(Parallel(n_jobs=-1, prefer="threads")(work))
