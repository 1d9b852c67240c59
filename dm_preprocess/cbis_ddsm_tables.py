"""CBIS-DDSM's four tables read as one: findings, counts, and what is odd about them.

The tables list findings, by mass and calcification and by an official train and test
split. A physical image is (patient, side, view): 71 of the 3032 stand in both a mass
and a calcification table, and 31 women and 29 images in both splits. Whoever reads one
table at a time sees none of that, so the counts are made here, once, over all.

Source: Lee et al. (2017), Sci Data 4:170177; the tables of TCIA's CBIS-DDSM.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dm_preprocess.sources import Oddity, SourceError

TABLES = tuple(
    (kind, split, f"{kind}_case_description_{split}_set.csv")
    for kind in ("mass", "calc")
    for split in ("train", "test")
)
PATHOLOGIES = ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK")
_FOLDER_SPLIT = {"train": "Training", "test": "Test"}
_PATH_COLUMNS = ("image file path", "cropped image file path", "ROI mask file path")
_COLUMNS = (
    "patient_id", "breast density", "left or right breast", "image view",
    "abnormality id", "assessment", "pathology", "subtlety", *_PATH_COLUMNS,
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One row of one table: one finding on one image.

    Attributes:
        where: File and line of the row.
        kind: "mass" or "calc".
        split: The official one: "train" or "test".
        side: "LEFT" or "RIGHT".
        number: The abnormality id, which counts within the image and table.
        has_line_ends: A path cell holds a line end (stripped here).
    """

    where: str
    kind: str
    split: str
    patient_id: str
    side: str
    view: str
    number: str
    pathology: str
    density: str
    assessment: str
    subtlety: str
    image_cell: str
    crop_cell: str
    mask_cell: str
    has_line_ends: bool = False

    @property
    def image_id(self) -> str:
        return f"{self.patient_id}_{self.side}_{self.view}"

    @property
    def subject(self) -> str:
        """The folder of the full image; the finding's own adds its number."""
        prefix = f"{self.kind.capitalize()}-{_FOLDER_SPLIT[self.split]}"
        return f"{prefix}_{self.image_id}"

    @property
    def malignant(self) -> bool:
        return self.pathology == "MALIGNANT"


def read_tables(src: Path, oddities: list[Oddity]) -> list[Finding]:
    """Read the tables that lie in `src` or one folder below it.

    Args:
        src: The folder.
        oddities: Missing and doubled tables and odd path cells are added to it.

    Returns:
        The findings, mass before calc and train before test, in the tables' order.

    Raises:
        SourceError: There is no table, a table lacks a column, or a cell is outside
            its set; file and line are named.
    """
    findings: list[Finding] = []
    for kind, split, name in TABLES:
        path = find_table(src, name, oddities)
        if path is None:
            oddities.append(Oddity("table missing", name, f"not in {src.name}/ or */"))
        else:
            rows = list(_read_table(path, kind, split))
            findings += rows
            oddities += _path_oddities(path, rows)
    if not findings:
        raise SourceError(
            f"{src}: none of CBIS-DDSM's tables found here or one folder below, or "
            f"all are empty; wanted {', '.join(name for _, _, name in TABLES)}"
        )
    return findings


def find_table(
    src: Path, name: str, oddities: list[Oddity] | None = None
) -> Path | None:
    """The file of this name (any case) in the top two levels, the upper one first."""
    levels = (sorted(src.glob("*.csv")), sorted(src.glob("*/*.csv")))
    found = [p for level in levels for p in level if p.name.lower() == name.lower()]
    if len(found) > 1 and oddities is not None:
        detail = f"{found[0].relative_to(src)} is read, not {found[1].relative_to(src)}"
        oddities.append(Oddity("table found twice", name, detail))
    return found[0] if found else None


def _read_table(path: Path, kind: str, split: str) -> Iterator[Finding]:
    """The rows of one table.

    The csv module and not pandas: path cells hold line ends, and an error should name
    the line of the file, which pandas does not keep.
    """
    seen = set()
    for line, row in _rows(path):
        finding = _finding(row, f"{path}: line {line}", kind, split)
        if (finding.image_id, finding.number) in seen:
            raise SourceError(
                f"{finding.where}: abnormality id {finding.number} of "
                f"{finding.image_id} stands twice in this table"
            )
        seen.add((finding.image_id, finding.number))
        yield finding


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """(line it begins on, cells by column) of each row that is not blank."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            names = {n.strip().replace("_", " "): n for n in reader.fieldnames or ()}
            missing = [c for c in _COLUMNS if c.replace("_", " ") not in names]
            if missing:
                raise SourceError(f"{path}: line 1: missing column {missing[0]!r}")
            line = reader.line_num + 1
            for cells in reader:
                if None in cells:
                    raise SourceError(f"{path}: line {line}: more cells than columns")
                yield line, {c: cells[names[c.replace("_", " ")]] for c in _COLUMNS}
                line = reader.line_num + 1
    except (UnicodeDecodeError, csv.Error) as err:
        raise SourceError(f"{path}: not a CSV table: {err}") from err


def _finding(
    row: Mapping[str, str | None], where: str, kind: str, split: str
) -> Finding:
    short = [name for name, cell in row.items() if cell is None]
    if short:
        raise SourceError(f"{where}: the row ends before column {short[0]!r}")
    cells = {name: cell.strip() for name, cell in row.items()}
    _check(cells, "patient_id", r"[A-Za-z0-9_-]+", "letters, digits, _ and -", where)
    _check(cells, "left or right breast", "LEFT|RIGHT", "LEFT or RIGHT", where)
    _check(cells, "image view", "CC|MLO", "CC or MLO", where)
    _check(cells, "abnormality id", r"\d+", "a whole number", where)
    _check(cells, "pathology", "|".join(PATHOLOGIES), ", ".join(PATHOLOGIES), where)
    image_cell, crop_cell, mask_cell = (cells[name] for name in _PATH_COLUMNS)
    return Finding(
        where=where, kind=kind, split=split, patient_id=cells["patient_id"],
        side=cells["left or right breast"], view=cells["image view"],
        number=cells["abnormality id"], pathology=cells["pathology"],
        density=cells["breast density"], assessment=cells["assessment"],
        subtlety=cells["subtlety"], image_cell=image_cell, crop_cell=crop_cell,
        mask_cell=mask_cell,
        has_line_ends=any(row[n] != cells[n] for n in _PATH_COLUMNS),
    )  # fmt: skip


def _check(cells: dict, column: str, pattern: str, rule: str, where: str) -> None:
    if not re.fullmatch(pattern, cells[column]):
        raise SourceError(
            f"{where}, column {column!r}: must be {rule}, received {cells[column]!r}"
        )


def by_image(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """The findings of each physical image, in the tables' order."""
    images = defaultdict(list)
    for finding in findings:
        images[finding.image_id].append(finding)
    return dict(images)


