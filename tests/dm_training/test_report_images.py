import io

import numpy as np
import pytest
from PIL import Image

from dm_training.report_images import image_kind, image_size, read_picture
from dm_training.report_parts import Picture, ReportError


def encoded(shape, kind, **options):
    held = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(held, kind, **options)
    return held.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}),
     ("JPEG", {"exif": b"Exif\0\0" + b"\0" * 3000, "comment": b"\xff\xc0 no frame"})],
    ids=["png", "jpeg", "progressive", "with other segments"],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(300, 20), (7, 401, 3)], ids=["grey", "colour"])
def test_the_size_is_told_by_the_header(kind, options, shape):
    data = encoded(shape, kind, **options)
    assert image_size(data[:4000], "x") == shape[:2]


def test_a_broken_or_other_image_is_named():
    with pytest.raises(ReportError, match="x: ends before its size is told"):
        image_size(encoded((9, 9), "PNG")[:20], "x")
    with pytest.raises(ReportError, match="x: ends before its size is told"):
        image_size(encoded((9, 9), "JPEG")[:60], "x")
    with pytest.raises(ReportError, match="x: must be a PNG or JPEG, received an SVG"):
        image_size(b"<svg/>", "x")
    with pytest.raises(ReportError, match="x: must be a PNG.* received.*GIF89a"):
        image_size(b"GIF89a", "x")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"<svg xmlns='x'>", "image/svg+xml"),
        (b"<?xml version='1.0'?>\n<!DOCTYPE svg>\n<!-- a --> <svg>", "image/svg+xml"),
    ],
)
def test_the_kind_is_told_by_the_first_bytes(tmp_path, data, kind):
    assert image_kind(data, "x") == kind
    path = tmp_path / "misnamed.gif"
    path.write_bytes(data)
    assert read_picture(Picture(path)) == (data, kind)
    assert read_picture(Picture(data)) == (data, kind)


def test_a_page_of_html_is_no_svg():
    with pytest.raises(ReportError, match="a picture: must be a PNG, JPEG or SVG"):
        read_picture(Picture(b"<!doctype html><p><svg>"))
