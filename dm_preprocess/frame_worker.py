"""The process that decodes compressed frames, apart from everything else.

GDCM is C++ that ends its process on some damaged streams (an abort in its JPEG and
JPEG 2000 readers, a fault in JPEG Lossless: measured by flipping bits), so it runs here
and `frame_decoding` asks. Requests come on standard input, answers go to standard
output: a line of JSON, then bytes. It gets no header: the stream, and numbers.
"""

from __future__ import annotations

import json
import os
import sys

MEMORY = 3 * 2**30  # bytes of address space
OPTIONS = (
    "rows", "columns", "bits_allocated", "bits_stored", "pixel_representation",
    "photometric_interpretation",
)  # fmt: skip
_LONGEST = 200


def main() -> None:
    """Answer requests until standard input ends."""
    requests, answers = _own_pipes()
    _limit()
    while line := requests.readline():
        request = json.loads(line)
        answer, pixels = _answer(request, requests.read(request["bytes"]))
        answers.write(json.dumps(answer).encode() + b"\n" + pixels)
        answers.flush()


def decode(data: bytes, syntax: str, options: dict):
    """Decode one encapsulated grey frame.

    Args:
        data: The value of (7FE0,0010).
        syntax: Transfer syntax UID.
        options: What `OPTIONS` names.

    Returns:
        An array (rows, columns), stored values.
    """
    from pydicom.pixels import get_decoder

    return get_decoder(syntax).as_array(
        data, raw=True, number_of_frames=1, samples_per_pixel=1,
        pixel_keyword="PixelData", **options,
    )[0]  # fmt: skip


def _answer(request: dict, data: bytes) -> tuple[dict, bytes]:
    try:
        values = decode(data, request["syntax"], request["options"])
        answer = {"shape": values.shape, "dtype": values.dtype.str}
        return answer, values.tobytes()
    except Exception as err:  # the decoders raise whatever they like
        said = " ".join(f"{type(err).__name__}: {err}".split())
        return {"error": said[:_LONGEST]}, b""


def _own_pipes():
    """The two pipes; what decoders print to the terminal goes nowhere."""
    requests, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        sys.path.pop(0)  # its modules would hide others of the same name
    main()
