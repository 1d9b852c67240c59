"""mini-MIAS: 322 digitised films, `Info.txt`, circles around 119 of 123 findings.

What the files really hold: the size is the image's own (1024, or 512 in a reduced
copy); y counts from the bottom, so row = height - 1 - y; seven films have several rows;
four findings have no coordinates. Films 2n-1 and 2n are one woman. Info.txt calls the
even numbers left; the lead markers on the films themselves say that odd is left, and
the films are believed.

Source: Suckling et al. (1994), Excerpta Medica ICS 1069, 375-378; Info.txt.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from dm_preprocess.sources import (
    Oddity,
    SourceError,
    SourceImage,
    SourceIndex,
    SourceLesion,
)

CLASSES = ("CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM", "NORM")
_TISSUES = {"F": "fatty", "G": "fatty-glandular", "D": "dense-glandular"}
_REFERENCE = re.compile(r"mdb(\d{3})\b", re.IGNORECASE)
_FULL_SIZE, _FULL_SPACING_MM = 1024, 0.2


@dataclass(frozen=True)
class _Row:
    """One line of Info.txt; `circle` is (x, y, radius) as written, or None."""

    film: str
    number: int
    tissue: str
    kind: str
    severity: str
    circle: tuple[int, int, int] | None
    line: int


def index(src: Path, *, index_only: bool = False) -> SourceIndex:
    """Read Info.txt and the headers of the films.

    Args:
        src: The folder that holds Info.txt and the films `mdbNNN.pgm`.
        index_only: Read Info.txt alone; findings then have no outline.

    Returns:
        One image a film; a film whose file is missing or broken is in `failed`.

    Raises:
        SourceError: There is no Info.txt, or a line of it breaks a rule.
    """
    src = Path(src)
    info = _file(src, "info.txt")
    if info is None:
        raise SourceError(f"{src}: no Info.txt; it lists mini-MIAS's findings")
    rows = _read_info(info)
    films = defaultdict(list)
    for row in rows:
        films[row.film].append(row)
    oddities = [_side_oddity(), *_row_oddities(films)]
    images, failed = [], []
    for film, found in films.items():
        path = _file(src, f"{film}.pgm") or src / f"{film}.pgm"
        try:
            size = None if index_only else pgm_size(path)
        except (SourceError, OSError) as err:
            failed.append((film, str(err)))
            continue
        images.append(_image(path, found, size))
    return SourceIndex(
        tuple(images), _facts(films, rows), tuple(oddities), tuple(failed)
    )


def pgm_size(path: Path) -> tuple[int, int]:
    """Rows and columns of a PGM (P2 or P5), from its header alone.

    Raises:
        SourceError: The file is no PGM; it is named.
    """
    with open(path, "rb") as file:
        head = file.read(2048)
    text = re.sub(rb"#[^\n]*", b"", head)
    found = re.match(rb"P[25]\s+(\d+)\s+(\d+)\s+\d+\s", text)
    if found is None:
        raise SourceError(f"{path}: not a PGM image, it begins with {head[:8]!r}")
    return int(found[2]), int(found[1])


def _file(src: Path, name: str) -> Path | None:
    """A file by name in any case: distributions differ."""
    if (src / name).is_file():
        return src / name
    found = [p for p in src.iterdir() if p.name.lower() == name and p.is_file()]
    return found[0] if found else None


def _read_info(path: Path) -> list[_Row]:
    rows = []
    text = path.read_text(encoding="latin-1")
    for line, content in enumerate(text.splitlines(), start=1):
        if _REFERENCE.match(content.strip()):
            rows.append(_row(content.split(), path, line))
    if not rows:
        raise SourceError(f"{path}: no line that begins with mdbNNN")
    return rows


def _row(cells: list[str], path: Path, line: int) -> _Row:
    def check(number: int, name: str, allowed) -> str:
        value = cells[number] if len(cells) > number else ""
        if value not in allowed:
            raise SourceError(
                f"{path}: line {line}, {name}: must be one of {', '.join(allowed)}, "
                f"received {value!r}"
            )
        return value

    film = cells[0].lower()
    tissue = check(1, "tissue", _TISSUES)
    kind = check(2, "class", CLASSES)
    severity = "" if kind == "NORM" else check(3, "severity", ("B", "M"))
    rest = cells[4:]
    if (
        rest
        and "*NOTE" not in rest
        and not (len(rest) == 3 and all(cell.isdigit() for cell in rest))
    ):
        raise SourceError(
            f"{path}: line {line}: x, y and radius must be three whole numbers or "
            f"'*NOTE 3*', received {' '.join(rest)!r}"
        )
    circle = None if not rest or "*NOTE" in rest else tuple(int(cell) for cell in rest)
    return _Row(film, int(film[3:]), tissue, kind, severity, circle, line)


def _image(path: Path, rows: list[_Row], size: tuple[int, int] | None) -> SourceImage:
    first = rows[0]
    findings = [row for row in rows if row.kind != "NORM"]
    spacing = None if size is None else _FULL_SPACING_MM * _FULL_SIZE / size[0]
    return SourceImage(
        image_id=first.film,
        patient_id=f"mias_{(first.number + 1) // 2:03d}",
        laterality="L" if first.number % 2 else "R",
        view="MLO",
        label=int(any(row.severity == "M" for row in findings)),
        source_path=path,
        source="mini-mias",
        spacing_mm=spacing,
        density=_TISSUES[first.tissue],
        lesions=tuple(_lesion(n, row, size) for n, row in enumerate(findings, start=1)),
    )


def _lesion(number: int, row: _Row, size: tuple[int, int] | None) -> SourceLesion:
    shape, geometry = "none", ()
    if row.circle is not None and size is not None:
        x, y, radius = row.circle
        shape, geometry = "circle", (size[0] - 1 - y, x, radius)
    return SourceLesion(
        lesion_id=f"{row.film}_{number}",
        abnormality="calc" if row.kind == "CALC" else "mass",
        malignant=int(row.severity == "M"),
        shape=shape,
        geometry=geometry,
        pathology="MALIGNANT" if row.severity == "M" else "BENIGN",
        note=row.kind,
    )


def _side_oddity() -> Oddity:
    detail = (
        "it calls even numbers left and odd ones right; the markers on the films say "
        "the reverse (mdb005: L, mdb006: R), which is used"
    )
    return Oddity("Info.txt contradicts the films", "Info.txt", detail)


def _row_oddities(films: dict[str, list[_Row]]) -> list[Oddity]:
    found = []
    for film, rows in films.items():
        if len(rows) > 1:
            lines = ", ".join(str(row.line) for row in rows)
            found.append(Oddity("several rows", film, f"lines {lines} of Info.txt"))
        for row in rows:
            if row.kind != "NORM" and row.circle is None:
                detail = f"line {row.line}: {row.kind} {row.severity} with no circle"
                found.append(Oddity("finding without coordinates", film, detail))
    return found


def _facts(films: dict[str, list[_Row]], rows: list[_Row]) -> dict[str, int]:
    findings = [row for row in rows if row.kind != "NORM"]
    malignant = {row.film for row in findings if row.severity == "M"}
    return {
        "rows": len(rows),
        "images": len(films),
        "women": len({(rows[0].number + 1) // 2 for rows in films.values()}),
        "findings": len(findings),
        "findings_with_coordinates": sum(row.circle is not None for row in findings),
        "malignant_images": len(malignant),
        "images_with_several_rows": sum(len(rows) > 1 for rows in films.values()),
    }
