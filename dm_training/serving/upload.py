"""The one file of an upload, taken out of its body in memory.

The body is the file itself, or a form as browsers and `curl -F` send it, whose field
`file` is the file. Its name is given on, for side and view alone. Frameworks write
parts of forms to temporary files above some size; this one writes nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from dm_training.serving.errors import RequestError

# The parser would log the bytes that it stumbles over.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

FIELD = "file"
MOST_PARTS = 100  # a part costs more time than its bytes do


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: bytes = b""
    value: bytes = b""
    data: bytearray = field(default_factory=bytearray)


def file_of(body: bytes, content_type: str) -> tuple[bytes, str]:
    """The file's bytes, and its name.

    Args:
        body: The request's.
        content_type: Its header; "" for none.

    Returns:
        (bytes, name): "" where a form names none, or the body is the file.

    Raises:
        RequestError: Empty, a damaged form, one of too many parts, or without the
            field `file` or with several.
    """
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        found, name = body, ""
    else:
        parts = _parts(body, options.get(b"boundary", b""))
        files = [part for part in parts if _option(part, b"name") == FIELD.encode()]
        if len(files) != 1:
            raise RequestError(
                f"the form must have one field {FIELD!r}, received {len(files)}"
            )
        found = bytes(files[0].data)
        name = _option(files[0], b"filename").decode("utf-8", "replace")
    if not found:
        raise RequestError("the file is empty: 0 bytes were received")
    return found, name


def _parts(body: bytes, boundary: bytes) -> list[_Part]:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    parts: list[_Part] = []
    ended: list[bool] = []

    def part_begin() -> None:
        if len(parts) == MOST_PARTS:
            raise RequestError(f"a form must have at most {MOST_PARTS} parts")
        parts.append(_Part())

    def header_end() -> None:
        part = parts[-1]
        part.headers[part.name.lower()] = part.value
        part.name = part.value = b""

    def name(data: bytes, start: int, end: int) -> None:
        parts[-1].name += data[start:end]

    def value(data: bytes, start: int, end: int) -> None:
        parts[-1].value += data[start:end]

    callbacks = {
        "on_part_begin": part_begin,
        "on_part_data": lambda data, a, b: parts[-1].data.extend(data[a:b]),
        "on_header_field": name, "on_header_value": value,
        "on_header_end": header_end, "on_end": lambda: ended.append(True),
    }  # fmt: skip
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except RequestError:
        raise
    except (FormParserError, ValueError) as err:
        raise RequestError("the form is damaged") from err
    if not ended:
        raise RequestError("the form is cut off")
    return parts


def _option(part: _Part, name: bytes) -> bytes:
    from python_multipart.multipart import parse_options_header

    disposition = part.headers.get(b"content-disposition", b"")
    return parse_options_header(disposition)[1].get(name, b"")
