"""The pixels of samples at one size: read when asked for, held in memory or cached.

Nothing here needs tensorflow.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from dm_preprocess import images
from dm_training.pixel_cache import PixelCache
from dm_training.samples import Samples


class ImageStore:
    """The pixels of samples at one size.

    Args:
        samples: What to read.
        height, width: Size of every image; a file of another size is brought to it
            by area averaging (`dm_preprocess.images.fit`). None keeps each file's own.
        fit: "squash" or "pad", for files of another size.
        in_memory: Decode all once and hold them, 2 bytes a pixel.
        cache: A folder for decoded pixels (`PixelCache`), built where they are
            missing; None decodes a file each time it is read. Needs a size.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        height: int | None,
        width: int | None,
        fit: str = "squash",
        in_memory: bool = False,
        cache: str | os.PathLike | None = None,
    ):
        self.paths = samples.paths
        self.height, self.width, self.fit = height, width, fit
        self._pixels = self._load() if in_memory else None
        self._cache = None
        if cache is not None and not in_memory:
            self._cache = PixelCache(cache, self.paths, self._decode, height=height,
                                     width=width, fit=fit)  # fmt: skip

    @property
    def kept(self) -> str:
        """Where decoded pixels are: "memory", "cache" or "files" (nowhere)."""
        if self._pixels is not None:
            return "memory"
        return "files" if self._cache is None else "cache"

    @property
    def decoded(self) -> int:
        """Images that the cache did not hold yet."""
        return self._cache.decoded if self._cache else 0

    def read(self, index: int) -> np.ndarray:
        """The raw grey image number `index`, uint16 (H, W); not to be written to."""
        if self._pixels is not None:
            return self._pixels[index]
        if self._cache is not None:
            return self._cache.read(index)
        return self._decode(self.paths[index])

    def batch(self, indices: Sequence[int]) -> np.ndarray:
        """Several images as a network takes them: float32 (N, H, W, 1), raw grey."""
        return np.stack([self.read(i) for i in indices])[..., None].astype(np.float32)

    def _decode(self, path: str) -> np.ndarray:
        image = images.read_png(path)
        if self.height is None or image.shape == (self.height, self.width):
            return image
        return images.fit(image, self.height, self.width, mode=self.fit)[0]

    def _load(self) -> np.ndarray:
        from joblib import Parallel, delayed

        work = (delayed(self._decode)(path) for path in self.paths)
        return np.stack(Parallel(n_jobs=-1, prefer="threads")(work))
