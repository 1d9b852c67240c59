"""Every usual mistake is found, and images of the training kind are left in peace."""

import numpy as np
import pytest

from dm_models.inputs import InputContract
from dm_preprocess import images
from dm_preprocess.phantom import draw_case, render_case
from dm_training import check_rules, grey_stats
from dm_training.check_report import shifted
from dm_training.check_rules import CAUSES, check_image, warnings_of
from dm_training.scorers import prepare

HEIGHT, WIDTH = 120, 96
SIZE = (192, 144)


def film(seed=0):
    """A bright half disc with noise at the left, dark air at the right."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    inside = (rows / HEIGHT - 0.5) ** 2 + (cols / WIDTH) ** 2 < 0.2
    tissue = 45000 + 6000 * rng.standard_normal((HEIGHT, WIDTH))
    return np.where(inside, tissue, 300).clip(0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def contract():
    measured = grey_stats.measure(film(seed) for seed in range(8))
    return InputContract("squeezenet", height=HEIGHT, width=WIDTH,
                         class_names=("neg", "pos"), grey_stats=measured)  # fmt: skip


def bordered(image):
    """Air at the top, below and at the right: the image is a ninth of the whole."""
    rows, cols = image.shape
    return np.pad(image, ((rows, rows), (0, 2 * cols)), constant_values=300)


@pytest.mark.parametrize(
    "image, cause",
    [
        (65535 - film(99), "inverted"),
        (film(99) // 16, "unscaled"),
        (film(99) // 64, "unscaled"),
        (film(99) * 0.35 + 5000, "levels"),
        (film(99)[:, :40], "cropped"),
        (np.where(film(99) > 1000, 65535, 300) * 1.0, "bright"),
        (film(99) // 257 * 257, "8-bit"),
        (film(99)[::3, ::3], "small"),
        (film(99).T, "aspect"),
        (bordered(film(99)), "border"),
    ],
    ids=[
        "MONOCHROME1", "12 bits", "10 bits", "flat", "cropped", "saturated", "8 bits",
        "preview", "on its side", "border",
    ],
)  # fmt: skip
def test_each_usual_mistake_is_named(image, cause, contract):
    image = image.astype(np.uint16)
    checked = check_image(image, contract)
    assert checked.excesses and cause in checked.causes
    prepared = prepare(image, contract)
    assert warnings_of(prepared, contract, image.shape) == checked.warnings
    assert any(said.startswith(CAUSES[cause].what) for said in checked.warnings)
    assert all("in training" in said for said in checked.warnings)


def test_a_model_without_statistics_warns_of_nothing(contract):
    bare = contract.replace(grey_stats={"mean": 50.0, "source": "given"})
    assert warnings_of(65535 - film(), bare, (HEIGHT, WIDTH)) == []
    assert warnings_of(65535 - film(), bare.replace(grey_stats=None), (9, 9)) == []


def test_the_size_of_the_file_counts_and_not_that_of_the_array(contract):
    assert warnings_of(film(99), contract, (HEIGHT, WIDTH)) == []
    (said,) = warnings_of(film(99), contract, (30, 24))
    assert said.startswith("fewer pixels") and "width 24, in training 96)" in said


def test_the_mistake_that_explains_most_is_the_one_named(contract, monkeypatch):
    good = film(99)
    tried = [("inverted", lambda grey: good // 3), ("border", lambda grey: good)]
    monkeypatch.setattr(check_rules, "_remedies", lambda *_: tried)
    assert check_image(65535 - good, contract).causes == ("border",)


def test_films_of_the_same_kind_are_in_range_at_any_size(contract):
    for times in (1, 2, 5):
        image = film(99).repeat(times, axis=0).repeat(times, axis=1)
        checked = check_image(image, contract)
        assert (checked.excesses, checked.causes, checked.warnings) == ([], (), [])


def test_an_image_is_prepared_as_the_contract_says_before_it_is_measured(contract):
    """A model trained on cut and levelled images takes the whole file, unlevelled."""
    plain = contract.replace(crop_breast=True, grey="auto-level", grey_stats=None)
    files = [bordered(film(seed) // 2 + 900) for seed in range(9)]
    made = [prepare(file, plain) for file in files]
    cut = plain.replace(grey_stats=grey_stats.measure(made[:8]))
    assert check_image(files[8], cut).causes == ()
    assert check_image(made[8], cut).causes == ()
    ignored = cut.replace(crop_breast=False, grey="full-range")
    assert check_image(files[8], ignored).causes != ()


def test_every_cause_that_is_given_has_advice(contract):
    stored = contract.grey_stats
    given = {check_rules._unexplained(by) for by in ({}, {"p99": -9.0}, {"mean": 9.0},
             {"breast_share": 0.3}, {"breast_share": -0.3}, {"breast_cols": 0.1},
             {"stretched": 1.0})}  # fmt: skip
    assert given == {"other", "dark", "bright", "cropped", "border", "stretched"}
    remedies = {name for name, _ in check_rules._remedies(film() // 16, stored)}
    assert {"inverted", "unscaled", "border", "levels"} == remedies
    assert given | remedies | {"8-bit", "aspect", "small"} == set(CAUSES)


def test_an_image_in_range_costs_one_look_and_no_remedy(contract, monkeypatch):
    def never(*_):
        raise AssertionError("a remedy was tried")

    monkeypatch.setattr(check_rules, "_remedies", never)
    assert warnings_of(film(99), contract, (HEIGHT, WIDTH)) == []


# How often: on phantoms of the training kind, and with every usual mistake


def phantoms(domain, seed, count):
    """Both views of women, on a machine of `domain`."""
    for index in range(count // 2):
        for view in ("CC", "MLO"):
            case = draw_case(seed, index, domain=domain)
            shown = render_case(case, view, height=SIZE[0], width=SIZE[1]).image
            yield np.round(shown * 65535).astype(np.uint16)


def cut(image):
    """To the breast's box, and enlarged: as many pixels as before."""
    row0, col0, row1, col1 = images.breast_box(image)
    return images.resize_area(image[row0:row1, col0:col1], *image.shape)


