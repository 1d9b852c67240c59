"""INbreast: its table, its DICOM names and its XML outlines, read together.

The table gives BI-RADS and no pathology: 1 and 2 are negative, 4 to 6 positive, and 3
is left out (an empty label), as the paper does (Shen et al. 2019, Results). The woman
is only in the second field of a DICOM's name; the table says `removed`.

Source: Moreira et al. (2012), Academic Radiology 19(2):236-248.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from dm_preprocess.inbreast_regions import Region, abnormality_of, read_regions
from dm_preprocess.sources import (
    Oddity,
    SourceError,
    SourceImage,
    SourceIndex,
    SourceLesion,
)

LABELS = {"1": 0, "2": 0, "3": None, "4": 1, "4a": 1, "4b": 1, "4c": 1, "5": 1, "6": 1}
_UNKNOWN = "{}; pathology unknown"
_COLUMNS = ("Patient age", "Laterality", "View", "File Name", "ACR", "Bi-Rads")
_DICOM_NAME = re.compile(
    r"(?P<file>\d{8})_(?P<woman>[0-9a-z]+)_MG_(?P<side>[LR])_(?P<view>[A-Z]+)_ANON\.dcm",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Row:
    """One row of the table. `acr` and `age` are "" where the table gives none."""

    where: str
    file_name: str
    laterality: str
    view: str
    birads: str
    acr: str
    age: str


@dataclass(frozen=True)
class DicomName:
    """What a DICOM's file name says."""

    path: Path
    woman: str
    laterality: str
    view: str


def read_name(path: Path) -> DicomName | None:
    """What the name of one of INbreast's DICOM files says; None for other names."""
    match = _DICOM_NAME.fullmatch(path.name)
    if match is None:
        return None
    side, view = match["side"].upper(), _view(match["view"])
    return DicomName(path, match["woman"].lower(), side, view)


def index(src: Path, *, index_only: bool = False) -> SourceIndex:
    """Read the table, match each row with its DICOM, and read its outlines.

    Args:
        src: The folder that holds `INbreast.csv`, `AllDICOMs/` and `AllXML/`, or the
            one above it.
        index_only: Need no `AllDICOMs/`; where there is none, who the women are is
            unknown and `patient_id` is empty.

    Returns:
        One image a row in the table's order. A row whose DICOM is missing or whose XML
        is corrupt is in `failed`. The malignancy of a lesion is the image's label, for
        INbreast tells no lesion's pathology; where the label is unknown it is 0 and
        the lesion's note says so.

    Raises:
        SourceError: There is no table or no `AllDICOMs/`, or a cell is outside its
            set (file and line are named).
    """
    src = Path(src)
    table = _find_table(src)
    base = table.parent
    oddities: list[Oddity] = []
    rows = _read_table(table, oddities)
    dicoms = _read_dicom_names(base, oddities, needed=not index_only)
    search = _Search(base, dicoms, oddities, index_only=index_only)
    images = search.find_all(rows)
    unused = sorted(set(dicoms) - {row.file_name for row in rows})
    oddities += [Oddity("DICOM without a row", dicoms[f].path.name, f) for f in unused]
    return SourceIndex(
        tuple(images), _facts(rows, images), tuple(oddities), tuple(search.failed)
    )


def _find_table(src: Path) -> Path:
    if not src.is_dir():
        raise SourceError(f"{src}: no such folder")
    files = sorted(src.glob("*")) + sorted(src.glob("*/*"))
    for suffix in (".csv", ".xlsx"):
        for path in files:
            if path.name.lower() == f"inbreast{suffix}":
                return path
    old = [path for path in files if path.name.lower() == "inbreast.xls"]
    if old:
        raise SourceError(
            f"{old[0]}: the old Excel format is not read; open it and save it as "
            "INbreast.csv (separated by ;) in the same folder"
        )
    raise SourceError(f"{src}: no INbreast.csv here or one folder below")


