"""NRRD and MetaImage files, written line by line as their formats describe them."""

import bz2
import gzip
import zlib
from pathlib import Path

import numpy as np

NRRD_TYPES = {
    "i2": "short",
    "u2": "unsigned short",
    "u1": "uint8",
    "i4": "int",
    "f4": "float",
    "f8": "double",
}
META_TYPES = {"i2": "MET_SHORT", "u2": "MET_USHORT", "u1": "MET_UCHAR", "i4": "MET_INT", "f4": "MET_FLOAT",
              "f8": "MET_DOUBLE"}  # fmt: skip
PACK = {
    "raw": bytes,
    "gzip": gzip.compress,
    "gz": gzip.compress,
    "bzip2": bz2.compress,
    "zlib": zlib.compress,
}


def vector(values):
    return "(" + ",".join(f"{value:.17g}" for value in values) + ")"


def nrrd_fields(stored, affine, encoding="gzip"):
    """The fields of `(slices, rows, columns)`, or `(slices, rows, columns, layers)`, on an LPS matrix."""
    none = ["none"] * (stored.ndim - 3)
    return {
        "type": NRRD_TYPES[stored.dtype.str[1:]],
        "dimension": stored.ndim,
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, stored.shape[::-1])),
        "space directions": " ".join([*none, *(vector(affine[:3, axis]) for axis in range(3))]),
        "kinds": " ".join([*("list" for _ in none), *["domain"] * 3]),
        "endian": "big" if stored.dtype.str[0] == ">" else "little",
        "encoding": encoding,
        "space origin": vector(affine[:3, 3]),
    }


def write_nrrd(path: Path, stored, affine, encoding="gzip", values=(), **changes):
    """Write an NRRD file; `changes` replace fields (blanks as `_`), None removes one."""
    fields = nrrd_fields(stored, affine, encoding) | {k.replace("_", " "): v for k, v in changes.items()}
    lines = ["NRRD0004", "# a comment", *(f"{k}: {v}" for k, v in fields.items() if v is not None)]
    lines += [f"{key}:={value}" for key, value in dict(values).items()]
    content = PACK.get(encoding, bytes)(stored.tobytes())
    head = "\n".join(lines).encode() + b"\n\n"
    if changes.get("data_file"):
        (path.parent / changes["data_file"]).write_bytes(content)
        content = b""
    path.write_bytes(head + content)
    return path


def write_metaimage(path: Path, stored, affine, packed=False, **changes):
    """Write a MetaImage file; `changes` replace fields, None removes one."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    file = changes.pop("ElementDataFile", "LOCAL")
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": stored.dtype.str[0] == ">",
        "CompressedData": packed,
        "TransformMatrix": " ".join(f"{v:.17g}" for v in (affine[:3, :3] / spacing).T.ravel()),
        "Offset": " ".join(f"{v:.17g}" for v in affine[:3, 3]),
        "ElementSpacing": " ".join(f"{v:.17g}" for v in spacing),
        "DimSize": " ".join(map(str, stored.shape[::-1])),
        "ElementType": META_TYPES[stored.dtype.str[1:]],
    } | changes
    lines = [f"{key} = {value}" for key, value in fields.items() if value is not None]
    content = zlib.compress(stored.tobytes()) if packed else stored.tobytes()
    head = "\n".join([*lines, f"ElementDataFile = {file}"]).encode() + b"\n"
    if file != "LOCAL":
        (path.parent / file).write_bytes(content)
        content = b""
    path.write_bytes(head + content)
    return path
