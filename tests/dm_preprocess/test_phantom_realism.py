"""Limits that keep the synthetic mammograms comparable with real ones.

Real figures were measured once on public images and stand here as numbers:

- Lesion contrast: the 119 circled findings of mini-MIAS (322 films, Suckling et al.
  1994) reduced to 512 x 512 by area average, 8 bit; circle as listed (row = 511 - y),
  ring from 1 to 2 radii, breast = grey level above 18; the two findings whose circle
  or ring hold no such pixel are left out.
- Grey levels of digital images: four 16-bit full-field digital mammograms of the NYU
  metarepository, CC; breast = above 2 % of full scale.
- Spectrum: Burgess, Jacobson and Judy, Med Phys 28 (2001): power 1/f^2.8 on average,
  2 to 4 from woman to woman.
"""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dm_preprocess.phantom import draw_case, render_case
from dm_preprocess.phantom_anatomy import power_law_noise
from dm_preprocess.phantom_lesions import measure_contrast

HEIGHT, WIDTH = 384, 288
MIAS_CONTRAST_QUARTILES = (0.556, 0.974, 1.358)
"""Of all; calcifications 0.26, 0.44, 0.64; well-defined masses 1.00, 1.19, 1.40;
spiculated masses 0.60, 1.02, 1.47."""
DIGITAL_PERCENTILES = {5: 0.096, 25: 0.158, 50: 0.241, 75: 0.370, 95: 0.636}


def cases(domain, women, seed=1):
    for index in range(women):
        case = draw_case(seed, index, domain=domain)
        for view in ("CC", "MLO"):
            yield index, case, render_case(case, view, height=HEIGHT, width=WIDTH)


def spectral_exponent(square):
    """Slope of the radially averaged power against frequency, both logarithmic.

    A Hann window over the square; frequencies from 3 cycles a square (below, the
    window) to 0.2 cycles a pixel (above, grain).
    """
    side = len(square)
    window = np.outer(np.hanning(side), np.hanning(side))
    power = abs(np.fft.fft2((square - square.mean()) * window)) ** 2
    axis = np.fft.fftfreq(side)
    frequency = np.hypot(axis[:, None], axis[None, :])
    edges = np.geomspace(3 / side, 0.2, 9)
    found = [
        power[(frequency >= low) & (frequency < high)].mean()
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    middles = np.sqrt(edges[:-1] * edges[1:])
    return -np.polyfit(np.log(middles), np.log(found), 1)[0]


def tissue_square(picture, side=80):
    """A square of tissue free of skin, muscle and lesions: beside the chest wall."""
    rows = np.nonzero(picture.breast.sum(axis=1) > side + 25)[0]
    row0 = int(rows.mean()) - side // 2
    flipped = picture.breast[:, -1].sum() > picture.breast[:, 0].sum()
    image = picture.image[:, ::-1] if flipped else picture.image
    return image[row0 : row0 + side, 8 : 8 + side]


def test_measured_exponent_of_known_noise_is_its_own():
    rng = np.random.default_rng(0)
    found = [
        spectral_exponent(power_law_noise(rng, 288, 224, exponent=3)[60:140, 40:120])
        for _ in range(12)
    ]
    assert 2.7 < np.mean(found) < 3.3


@pytest.mark.parametrize("domain", ["film", "digital"])
def test_tissue_has_the_power_spectrum_of_mammograms(domain):
    found = []
    for index in range(25):
        case = replace(draw_case(1, index, domain=domain), lesions=())
        picture = render_case(case, "CC", height=HEIGHT, width=WIDTH)
        found.append(spectral_exponent(tissue_square(picture)))
    assert 2.5 < np.median(found) < 3.5


@pytest.mark.parametrize("domain", ["film", "digital"])
def test_lesion_contrast_lies_within_the_quartiles_of_real_findings(domain):
    found = {"mass": [], "calc": []}
    for _, case, picture in cases(domain, 40):
        for lesion, circle in zip(case.lesions, picture.circles, strict=True):
            value = measure_contrast(picture.image, picture.breast, *circle)
            found[lesion.abnormality].append(value)
    low, _, high = MIAS_CONTRAST_QUARTILES
    assert low < np.nanmedian(found["mass"] + found["calc"]) < high
    assert low < np.nanmedian(found["mass"]) < high
    # Real calcifications, too, are fainter than masses by this measure: 0.44.
    assert 0.2 < np.nanmedian(found["calc"]) < 0.64


def test_digital_grey_levels_are_those_of_digital_mammograms():
    levels = [
        np.percentile(picture.image[picture.breast], list(DIGITAL_PERCENTILES))
        for _, _, picture in cases("digital", 12)
    ]
    # Half of the images are MLO, where the muscle adds bright levels.
    wanted = list(DIGITAL_PERCENTILES.values())
    assert np.median(levels, axis=0) == pytest.approx(wanted, abs=0.12)


def test_film_and_digital_backgrounds_differ():
    for domain, empty in (("film", False), ("digital", True)):
        for _, _, picture in cases(domain, 3):
            outside = picture.image[~picture.breast]
            assert (outside.max() == 0) == empty


def global_statistics_auc(domain, seed, women):
    rows, labels, groups = [], [], []
    for index, case, picture in cases(domain, women, seed):
        counts = np.histogram(picture.image, 32, (0, 1))[0] / picture.image.size
        rows.append([picture.image.mean(), picture.image.std(), *counts])
        labels.append(case.malignant)
        groups.append(index)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = GroupKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(
        model, rows, labels, groups=groups, cv=folds, method="predict_proba"
    )
    return roc_auc_score(labels, scores[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("domain", ["film", "digital"])
def test_global_statistics_tell_nothing_over_400_images(domain, seed):
    assert 0.4 <= global_statistics_auc(domain, seed, women=200) <= 0.6