def _read_table(path: Path, oddities: list[Oddity]) -> list[Row]:
    frame = _read_frame(path)
    frame.columns = [str(name).strip() for name in frame.columns]
    missing = [name for name in _COLUMNS if name not in frame]
    if missing:
        raise SourceError(
            f"{path}: line 1: missing column {', '.join(missing)}; "
            f"found {', '.join(frame.columns)}"
        )
    rows: dict[str, Row] = {}
    for line, cells in enumerate(frame[list(_COLUMNS)].to_dict("records"), start=2):
        where = f"{path}: line {line}"
        cells = {name: str(cell).strip() for name, cell in cells.items()}
        if not cells["File Name"]:
            if any(cells.values()):
                oddities.append(Oddity("row without a file name", where, "left out"))
            continue
        row = _row(cells, where)
        if row.file_name in rows:
            raise SourceError(f"{where}: File Name {row.file_name} stands twice")
        rows[row.file_name] = row
        oddities += _row_oddities(row)
    if not rows:
        raise SourceError(f"{path}: holds no row")
    return list(rows.values())


def _read_frame(path: Path) -> pd.DataFrame:
    options = {"dtype": str, "keep_default_na": False}
    try:
        if path.suffix.lower() == ".xlsx":
            return pd.read_excel(path, na_filter=False, **options)
        with open(path, encoding="utf-8-sig") as handle:
            separator = ";" if ";" in handle.readline() else ","
        return pd.read_csv(
            path, sep=separator, encoding="utf-8-sig", skip_blank_lines=False, **options
        )
    except ImportError as err:
        raise SourceError(f"{path}: needs openpyxl, or save it as CSV: {err}") from err
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as err:
        raise SourceError(f"{path}: not a table: {err}") from err


def _row(cells: Mapping[str, str], where: str) -> Row:
    file_name = _whole(cells["File Name"])
    _check(re.fullmatch(r"\d{8}", file_name), "File Name", "8 digits", cells, where)
    side = cells["Laterality"].upper()
    _check(side in ("L", "R"), "Laterality", "L or R", cells, where)
    view = _view(cells["View"])
    _check(re.fullmatch("[A-Z]+", view), "View", "CC, MLO or letters", cells, where)
    birads = _whole(cells["Bi-Rads"]).lower()
    _check(birads in LABELS, "Bi-Rads", f"one of {', '.join(LABELS)}", cells, where)
    age = _whole(cells["Patient age"])
    return Row(
        where=where,
        file_name=file_name,
        laterality=side,
        view=view,
        birads=birads,
        acr=_whole(cells["ACR"]),
        age="" if age.lower() == "removed" else age,
    )


def _check(good: object, column: str, rule: str, cells: Mapping, where: str) -> None:
    if not good:
        raise SourceError(
            f"{where}, column {column}: must be {rule}, received {cells[column]!r}"
        )


def _whole(cell: str) -> str:
    """Spreadsheets make 22678622.0 of 22678622."""
    return re.sub(r"\.0+$", "", cell)


def _view(text: str) -> str:
    view = text.upper()
    return "MLO" if view == "ML" else view


def _row_oddities(row: Row) -> Iterator[Oddity]:
    if row.acr not in ("1", "2", "3", "4"):
        yield Oddity("ACR density not 1 to 4", row.file_name, repr(row.acr))
    if row.view not in ("CC", "MLO"):
        yield Oddity("view neither CC nor MLO", row.file_name, row.view)


def _read_dicom_names(
    base: Path, oddities: list[Oddity], *, needed: bool
) -> dict[str, DicomName]:
    folder = base / "AllDICOMs"
    if not folder.is_dir():
        if needed:
            raise SourceError(f"{folder}: no such folder; the DICOM files belong there")
        detail = "no AllDICOMs/: a woman is named only by the DICOM files' names"
        oddities.append(Oddity("women unknown", base.name, detail))
        return {}
    found: dict[str, DicomName] = {}
    for path in sorted(folder.iterdir()):
        match = _DICOM_NAME.fullmatch(path.name)
        if not match:
            if path.suffix.lower() == ".dcm" and not path.name.startswith("."):
                detail = "wanted <8 digits>_<hash>_MG_<side>_<view>_ANON.dcm"
                oddities.append(Oddity("DICOM of unknown name", path.name, detail))
        elif match["file"] in found:
            detail = f"{found[match['file']].path.name} is used"
            oddities.append(Oddity("second DICOM of an image", path.name, detail))
        else:
            found[match["file"]] = read_name(path)
    return found


