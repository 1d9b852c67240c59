"""How film and a digital detector show the same attenuation.

Film: an S-shaped characteristic curve, grain, fog in the empty part, a lead label and
sometimes a strip of bare film at the edge. Digital ("for presentation"): thickness
equalised toward the skin, unsharp masking, quantum noise, an empty background of zero,
and a tone curve that gives the grey levels of real digital mammograms.
"""

from __future__ import annotations

import cv2
import numpy as np

from dm_preprocess.phantom_anatomy import Breast

DOMAINS = ("film", "digital")
QUANTUM_NOISE = (0.022, 0.042)
"""Deviation of a digital image's noise, in units of attenuation: sharpening brings out
the grain of the quanta. A network that has only seen film takes it for calcifications;
this is most of what makes the digital images another domain."""
DIGITAL_PERCENTS = (0, 1, 5, 25, 50, 75, 95, 99, 100)
DIGITAL_LEVELS = (0.02, 0.064, 0.096, 0.158, 0.241, 0.37, 0.636, 0.88, 1.0)
"""Mean within-breast percentiles of four 16-bit digital mammograms of the NYU
metarepository (nyukat/mammography_metarepository), as a fraction of full scale."""


def show_film(breast: Breast, rng: np.random.Generator, *, flipped: bool) -> np.ndarray:
    """Expose a film.

    Args:
        breast: With its lesions already in its attenuation.
        rng: Of this view's film.
        flipped: The chest wall is on the right.

    Returns:
        float32 (H, W) in [0, 1], bright where dense.
    """
    height, width = breast.mask.shape
    middle, slope = rng.uniform(1.0, 1.25), rng.uniform(2.8, 4.0)
    curve = 1 / (1 + np.exp(-slope * (breast.attenuation - middle)))
    foot = 1 / (1 + np.exp(slope * middle))
    shown = (curve - foot) / (1 - foot)
    fog = rng.uniform(0.01, 0.07)
    shown = fog + (0.97 - fog) * np.clip(shown, 0, 1) ** rng.uniform(0.8, 1.25)
    shown = (shown * rng.uniform(0.85, 1.05)).astype(np.float32)
    away = shown[:, ::-1] if flipped else shown
    if rng.uniform() < 0.25:
        away[:, width - int(width * rng.uniform(0.01, 0.03)) :] = rng.uniform(0.7, 1)
    if rng.uniform() < 0.7:
        _add_label(away, rng, mirrored=flipped)
    grain = rng.standard_normal((height, width), dtype=np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), height / 1000)
    shown += grain * np.float32(0.015 * rng.uniform(0.6, 1.4) / grain.std())
    return np.clip(shown, 0, 1)


def show_digital(
    breast: Breast, rng: np.random.Generator, *, flipped: bool
) -> np.ndarray:
    """Read out and process a digital detector; arguments as `show_film`."""
    height = breast.mask.shape[0]
    signal = breast.attenuation / np.maximum(breast.thickness, 0.25) ** 0.8
    signal = np.where(breast.mask, signal, 0)
    sharpening = rng.uniform(0.5, 2.2)
    sigma = height / rng.uniform(20, 60)
    signal = signal + sharpening * _local(signal, breast.mask, sigma)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), height / 700)
    signal = signal + np.float32(rng.uniform(*QUANTUM_NOISE) / noise.std()) * noise
    inside = signal[breast.mask & ~breast.muscle]
    found = np.percentile(inside[::7], DIGITAL_PERCENTS)
    found[-1] = found[-2] + 1.0 * (found[-2] - found[4])
    wanted = np.asarray(DIGITAL_LEVELS) ** rng.uniform(0.88, 1.14)
    wanted = wanted * rng.uniform(0.88, 1.0)
    shown = np.interp(signal, found, wanted).astype(np.float32)
    return np.where(breast.mask, shown, 0).astype(np.float32)


def _local(signal: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Local contrast: what exceeds a blur that knows only the breast."""
    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
    low = cv2.GaussianBlur(signal.astype(np.float32), (0, 0), sigma)
    return np.where(mask, (signal - low / np.maximum(weight, 1e-3)), 0)


def _add_label(shown: np.ndarray, rng: np.random.Generator, *, mirrored: bool) -> None:
    """A lead label with letters in a corner away from the chest wall."""
    height, width = shown.shape
    tall, wide = int(height * rng.uniform(0.07, 0.11)), int(width * 0.11)
    row = int(height * (0.03 if rng.uniform() < 0.5 else 0.86))
    col = width - wide - int(width * rng.uniform(0.04, 0.07))
    tile = np.zeros((tall, wide), np.uint8)
    text = str(rng.choice(["MLO", "CC", "L", "R", "17", "42"]))
    place = (wide // 10, int(tall * 0.7))
    cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, wide / 75, 255, 1)
    tile = tile[:, ::-1] if mirrored else tile
    bright = rng.uniform(0.7, 0.95)
    shown[row : row + tall, col : col + wide] = bright * (1 - tile / np.float32(290))
