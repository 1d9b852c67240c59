"""Damaged files by the thousand, and what became of each: run in a process of its own.

    python damaged_files.py COUNT SEED FOLDER

Prints one line of JSON: the outcomes, the slowest file, the peak of memory of this
process and of its decoders. A crash or a hang is the caller's to see.
"""

import json
import random
import resource
import struct
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np

SYNTAXES = (
    "DeflatedExplicitVRLittleEndian", "ImplicitVRLittleEndian", "RLELossless",
    "JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless",
    "JPEG2000Lossless", "JPEG2000", "JPEGBaselineProcess1",
)  # fmt: skip
LIMIT = 4 * 2**30
PIXELS = b"\xe0\x7f\x10\x00"
_MARKS = (  # after each of which a size or a length comes
    b"\x28\x00\x10\x00US", b"\x28\x00\x11\x00US", b"\x28\x00\x08\x00IS", PIXELS,
    b"IHDR", b"\xff\xc0", b"\xff\xc3", b"\xff\xf7", b"\xff\x51",
)  # fmt: skip


def picture(rng) -> np.ndarray:
    """A smooth 12-bit picture of 40 x 32."""
    noise = rng.integers(0, 4096, (40, 32)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 2 - 1000, 0, 4095).astype("u2")


def mammogram(pixels, bits=12, **tags):
    """A small mammogram's data set."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.4"  # the same files every time
    dataset.Modality, dataset.PhotometricInterpretation = "MG", "MONOCHROME2"
    dataset.PatientID, dataset.ViewPosition, dataset.ImageLaterality = "P1", "CC", "L"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def write_seeds(folder: Path, rng) -> dict[str, bytes]:
    """Sound files of every format and transfer syntax, by name."""
    image = picture(rng)
    small = (image // 16).astype(np.uint8)
    plain, plain8 = folder / "plain.dcm", folder / "plain8.dcm"
    mammogram(image).save_as(plain, enforce_file_format=True)
    mammogram(small, bits=8).save_as(plain8, enforce_file_format=True)
    for syntax in SYNTAXES:
        source = plain8 if syntax.startswith("JPEGBaseline") else plain
        transcode(source, folder / f"{syntax}.dcm", syntax)
    for suffix in ("png", "tiff", "pgm", "jpg"):
        cv2.imwrite(str(folder / f"8.{suffix}"), small)
        if suffix != "jpg":
            cv2.imwrite(str(folder / f"16.{suffix}"), image * 16)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def transcode(source: Path, target: Path, syntax: str) -> None:
    """Write a DICOM file in another transfer syntax."""
    import gdcm

    reader, change = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def damaged(data: bytes, name: str, rng: random.Random) -> bytes:
    """One file with flipped bits, overwritten bytes, a moved piece, or cut."""
    pixels = max(data.find(PIXELS), 0)
    first = pixels if rng.random() < 0.6 else 132 if name.endswith(".dcm") else 0
    broken = bytearray(data)
    at = rng.randrange(first, len(data))
    kind = rng.choice(("flip", "flip", "flip", "flood", "cut", "move", "huge"))
    if kind == "flip":
        for _ in range(rng.choice((1, 2, 8))):
            broken[rng.randrange(first, len(data))] ^= 1 << rng.randrange(8)
    elif kind == "flood":
        length = min(rng.choice((1, 2, 4, 32)), len(data) - at)
        broken[at : at + length] = bytes([rng.choice((0, 127, 128, 255))]) * length
    elif kind == "cut":
        del broken[at:]
    elif kind == "move":
        broken[at : at + 24] = data[first : first + 24]
    else:
        _enlarge(broken, name, rng)
    return bytes(broken)


def _enlarge(broken: bytearray, name: str, rng: random.Random) -> None:
    """A huge size where the format declares one, else a huge length of a tag."""
    huge = rng.choice((0xFFFF, 0x7FFF, 0xFFFE))
    found = [(broken.find(mark), len(mark)) for mark in _MARKS if mark in broken]
    at, size = rng.choice(found or [(0, 4)])
    at += size + rng.randrange(6)
    broken[at : at + 2] = struct.pack("<H", huge)


def outcome(read, source) -> str:
    """ "read", or the message of the one error; anything else is raised."""
    from dm_training.intake import IntakeError

    try:
        intake = read(source, patient_key=lambda patient: "k")
    except (IntakeError, OSError) as err:
        message = str(err)
        assert message and "\n" not in message, message
        return message
    assert (intake.grey.dtype, intake.grey.ndim) == (np.uint16, 2)
    assert intake.laterality in ("", "L", "R") and intake.grey.size
    return "read"


def main(count: int, seed: int, folder: Path) -> dict:
    """Read `count` damaged files."""
    from dm_training.intake import read_intake

    rng = random.Random(seed)
    (folder / "seeds").mkdir(parents=True)
    seeds = write_seeds(folder / "seeds", np.random.default_rng(seed))
    for name in seeds:
        assert outcome(read_intake, folder / "seeds" / name) == "read", name
    found, slowest, names = {}, 0.0, sorted(seeds)
    for number in range(count):
        name = names[number % len(names)]
        data = damaged(seeds[name], name, rng)
        path = folder / f"now{Path(name).suffix}"
        path.write_bytes(data)
        began = time.monotonic()
        said = outcome(read_intake, path if rng.random() < 0.5 else data)
        slowest = max(slowest, time.monotonic() - began)
        kind = "read" if said == "read" else "refused"
        found.setdefault(name, {"read": 0, "refused": 0})[kind] += 1
        found[name]["died"] = found[name].get("died", 0) + ("decoder died" in said)
    return {"files": found, "slowest_s": round(slowest, 2), **peak()}


def peak() -> dict[str, int]:
    """The most memory that this process, and the largest of its decoders, had."""
    from dm_preprocess import frame_decoding

    frame_decoding._close_all()  # only children that ended are counted
    own, theirs = (
        resource.getrusage(who).ru_maxrss * 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {"peak_bytes": own + theirs, "decoder_bytes": theirs}


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its length and checksum."""
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
