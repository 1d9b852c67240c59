"""CBIS-DDSM: each physical image of the four tables with its files and findings.

An image is positive where any finding in any table is malignant, and its findings are
united, whichever table they stand in. The official split leaks (31 women and 29 images
stand in both halves), so it is only a column, `official_split`, which `dm-split` may
follow after putting each woman on one side; the paper (Shen et al. 2019, Methods)
splits by patient itself. DICOM's PatientID is the folder's name here: the woman is the
table's `patient_id`.

Source: Lee et al. (2017), Sci Data 4:170177.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from dm_preprocess.cbis_ddsm_files import (
    FileTree,
    ImageFile,
    choose_full_image,
    choose_mask,
    is_swapped,
    read_header,
    read_tree,
    series_of,
)
from dm_preprocess.cbis_ddsm_tables import (
    Finding,
    by_image,
    count_facts,
    density_of,
    find_table,
    kinds_of,
    read_tables,
    splits_of,
    table_oddities,
)
from dm_preprocess.sources import (
    Oddity,
    SourceError,
    SourceImage,
    SourceIndex,
    SourceLesion,
)

_SIDES = {"LEFT": "L", "RIGHT": "R"}


def index(src: Path, *, index_only: bool = False) -> SourceIndex:
    """Read the tables and find every image's files.

    Args:
        src: A folder that holds the tables in itself or one folder below, and the
            images in any of the layouts that `cbis_ddsm_files` knows.
        index_only: Read the tables only. No image file is needed or looked for;
            `source_path` is then what the table says and findings have no mask.

    Returns:
        One image per (patient, side, view) in the tables' order. An image whose file
        is missing or unreadable is in `failed`; a finding without a mask has the
        shape "none" and an oddity.

    Raises:
        SourceError: There is no folder or no table, a table lacks a column, a cell is
            outside its set (file and line are named), or there is no image file at all.
    """
    src = Path(src)
    if not src.is_dir():
        raise SourceError(f"{src}: no such folder")
    oddities: list[Oddity] = []
    findings = read_tables(src, oddities)
    images = by_image(findings)
    facts = count_facts(findings, images)
    oddities += table_oddities(findings, images)
    if index_only:
        planned = tuple(_planned_image(src, rows) for rows in images.values())
        return SourceIndex(planned, facts, tuple(oddities))
    search = _Search(read_tree(src, find_table(src, "dicom_info.csv")))
    found = search.find_all(images)
    return SourceIndex(
        tuple(found), facts, tuple(oddities + search.oddities), tuple(search.failed)
    )


@dataclass
class _Search:
    """Looks each image and finding up in the tree and keeps what it could not find."""

    tree: FileTree
    oddities: list[Oddity] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def find_all(self, images: Mapping[str, Sequence[Finding]]) -> list[SourceImage]:
        found = []
        for image_id, rows in tqdm(images.items(), "CBIS-DDSM files", disable=None):
            try:
                found.append(self._find_image(image_id, rows))
            except SourceError as err:
                self.failed.append((image_id, str(err)))
        jpegs = sum(i.source_path.suffix.lower() in (".jpg", ".jpeg") for i in found)
        if jpegs:
            detail = f"{jpegs} images are JPEG copies: 8 bits, lossy"
            self.oddities.append(Oddity("JPEG in place of DICOM", "source", detail))
        return found

    def _find_image(self, image_id: str, rows: Sequence[Finding]) -> SourceImage:
        """The first of an image's files that is there, and all its findings."""
        fulls: dict[str, ImageFile] = {}
        problems: list[str] = []
        for finding in _one_per_subject(rows):
            try:
                fulls[finding.subject] = self._find_full(finding)
            except SourceError as err:
                problems.append(str(err))
        if not fulls:
            raise SourceError("; ".join(problems))
        self._note("one of an image's files is missing", image_id, *problems)
        main = next(iter(fulls.values()))
        lesions = [
            self._find_lesion(f, lesion_id, fulls.get(f.subject, main))
            for lesion_id, f in _with_ids(rows)
        ]
        return _source_image(rows, main.path, lesions)

    def _find_full(self, finding: Finding) -> ImageFile:
        uid = series_of(finding.image_cell)
        files = self.tree.files(finding.subject, [uid])
        if not files:
            raise SourceError(
                f"no full image: neither a folder {finding.subject} nor the series "
                f"{uid or '?'} under {self.tree.root} ({finding.where})"
            )
        return choose_full_image(self._headers(files, finding.subject, strict=True))

    def _find_lesion(
        self, finding: Finding, lesion_id: str, full: ImageFile
    ) -> SourceLesion:
        cells = (finding.mask_cell, finding.crop_cell)
        subject = f"{finding.subject}_{finding.number}"
        files = self.tree.files(subject, map(series_of, cells))
        try:
            choice = choose_mask(self._headers(files, lesion_id), full)
            mask, problem = choice.path, choice.problem
        except SourceError as err:
            mask, problem = None, str(err)
        if mask is None:
            self._note("finding without a mask", lesion_id, f"{subject}: {problem}")
        elif is_swapped(mask, *cells):
            detail = f"{finding.where}: the mask is {mask.parent.name}/{mask.name}"
            self._note("mask and crop swapped in the table", lesion_id, detail)
        return _source_lesion(finding, lesion_id, mask)

    def _headers(
        self, files: Sequence[Path], where: str, *, strict: bool = False
    ) -> list[ImageFile]:
        """The readable files' headers; `strict` refuses to go on with none at all."""
        headers, problems = [], []
        for path in files:
            try:
                headers.append(read_header(path, self.tree.descriptions.get(path, "")))
            except SourceError as err:
                problems.append(str(err))
        if strict and problems and not headers:
            raise SourceError("; ".join(problems))
        self._note("unreadable file", where, *problems)
        return headers

    def _note(self, kind: str, where: str, *details: str) -> None:
        self.oddities += [Oddity(kind, where, detail) for detail in details]