MISTAKES = {
    "inverted": (lambda image: 65535 - image, {"inverted"}),
    "12 bits": (lambda image: image // 16, {"unscaled"}),
    "8 bits": (lambda image: image // 257 * 257, {"8-bit"}),
    "border": (bordered, {"border"}),
    "cropped": (cut, {"cropped", "other", "bright"}),
    "preview": (lambda image: images.resize_area(image, 48, 36), {"small"}),
    "on its side": (lambda image: np.ascontiguousarray(image.T), {"aspect"}),
    "stretched": (images.auto_level, {"stretched", "levels", "bright", "other"}),
}
SLOW = pytest.mark.slow
COUNTS = [(100, 20), pytest.param((200, 200), marks=SLOW)]


@pytest.fixture(scope="module")
def sets():
    kept = {}

    def get(domain, counts):
        if (domain, counts) not in kept:
            measured = grey_stats.measure(phantoms(domain, 1, counts[0]))
            held = InputContract("x", height=SIZE[0], width=SIZE[1],
                                 grey_stats=measured)  # fmt: skip
            kept[domain, counts] = held, list(phantoms(domain, 2, counts[1]))
        return kept[domain, counts]

    return get


@pytest.mark.parametrize("counts", COUNTS, ids=["few", "many"])
@pytest.mark.parametrize("domain", ["film", "digital"])
def test_phantoms_of_the_training_kind_are_rarely_called_unusual(domain, counts, sets):
    contract, others = sets(domain, counts)
    unusual = sum(bool(check_image(image, contract).excesses) for image in others)
    assert unusual <= 0.05 * len(others)


@pytest.mark.parametrize("counts", COUNTS, ids=["few", "many"])
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("domain", ["film", "digital"])
def test_each_mistake_is_found_in_nearly_all_images(domain, mistake, counts, sets):
    if (domain, mistake) == ("film", "stretched"):
        pytest.skip("films reach both ends of the range themselves: none can tell")
    contract, others = sets(domain, counts)
    change, causes = MISTAKES[mistake]
    found = [set(check_image(change(image), contract).causes) for image in others]
    assert sum(bool(causes & each) for each in found) >= 0.95 * len(found)


def test_images_in_range_may_be_unlike_the_training_images_together(sets):
    contract, others = sets("digital", COUNTS[0])
    stored = contract.grey_stats
    plain = [check_image(image, contract) for image in others]
    assert shifted(plain, stored) == {}
    dim = [check_image(image - image // 6, contract) for image in others]
    assert sum(bool(one.excesses) for one in dim) <= 2
    assert "p99" in shifted(dim, stored)
    assert shifted(dim[:19], stored) == {}  # too few to say so


@pytest.mark.parametrize("counts", COUNTS, ids=["few", "many"])
@pytest.mark.parametrize("domain", ["film", "digital"])
def test_another_machine_is_found(domain, counts, sets):
    contract, _ = sets(domain, counts)
    _, others = sets("digital" if domain == "film" else "film", counts)
    found = sum(bool(check_image(image, contract).causes) for image in others)
    assert found >= 0.95 * len(others)


def test_ranges_of_few_training_images_are_wider_and_do_not_mislead(sets):
    """Of 20 training images: those of the same kind stay in range, an inverted out."""
    contract, others = sets("film", COUNTS[0])
    few = contract.replace(grey_stats=grey_stats.measure(others))
    rest = list(phantoms("film", 1, 10))
    assert sum(bool(check_image(image, few).excesses) for image in rest) <= 1
    turned = [check_image(65535 - image, few).causes for image in rest]
    assert all("inverted" in causes for causes in turned)
