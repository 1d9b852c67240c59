"""The reader of CBIS-DDSM, on its official tables and on miniature downloads."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dm_preprocess.cbis_ddsm import index
from dm_preprocess.cbis_ddsm_files import ImageFile, choose_full_image, is_two_valued
from dm_preprocess.sources import SourceError

OFFICIAL = Path(__file__).parents[1] / "data" / "cbis-ddsm-csv"
SIZE = (64, 48)
LAYOUTS = ("table", "nbia-old", "nbia-new", "nbia-rest", "series-only", "kaggle")
HEADER = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,"
    "abnormality type,mass shape,mass margins,assessment,pathology,subtlety,"
    "image file path,cropped image file path,ROI mask file path"
).split(",")


@dataclass(frozen=True)
class Case:
    """A row to write: one finding, in one table."""

    patient: str = "P_00001"
    side: str = "LEFT"
    view: str = "CC"
    number: int = 1
    kind: str = "mass"
    split: str = "train"
    pathology: str = "MALIGNANT"
    density: str = "3"
    swapped: bool = False

    @property
    def subject(self) -> str:
        split = {"train": "Training", "test": "Test"}[self.split]
        place = f"{self.patient}_{self.side}_{self.view}"
        return f"{self.kind.capitalize()}-{split}_{place}"

    @property
    def image_uid(self) -> str:
        return f"1.3.6.{sum(map(ord, self.subject))}12345"

    @property
    def lesion_uid(self) -> str:
        return f"1.3.7.{self.number}{sum(map(ord, self.subject))}6{self.number}789"

    def cells(self) -> list[str]:
        lesion = f"{self.subject}_{self.number}/9.1/{self.lesion_uid}"
        crop, mask = f"{lesion}/000000.dcm\n", f"{lesion}/000001.dcm\n"
        if self.swapped:
            crop, mask = mask, crop
        image = f"{self.subject}/9.1/{self.image_uid}/000000.dcm"
        return [
            self.patient, self.density, self.side, self.view, str(self.number),
            {"mass": "mass", "calc": "calcification"}[self.kind], "OVAL", "ILL_DEFINED",
            "4", self.pathology, "5", image, crop, mask,
        ]  # fmt: skip


def tissue(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 255, size, dtype=np.uint8)


def mask_of(size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[16:32, 8:24] = 255
    return mask


def write_tables(folder: Path, cases: list[Case]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("mass", "calc"):
        for split in ("train", "test"):
            rows = [c.cells() for c in cases if (c.kind, c.split) == (kind, split)]
            header = list(HEADER)
            if kind == "calc":
                header[1] = "breast density"
            name = f"{kind}_case_description_{split}_set.csv"
            with open(folder / name, "w", newline="") as handle:
                csv.writer(handle).writerows([header, *rows])


def write_dicom(path: Path, pixels: np.ndarray, description: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.SeriesDescription = description
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = pixels.tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path


def folder_of(layout: str, subject: str, uid: str, description: str) -> Path:
    """Where a layout puts a series."""
    return {
        "table": Path(subject, "9.1", uid),
        "nbia-old": Path(
            subject, "07-20-2016-DDSM-74994", f"1-{description}-{uid[-5:]}"
        ),
        "nbia-new": Path(
            subject, "07-20-2016-DDSM-74994", f"1.000000-{description}-{uid[-5:]}"
        ),
        "nbia-rest": Path(subject, "9.1", uid),
        "series-only": Path(uid),
        "kaggle": Path("jpeg", uid),
    }[layout]


def name_of(layout: str, number: int) -> str:
    return {
        "nbia-new": f"1-{number + 1}.dcm",
        "nbia-rest": f"{number + 1:08d}.dcm",
        "kaggle": f"{number + 1}-{number + 101}.jpg",
    }.get(layout, f"00000{number}.dcm")


def write_image(path: Path, pixels: np.ndarray, description: str) -> None:
    if path.suffix == ".dcm":
        write_dicom(path, pixels, description)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels)


def write_download(root: Path, cases: list[Case], layout: str = "table") -> Path:
    """Tables and files. The mask is the second file of the finding's series."""
    write_tables(root / "csv", cases)
    top = root if layout == "kaggle" else root / "CBIS-DDSM"
    info = [["image_path", "PatientID", "SeriesDescription"]]
    for case in cases:
        full = folder_of(layout, case.subject, case.image_uid, "full mammogram images")
        lesion = f"{case.subject}_{case.number}"
        inner = folder_of(layout, lesion, case.lesion_uid, "ROI mask images")
        for folder, number, pixels, subject, text in (
            (full, 0, tissue(), case.subject, "full mammogram images"),
            (inner, 0, tissue((12, 10)), lesion, "ROI mask images"),
            (inner, 1, mask_of(), lesion, "ROI mask images"),
        ):
            where = folder / name_of(layout, number)
            write_image(top / where, pixels, text)
            info.append([f"CBIS-DDSM/{where}", subject, text])
    if layout == "kaggle":
        with open(root / "csv" / "dicom_info.csv", "w", newline="") as handle:
            csv.writer(handle).writerows(info)
    return root