@dataclass
class _Search:
    """Joins rows, DICOMs and outlines, and keeps what does not fit."""

    base: Path
    dicoms: Mapping[str, DicomName]
    oddities: list[Oddity]
    index_only: bool = False
    failed: list[tuple[str, str]] = field(default_factory=list)

    def find_all(self, rows: Sequence[Row]) -> list[SourceImage]:
        found = []
        for row in rows:
            try:
                found.append(self._find_image(row))
            except SourceError as err:
                self.failed.append((row.file_name, str(err)))
        return found

    def _find_image(self, row: Row) -> SourceImage:
        dicom = self.dicoms.get(row.file_name)
        if dicom is None and not self.index_only:
            raise SourceError(
                f"no {row.file_name}_*.dcm in {self.base / 'AllDICOMs'} ({row.where})"
            )
        if dicom is not None:
            self._compare(row, dicom)
        return SourceImage(
            image_id=row.file_name,
            patient_id=dicom.woman if dicom else "",
            laterality=row.laterality,
            view=row.view,
            label=LABELS[row.birads],
            source_path=dicom.path if dicom else self.base / "AllDICOMs",
            source="inbreast",
            lesions=tuple(self._find_lesions(row)),
            density=row.acr,
            age=row.age,
            note="BI-RADS 3: left out" if LABELS[row.birads] is None else "",
            extra={"birads": row.birads},
        )

    def _compare(self, row: Row, dicom: DicomName) -> None:
        for what in ("laterality", "view"):
            said, named = getattr(row, what), getattr(dicom, what)
            if said != named:
                detail = f"table {said} (used), file name {named}"
                kind = f"{what} of table and file name differ"
                self.oddities.append(Oddity(kind, row.file_name, detail))

    def _find_lesions(self, row: Row) -> Iterator[SourceLesion]:
        path = self.base / "AllXML" / f"{row.file_name}.xml"
        if not path.is_file():
            return
        number = 0
        for region in read_regions(path):
            if not region.points:
                self._note("region without points", row.file_name, region.name)
                continue
            number += 1
            yield self._lesion(row, f"{row.file_name}_{number}", region)

    def _lesion(self, row: Row, lesion_id: str, region: Region) -> SourceLesion:
        label = LABELS[row.birads]
        abnormality, doubt = abnormality_of(region)
        if doubt:
            self._note("region of doubtful kind", lesion_id, doubt)
        shape, geometry = region.outline()
        return SourceLesion(
            lesion_id=lesion_id,
            abnormality=abnormality,
            malignant=label or 0,
            shape=shape,
            geometry=geometry,
            assessment=row.birads,
            note=region.name if label is not None else _UNKNOWN.format(region.name),
        )

    def _note(self, kind: str, where: str, detail: str) -> None:
        self.oddities.append(Oddity(kind, where, detail))


def _facts(rows: Sequence[Row], images: Sequence[SourceImage]) -> dict[str, object]:
    """The counts of `index.json`; `women` is None where no DICOM names are there."""
    birads = Counter(row.birads for row in rows)
    labels = Counter(str(LABELS[row.birads]) for row in rows)
    women = {image.patient_id for image in images} - {""}
    return {
        "rows": len(rows),
        "images": len(images),
        "women": len(women) or None,
        "birads": {value: birads[value] for value in LABELS if birads[value]},
        "labels": {"0": labels["0"], "1": labels["1"], "empty": labels["None"]},
        "images_with_lesions": sum(bool(image.lesions) for image in images),
        "lesions": sum(len(image.lesions) for image in images),
    }