def count_facts(
    findings: Sequence[Finding], images: Mapping[str, Sequence[Finding]]
) -> dict[str, object]:
    """The counts of `index.json`.

    Args:
        findings: All rows.
        images: The same by image.

    Returns:
        Among others `images_with_mixed_findings` and `images_with_conflicting_labels`,
        which are counted among the images in both official splits: how many of those
        hold malignant and other findings, and for how many the label would be another
        in the one split than in the other. `images_malignant_and_other` counts the
        former over all images.
    """
    both = {i: rows for i, rows in images.items() if len(splits_of(rows)) == 2}
    rows_in = Counter((f.kind, f.split) for f in findings)
    images_in = Counter((k, s) for k, s, _ in {(f.kind, f.split, f.image_id)
                                               for f in findings})  # fmt: skip
    return {
        "rows": len(findings),
        "images": len(images),
        "women": len({f.patient_id for f in findings}),
        "women_in_both_splits": len(women_in_both_splits(findings)),
        "images_in_both_splits": len(both),
        "images_with_mixed_findings": sum(map(is_mixed, both.values())),
        "images_with_conflicting_labels": sum(map(is_conflicting, both.values())),
        "images_malignant_and_other": sum(map(is_mixed, images.values())),
        "images_in_mass_and_calc": sum(len(kinds_of(r)) == 2 for r in images.values()),
        "malignant_images": sum(any(f.malignant for f in r) for r in images.values()),
        "image_entries": sum(images_in.values()),
        "tables": {
            name: {"rows": rows_in[k, s], "images": images_in[k, s]}
            for k, s, name in TABLES
        },
    }


def splits_of(rows: Sequence[Finding]) -> set[str]:
    """The official splits that these findings stand in."""
    return {f.split for f in rows}


def kinds_of(rows: Sequence[Finding]) -> set[str]:
    """The kinds of table that these findings stand in."""
    return {f.kind for f in rows}


def women_in_both_splits(findings: Sequence[Finding]) -> list[str]:
    """The patient ids that stand in both official splits, sorted."""
    splits = defaultdict(set)
    for finding in findings:
        splits[finding.patient_id].add(finding.split)
    return sorted(patient for patient, found in splits.items() if len(found) == 2)


def density_of(rows: Sequence[Finding]) -> str:
    """An image's breast density, "1" to "4"; "" where its rows give no single one."""
    given = {f.density for f in rows}
    return given.pop() if len(given) == 1 and given <= set("1234") else ""


def is_mixed(rows: Sequence[Finding]) -> bool:
    """Whether an image holds malignant findings and others."""
    return len({f.malignant for f in rows}) == 2


def is_conflicting(rows: Sequence[Finding]) -> bool:
    """Whether the official splits, each for itself, label an image otherwise."""
    labels = {
        s: any(f.malignant for f in rows if f.split == s) for s in splits_of(rows)
    }
    return len(set(labels.values())) == 2


def table_oddities(
    findings: Sequence[Finding], images: Mapping[str, Sequence[Finding]]
) -> list[Oddity]:
    """What the tables say that a user should know, one entry a woman or an image."""
    odd = [
        Oddity("woman in both official splits", patient, "keep her on one side")
        for patient in women_in_both_splits(findings)
    ]
    for image_id, rows in images.items():
        odd += [Oddity(kind, image_id, text) for kind, text in _image_oddities(rows)]
    return odd


def _image_oddities(rows: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    said = ", ".join(f"{f.kind} {f.split} {f.number} {f.pathology}" for f in rows)
    if len(splits_of(rows)) == 2:
        yield "image in both official splits", said
        if is_conflicting(rows):
            yield "official splits disagree on the label", said
    if is_mixed(rows):
        yield "malignant and other findings on one image", said
    if len(kinds_of(rows)) == 2:
        yield "image in the mass and the calc tables", "distributed as two files"
    if not density_of(rows):
        given = ", ".join(sorted({repr(f.density) for f in rows}))
        yield "no single breast density of 1 to 4", f"{given}: left empty"


def _path_oddities(path: Path, rows: Sequence[Finding]) -> Iterator[Oddity]:
    breaks = sum(f.has_line_ends for f in rows)
    if breaks:
        detail = f"{breaks} of {len(rows)} rows; stripped"
        yield Oddity("line ends in path cells", path.name, detail)
    same = sum(f.crop_cell.split("/")[-1] == f.mask_cell.split("/")[-1] for f in rows)
    if same:
        detail = f"{same} of {len(rows)} rows; files are told apart by size and pixels"
        yield Oddity("crop and mask of one file name", path.name, detail)