def files_of(root: Path, case: Case) -> Path:
    """The folder of a finding's mask and crop in the tables' layout."""
    return root / f"CBIS-DDSM/{case.subject}_{case.number}/9.1/{case.lesion_uid}"


def kinds(found) -> Counter:
    return Counter(oddity.kind for oddity in found.oddities)


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("official")
    for path in OFFICIAL.glob("*.csv.gz"):
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return folder


@pytest.fixture(scope="module")
def official_index(official):
    return index(official, index_only=True)


@pytest.mark.parametrize(
    ("fact", "count"),
    [
        ("rows", 3568),
        ("images", 3032),
        ("women", 1566),
        ("women_in_both_splits", 31),
        ("images_in_both_splits", 29),
        ("images_with_mixed_findings", 9),
        ("images_with_conflicting_labels", 7),
        ("images_in_mass_and_calc", 71),
        ("malignant_images", 1347),
        ("image_entries", 3103),
    ],
)
def test_official_tables_give_the_known_counts(official_index, fact, count):
    assert official_index.facts[fact] == count


def test_official_tables_give_the_known_counts_per_table(official_index):
    counted = [tuple(t.values()) for t in official_index.facts["tables"].values()]
    assert counted == [(1318, 1231), (378, 361), (1546, 1227), (326, 284)]


def test_every_oddity_of_the_official_tables_is_listed(official_index):
    assert kinds(official_index) == {
        "woman in both official splits": 31,
        "image in both official splits": 29,
        "official splits disagree on the label": 7,
        "malignant and other findings on one image": 33,
        "image in the mass and the calc tables": 71,
        "line ends in path cells": 4,
        "crop and mask of one file name": 3,
        "no single breast density of 1 to 4": 2,
    }
    shared = [o for o in official_index.oddities if "one file name" in o.kind]
    assert sum(int(o.detail.split()[0]) for o in shared) == 104


def test_official_images_and_lesions_have_ids_of_their_own(official_index):
    images = official_index.images
    lesions = [lesion.lesion_id for image in images for lesion in image.lesions]
    assert len({image.image_id for image in images}) == len(images) == 3032
    assert len(set(lesions)) == len(lesions) == 3568
    assert sum(image.label for image in images) == 1347
    assert Counter(i.extra["official_split"] for i in images)["both"] == 29
    assert {image.split for image in images} == {""}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_each_image_its_file_and_mask(tmp_path, layout):
    cases = [Case(), Case(number=2), Case(view="MLO", pathology="BENIGN")]
    found = index(write_download(tmp_path, cases, layout))
    assert not found.failed
    assert [(i.image_id, i.label) for i in found.images] == [
        ("P_00001_LEFT_CC", 1),
        ("P_00001_LEFT_MLO", 0),
    ]
    ids = [[lesion.lesion_id for lesion in i.lesions] for i in found.images]
    assert ids == [
        ["P_00001_LEFT_CC_mass_1", "P_00001_LEFT_CC_mass_2"],
        ["P_00001_LEFT_MLO_mass_1"],
    ]
    for image in found.images:
        assert image.source_path.is_file()
        for lesion in image.lesions:
            assert lesion.shape == "mask"
            assert lesion.geometry[0].name == name_of(layout, 1)
            assert is_two_valued(lesion.geometry[0])