def _one_per_subject(rows: Sequence[Finding]) -> Iterator[Finding]:
    """A physical image in several tables is distributed once for each of them."""
    seen = set()
    for finding in rows:
        if finding.subject not in seen:
            seen.add(finding.subject)
            yield finding


def _with_ids(rows: Sequence[Finding]) -> Iterator[tuple[str, Finding]]:
    """Each finding with its lesion id.

    The abnormality id counts within one table, so the kind is part of the id, and the
    split too where both splits' tables of a kind use a number (the official ones never
    do).
    """
    seen = set()
    for finding in rows:
        lesion_id = f"{finding.image_id}_{finding.kind}_{finding.number}"
        if lesion_id in seen:
            lesion_id += f"_{finding.split}"
        seen.add(lesion_id)
        yield lesion_id, finding


def _planned_image(src: Path, rows: Sequence[Finding]) -> SourceImage:
    lesions = [_source_lesion(f, lesion_id, None) for lesion_id, f in _with_ids(rows)]
    return _source_image(rows, src / rows[0].image_cell, lesions)


def _source_image(
    rows: Sequence[Finding], path: Path, lesions: Sequence[SourceLesion]
) -> SourceImage:
    first = rows[0]
    splits = splits_of(rows)
    return SourceImage(
        image_id=first.image_id,
        patient_id=first.patient_id,
        laterality=_SIDES[first.side],
        view=first.view,
        label=int(any(f.malignant for f in rows)),
        source_path=path,
        source="cbis-ddsm",
        lesions=tuple(lesions),
        density=density_of(rows),
        note="in mass and calc tables" if len(kinds_of(rows)) == 2 else "",
        extra={"official_split": "both" if len(splits) == 2 else first.split},
    )


def _source_lesion(finding: Finding, lesion_id: str, mask: Path | None) -> SourceLesion:
    return SourceLesion(
        lesion_id=lesion_id,
        abnormality=finding.kind,
        malignant=int(finding.malignant),
        shape="none" if mask is None else "mask",
        geometry=() if mask is None else (mask,),
        pathology=finding.pathology,
        subtlety=finding.subtlety,
        assessment=finding.assessment,
    )
