"""mini-MIAS's Info.txt and films, made here: no image of it is in the project."""

import numpy as np
import pytest

from dm_preprocess.mini_mias import index, pgm_size
from dm_preprocess.sources import SourceError

INFO = """Some words about mdb files first.
1st column: MIAS database reference number.

mdb001 G CIRC B 30 40 6
mdb002 F NORM
mdb003 D CALC M *NOTE 3*
mdb004 G ASYM B 10 20 3
mdb004 G SPIC M 12 22 4
mdb005 F CIRC B

trailing words
"""


def make(folder, info=INFO, films=range(1, 6), size=(64, 48)):
    folder.mkdir(exist_ok=True)
    (folder / "Info.txt").write_text(info)
    for film in films:
        head = b"P5\n# a comment 9 9\n%d %d\n255\n" % (size[1], size[0])
        (folder / f"mdb{film:03d}.pgm").write_bytes(head + bytes(size[0] * size[1]))
    return folder


def test_rows_become_films_with_labels_women_and_sides(tmp_path):
    images = index(make(tmp_path)).images
    assert [i.image_id for i in images] == [f"mdb{n:03d}" for n in range(1, 6)]
    assert [i.label for i in images] == [0, 0, 1, 1, 0]
    women = ["mias_001", "mias_001", "mias_002", "mias_002", "mias_003"]
    assert [i.patient_id for i in images] == women
    assert [i.laterality for i in images] == ["L", "R", "L", "R", "L"]
    assert {i.view for i in images} == {"MLO"}
    assert images[1].lesions == () and images[1].density == "fatty"


def test_y_counts_from_the_bottom_of_the_image_itself(tmp_path):
    (lesion,) = index(make(tmp_path)).images[0].lesions
    # 64 rows: row = 64 - 1 - 40
    assert (lesion.shape, lesion.geometry) == ("circle", (23, 30, 6))
    (lesion,) = index(make(tmp_path, size=(128, 96))).images[0].lesions
    assert lesion.geometry == (87, 30, 6)


def test_spacing_follows_the_reduction(tmp_path):
    image = index(make(tmp_path, size=(512, 512))).images[0]
    assert image.spacing_mm == pytest.approx(0.4)


def test_classes_become_mass_or_calc_and_are_kept_as_a_note(tmp_path):
    lesions = [x for i in index(make(tmp_path)).images for x in i.lesions]
    found = [(x.abnormality, x.note, x.malignant) for x in lesions]
    assert found == [("mass", "CIRC", 0), ("calc", "CALC", 1), ("mass", "ASYM", 0),
                     ("mass", "SPIC", 1), ("mass", "CIRC", 0)]  # fmt: skip
    assert len({x.lesion_id for x in lesions}) == 5


def test_findings_without_coordinates_have_no_shape_and_are_reported(tmp_path):
    source = index(make(tmp_path))
    assert [i.lesions[0].shape for i in source.images[2::2]] == ["none", "none"]
    odd = {o.where: o.detail for o in source.oddities if "coordinates" in o.kind}
    assert odd == {
        "mdb003": "line 6: CALC M with no circle",
        "mdb005": "line 9: CIRC B with no circle",
    }


def test_facts_count_rows_films_women_and_findings(tmp_path):
    assert dict(index(make(tmp_path)).facts) == {
        "rows": 6, "images": 5, "women": 3, "findings": 5,
        "findings_with_coordinates": 3, "malignant_images": 2,
        "images_with_several_rows": 1,
    }  # fmt: skip


def test_a_missing_or_broken_film_fails_alone(tmp_path):
    make(tmp_path, films=[1, 2, 3, 4])
    (tmp_path / "mdb002.pgm").write_bytes(b"GIF89a")
    source = index(tmp_path)
    assert [i.image_id for i in source.images] == ["mdb001", "mdb003", "mdb004"]
    failed = dict(source.failed)
    assert "mdb002.pgm: not a PGM" in failed["mdb002"]
    assert "mdb005.pgm" in failed["mdb005"]


def test_index_only_needs_no_film(tmp_path):
    source = index(make(tmp_path, films=[]), index_only=True)
    assert len(source.images) == 5 and source.failed == ()
    assert source.facts["findings_with_coordinates"] == 3


def test_file_names_in_capitals_are_found(tmp_path):
    make(tmp_path)
    (tmp_path / "Info.txt").rename(tmp_path / "INFO.TXT")
    (tmp_path / "mdb001.pgm").rename(tmp_path / "MDB001.PGM")
    assert index(tmp_path).images[0].source_path.name == "MDB001.PGM"


@pytest.mark.parametrize(
    "line,message",
    [
        ("mdb001 X CIRC B 1 2 3", r"line 1, tissue: must be one of F, G, D.*'X'"),
        ("mdb001 G BLOB B 1 2 3", r"line 1, class: must be one of CALC.*'BLOB'"),
        ("mdb001 G CIRC", r"line 1, severity: must be one of B, M, received ''"),
        ("mdb001 G CIRC B 1 2", r"line 1: x, y and radius must be three.*'1 2'"),
        ("nothing", r"no line that begins with mdbNNN"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    with pytest.raises(SourceError, match=r"Info\.txt: " + message):
        index(make(tmp_path, info=line))


def test_a_folder_without_info_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"no Info\.txt"):
        index(tmp_path)


def test_pgm_size_reads_rows_and_columns(tmp_path):
    make(tmp_path, films=[1], size=(7, 9))
    assert pgm_size(tmp_path / "mdb001.pgm") == (7, 9)
    assert np.prod(pgm_size(tmp_path / "mdb001.pgm")) == 63