def test_subject_folders_may_lie_beside_the_tables(tmp_path):
    root = write_download(tmp_path, [Case()])
    (root / "CBIS-DDSM" / Case().subject).rename(root / Case().subject)
    assert index(root).images[0].source_path.is_relative_to(root / Case().subject)


def test_patient_side_view_and_density_come_from_the_table(tmp_path):
    case = Case(side="RIGHT", view="MLO", density="2", split="test")
    (image,) = index(write_download(tmp_path, [case])).images
    assert (image.patient_id, image.laterality, image.view) == ("P_00001", "R", "MLO")
    assert (image.density, image.extra) == ("2", {"official_split": "test"})
    (lesion,) = image.lesions
    assert (lesion.pathology, lesion.assessment, lesion.subtlety) == (
        "MALIGNANT", "4", "5",
    )  # fmt: skip


def test_swapped_paths_are_seen_by_the_size_and_reported(tmp_path):
    case = Case(swapped=True)
    found = index(write_download(tmp_path, [case]))
    assert found.images[0].lesions[0].geometry[0].name == "000001.dcm"
    assert kinds(found)["mask and crop swapped in the table"] == 1


def test_unswapped_paths_are_not_reported(tmp_path):
    found = index(write_download(tmp_path, [Case()]))
    assert kinds(found)["mask and crop swapped in the table"] == 0


@pytest.mark.parametrize("size", [(60, 45), (62, 40)], ids=["smaller", "other aspect"])
def test_a_mask_of_another_size_is_known_by_its_two_values(tmp_path, size):
    root = write_download(tmp_path, [Case()])
    write_dicom(files_of(root, Case()) / "000001.dcm", mask_of(size))
    assert index(root).images[0].lesions[0].geometry[0].name == "000001.dcm"


def test_a_crop_as_large_as_the_image_is_no_mask(tmp_path):
    root = write_download(tmp_path, [Case()])
    write_dicom(files_of(root, Case()) / "000000.dcm", tissue())
    assert index(root).images[0].lesions[0].geometry[0].name == "000001.dcm"


def test_of_several_masks_the_one_of_the_image_size_is_taken(tmp_path):
    root = write_download(tmp_path, [Case()])
    write_dicom(files_of(root, Case()) / "000000.dcm", tissue())
    other = files_of(root, Case()) / "000002.dcm"
    write_dicom(other, mask_of((60, 45)), "ROI mask images")
    assert index(root).images[0].lesions[0].geometry[0].name == "000001.dcm"


def test_an_empty_mask_is_still_the_mask(tmp_path):
    root = write_download(tmp_path, [Case()])
    write_dicom(files_of(root, Case()) / "000000.dcm", tissue())
    write_dicom(files_of(root, Case()) / "000001.dcm", np.zeros(SIZE, np.uint8))
    assert index(root).images[0].lesions[0].geometry[0].name == "000001.dcm"


def test_a_jpeg_mask_of_another_size_is_known_in_spite_of_ringing(tmp_path):
    root = write_download(tmp_path, [Case()], "kaggle")
    path = root / "jpeg" / Case().lesion_uid / name_of("kaggle", 1)
    mask = cv2.circle(np.zeros((1260, 945), np.uint8), (400, 500), 150, 255, -1)
    cv2.imwrite(str(path), mask, [cv2.IMWRITE_JPEG_QUALITY, 75])
    full = next((root / "jpeg" / Case().image_uid).iterdir())
    cv2.imwrite(str(full), tissue((1344, 1008)))
    assert len(np.unique(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))) > 2
    found = index(root)
    assert found.images[0].lesions[0].geometry == (path,)
    assert kinds(found)["JPEG in place of DICOM"] == 1


def test_two_masks_alike_are_told_apart_by_the_description_only(tmp_path):
    root = write_download(tmp_path, [Case()])
    folder = files_of(root, Case())
    write_dicom(folder / "000000.dcm", mask_of(), "ROI mask images")
    write_dicom(folder / "000001.dcm", mask_of(), "cropped images")
    assert index(root).images[0].lesions[0].geometry[0].name == "000000.dcm"


def test_a_tie_between_masks_leaves_the_finding_without_one(tmp_path):
    root = write_download(tmp_path, [Case()])
    write_dicom(files_of(root, Case()) / "000000.dcm", mask_of(), "ROI mask images")
    found = index(root)
    assert found.images[0].lesions[0].shape == "none"
    (odd,) = [o for o in found.oddities if o.kind == "finding without a mask"]
    assert odd.where == "P_00001_LEFT_CC_mass_1"
    assert "2 files look like the mask" in odd.detail


def test_a_missing_mask_keeps_the_image_and_its_crop_is_not_taken(tmp_path):
    root = write_download(tmp_path, [Case()])
    (files_of(root, Case()) / "000001.dcm").unlink()
    found = index(root)
    assert not found.failed
    assert (found.images[0].lesions[0].shape, found.images[0].label) == ("none", 1)
    (odd,) = [o for o in found.oddities if o.kind == "finding without a mask"]
    assert "no mask among 000000.dcm 12x10 (image 64x48)" in odd.detail


def test_a_broken_mask_file_is_named_and_the_rest_goes_on(tmp_path):
    root = write_download(tmp_path, [Case(), Case(number=2)])
    (files_of(root, Case()) / "000001.dcm").write_bytes(b"DICM no more")
    found = index(root)
    assert [lesion.shape for lesion in found.images[0].lesions] == ["none", "mask"]
    (odd,) = [o for o in found.oddities if o.kind == "unreadable file"]
    assert "000001.dcm: not a readable DICOM file" in odd.detail


def test_pixels_that_cannot_be_read_leave_the_finding_without_a_mask(tmp_path):
    root = write_download(tmp_path, [Case()])
    path = write_dicom(files_of(root, Case()) / "000001.dcm", mask_of((60, 45)))
    path.write_bytes(path.read_bytes()[:-500])
    found = index(root)
    assert found.images[0].lesions[0].shape == "none"
    (odd,) = [o for o in found.oddities if o.kind == "finding without a mask"]
    assert "000001.dcm: its pixels cannot be read" in odd.detail


@pytest.mark.parametrize("broken", [True, False], ids=["unreadable", "missing"])
def test_an_image_without_its_file_fails_and_the_rest_goes_on(tmp_path, broken):
    root = write_download(tmp_path, [Case(), Case(patient="P_00002")])
    path = root / f"CBIS-DDSM/{Case().subject}/9.1/{Case().image_uid}/000000.dcm"
    path.write_bytes(b"") if broken else path.unlink()
    found = index(root)
    assert [image.image_id for image in found.images] == ["P_00002_LEFT_CC"]
    ((name, reason),) = found.failed
    assert name == "P_00001_LEFT_CC"
    assert Case().subject in reason
    assert ("not a readable DICOM" if broken else "no full image") in reason


def test_an_image_in_mass_and_calc_tables_is_one_with_all_its_lesions(tmp_path):
    cases = [Case(pathology="BENIGN"), Case(kind="calc", split="test")]
    found = index(write_download(tmp_path, cases))
    (image,) = found.images
    assert "Mass-Training" in str(image.source_path)
    assert [(s.lesion_id, s.malignant) for s in image.lesions] == [
        ("P_00001_LEFT_CC_mass_1", 0),
        ("P_00001_LEFT_CC_calc_1", 1),
    ]
    assert (image.label, image.extra["official_split"]) == (1, "both")
    assert found.facts["images_with_conflicting_labels"] == 1
    assert found.facts["images_with_mixed_findings"] == 1
    assert found.facts["women_in_both_splits"] == 1


def test_the_other_of_two_files_serves_where_the_first_is_missing(tmp_path):
    cases = [Case(), Case(kind="calc")]
    root = write_download(tmp_path, cases)
    folder = root / f"CBIS-DDSM/{Case().subject}"
    (folder / "9.1" / Case().image_uid / "000000.dcm").unlink()
    found = index(root)
    assert "Calc-Training" in str(found.images[0].source_path)
    assert [s.shape for s in found.images[0].lesions] == ["mask", "mask"]
    assert kinds(found)["one of an image's files is missing"] == 1


def test_a_mask_is_measured_against_the_file_of_its_own_table(tmp_path):
    calc = Case(kind="calc")
    root = write_download(tmp_path, [Case(), calc])
    full = root / f"CBIS-DDSM/{calc.subject}/9.1/{calc.image_uid}/000000.dcm"
    write_dicom(full, tissue((80, 60)))
    write_dicom(files_of(root, calc) / "000000.dcm", tissue(SIZE))
    write_dicom(files_of(root, calc) / "000001.dcm", mask_of((80, 60)))
    lesion = index(root).images[0].lesions[1]
    assert lesion.geometry[0].name == "000001.dcm"


def test_mixed_findings_in_one_split_only_do_not_count_as_mixed(tmp_path):
    write_tables(tmp_path, [Case(), Case(number=2, pathology="BENIGN")])
    facts = index(tmp_path, index_only=True).facts
    assert facts["images_with_mixed_findings"] == 0
    assert facts["images_malignant_and_other"] == 1


def test_a_missing_table_is_reported_and_the_others_are_read(tmp_path):
    write_tables(tmp_path, [Case()])
    (tmp_path / "calc_case_description_test_set.csv").unlink()
    found = index(tmp_path, index_only=True)
    assert found.facts["rows"] == 1
    (odd,) = [o for o in found.oddities if o.kind == "table missing"]
    assert odd.where == "calc_case_description_test_set.csv"


def test_files_of_the_mac_finder_are_no_images(tmp_path):
    root = write_download(tmp_path, [Case()])
    (files_of(root, Case()) / "._000001.dcm").write_bytes(b"Mac OS X")
    assert kinds(index(root))["unreadable file"] == 0


def test_the_full_image_is_known_by_its_description_before_its_size():
    small = ImageFile(Path("a"), 10, 10, "full mammogram images")
    large = ImageFile(Path("b"), 20, 20, "ROI mask images")
    assert choose_full_image([large, small]) is small
    assert choose_full_image([large, ImageFile(Path("c"), 10, 10)]) is large


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("MALIGNANT", "MALIGN", r"line 5, column 'pathology': must be .*'MALIGN'"),
        ("LEFT,MLO", "L,MLO", r"line 5, column 'left or right breast': .*received 'L'"),
        ("LEFT,MLO", "LEFT,ML", r"line 5, column 'image view': must be CC or MLO"),
        ("MLO,1,mass", "MLO,one,mass", r"line 5, column 'abnormality id'.*'one'"),
        ("P_00001,3,LEFT,MLO", "P/1,3,LEFT,MLO", r"line 5, column 'patient_id'.*'P/1'"),
        ("P_00001,3,LEFT,MLO", "P_00001,LEFT,MLO", r"line 5: the row ends before"),
        ("P_00001,3,LEFT,MLO", "x,P_00001,3,LEFT,MLO", r"line 5: more cells"),
        ("LEFT,MLO,1", "LEFT,CC,1", r"line 5: abnormality id 1 of .*_CC stands twice"),
        ("pathology", "diagnosis", r"line 1: missing column 'pathology'"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_by_file_and_line(tmp_path, old, new, message):
    """Two cells of the first row end in a line end: it takes the lines 2 to 4."""
    write_tables(tmp_path, [Case(pathology="BENIGN"), Case(view="MLO")])
    path = tmp_path / "mass_case_description_train_set.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(
        SourceError, match=r"mass_case_description_train_set\.csv: " + message
    ):
        index(tmp_path, index_only=True)


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(SourceError, match="none of CBIS-DDSM's tables"):
        index(tmp_path, index_only=True)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SourceError, match="nowhere: no such folder"):
        index(tmp_path / "nowhere")


def test_tables_without_any_image_are_refused_with_the_way_out(tmp_path):
    write_tables(tmp_path, [Case()])
    with pytest.raises(SourceError, match="holds no image file .*--index-only"):
        index(tmp_path)
