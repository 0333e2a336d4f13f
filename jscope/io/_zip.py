"""Zip archives, read strictly: their directory and what lies in the file must say the same.

``zipfile`` believes the directory alone, so a member whose entry is damaged is gone in silence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from jscope.errors import FileError
from jscope.io._file import File, file_error, shown

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_VERSION = 63  # of the format, the last one
_MAX_MEMBERS = 1 << 18
_DESCRIPTOR, _UTF8 = 0x8, 0x800
_HARMLESS = 0x6  # how hard the packer tried
_STORED, _DEFLATED = 0, 8
_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz"}
_FULL32 = 0xFFFFFFFF

# No stream of deflate says more than 258 bytes in two bits.
_DEFLATE_LIMIT = 1032
_LARGE, _DENSE = 256 << 20, 256


class Member(NamedTuple):
    """A member of an archive, whose bytes lie from ``start`` on; ``at`` is that of its header."""

    name: str
    at: int
    start: int
    packed: int
    size: int
    crc: int
    deflated: bool


class _Entry(NamedTuple):
    """A member as the directory tells it."""

    name: bytes
    at: int
    packed: int
    size: int
    crc: int
    version: int
    flags: int
    method: int


def members(file: File) -> list[Member]:
    """The members in the order of the directory; together with it they fill the file."""
    count, start, size = _directory(file)
    entries = list(_entries(file, count, start, size))
    in_file = sorted(entries, key=lambda entry: entry.at)
    starts = [*(entry.at for entry in in_file), start]
    if starts[0] != 0:
        raise _gap(file, 0, starts[0])
    found = {
        entry.at: _member(file, entry, limit)
        for entry, limit in zip(in_file, starts[1:], strict=True)
    }
    names = set[str]()
    for member in found.values():
        if member.name in names:
            raise file_error(
                file.path, f"two members are called {shown(member.name)}", offset=start
            )
        names.add(member.name)
    return [found[entry.at] for entry in entries]


def _gap(file: File, end: int, start: int) -> FileError:
    what = "overlaps the one before it" if start < end else "is not known to the directory"
    return file_error(
        file.path,
        f"what lies at byte {min(start, end)} of the archive {what}",
        offset=min(start, end),
        fix="a member is lost or the directory is damaged: fetch the file again.",
    )


def _directory(file: File) -> tuple[int, int, int]:
    """How many members there are, and the place and size of the directory."""
    end = _find_end(file)
    fields = _END.unpack(file.view(end, _END.size, "the end of the archive"))
    disks, counts, size, start = fields[1:3], fields[3:5], fields[5], fields[6]
    limit = end
    if end >= _LOCATOR.size and bytes(file.view(end - _LOCATOR.size, 4, "")) == b"PK\6\7":
        limit, disks, counts, size, start = _directory64(file, end - _LOCATOR.size)
    if any(disks) or counts[0] != counts[1]:
        raise file_error(file.path, "it is a part of an archive of several files", offset=end)
    if start + size != limit:
        raise file_error(
            file.path,
            f"the directory would lie at {start} to {start + size}, and its end is at {limit}",
            offset=end,
        )
    if counts[0] > _MAX_MEMBERS:
        raise file_error(file.path, f"it has more than {_MAX_MEMBERS} members", offset=end)
    return counts[0], start, size


def _find_end(file: File) -> int:
    """Where the record is that ends an archive: after it comes nothing but its comment."""
    first = max(0, file.size - _END.size - 0xFFFF)
    tail = bytes(file.view(first, file.size - first, "the end of the archive"))
    at = tail.rfind(b"PK\5\6", 0, max(0, len(tail) - _END.size + 4))
    while at >= 0:
        comment = int.from_bytes(tail[at + 20 : at + 22], "little")
        if at + _END.size + comment == len(tail):
            return first + at
        at = tail.rfind(b"PK\5\6", 0, at + 3)
    raise file_error(
        file.path,
        "the archive has no end",
        offset=file.size,
        fix="the file is cut off: fetch it again.",
    )


def _directory64(file: File, at: int) -> tuple[int, tuple[int, ...], tuple[int, ...], int, int]:
    """As the record for large archives has it: where it begins, disks, counts, size and place."""
    _, disk, start, disks = _LOCATOR.unpack(file.view(at, _LOCATOR.size, "the directory's place"))
    fields = _END64.unpack(file.view(start, _END64.size, "the record of the directory"))
    if fields[0] != b"PK\6\6" or start + 12 + fields[1] != at or disk or disks > 1:
        raise file_error(file.path, "the record of the directory is damaged", offset=start)
    return start, fields[4:6], fields[6:8], fields[8], fields[9]


def _entries(file: File, count: int, start: int, size: int) -> Iterator[_Entry]:
    directory = file.view(start, size, "the directory")
    at = 0
    for _ in range(count):
        if at + _ENTRY.size > size or bytes(directory[at : at + 4]) != b"PK\1\2":
            raise file_error(file.path, "an entry of the directory is damaged", offset=start + at)
        fields = _ENTRY.unpack_from(directory, at)
        version, flags, method, (crc, packed, full) = *fields[2:5], fields[7:10]
        lengths, place = fields[10:13], fields[16]
        name_at, at = at + _ENTRY.size, at + _ENTRY.size + sum(lengths)
        if at > size:
            raise file_error(file.path, "an entry is longer than the directory", offset=start + at)
        extra_at = name_at + lengths[0]
        extra = bytes(directory[extra_at : extra_at + lengths[1]])
        full, packed, place = _wide(file, extra, (full, packed, place), start + extra_at)
        name = bytes(directory[name_at:extra_at])
        yield _Entry(name, place, packed, full, crc, version, flags, method)
    if at != size:
        raise file_error(
            file.path, f"the directory goes on after its {count} entries", offset=start + at
        )


def _wide(file: File, extra: bytes, sizes: tuple[int, ...], offset: int) -> tuple[int, ...]:
    """Sizes in 32 bits, where all ones mean that the extra field has them in 64."""
    found = list(sizes)
    at = 0
    while at < len(extra):
        kind, length = struct.unpack_from("<2H", extra.ljust(at + 4, b"\0"), at)
        if at + 4 + length > len(extra):
            raise file_error(file.path, "an extra field is damaged", offset=offset + at)
        values = memoryview(extra)[at + 4 : at + 4 + length]
        at += 4 + length
        if kind != 1:
            continue
        for number, size in enumerate(found):
            if size == _FULL32 and len(values) >= 8:
                found[number], values = int.from_bytes(values[:8], "little"), values[8:]
    return tuple(found)


def _member(file: File, entry: _Entry, limit: int) -> Member:
    """The member that an entry means, which must reach from its place to ``limit``."""
    what = shown(entry.name.decode("utf-8", "replace"))
    local = file.view(entry.at, _LOCAL.size, f"the header of {what}")
    fields = _LOCAL.unpack(local)
    start = entry.at + _LOCAL.size + fields[9]
    name = bytes(file.view(entry.at + _LOCAL.size, fields[9], f"the name of {what}"))
    extra = bytes(file.view(start, fields[10], f"the extra field of {what}"))
    full, packed = _wide(file, extra, (fields[8], fields[7]), start)
    start += fields[10]
    _check_method(file, entry, what)
    told = (fields[6], packed, full)
    later = bool(entry.flags & _DESCRIPTOR)
    known = told == (entry.crc, entry.packed, entry.size) or (later and set(told) <= {0, _FULL32})
    same = (fields[2] ^ entry.flags) & ~_HARMLESS == 0 and fields[3] == entry.method
    if fields[0] != b"PK\3\4" or name != entry.name or not known or not same:
        raise file_error(file.path, f"{what} and the directory differ about it", offset=entry.at)
    _check_end(file, entry, start + entry.packed, limit)
    return Member(
        _name(file, entry, what),
        entry.at,
        start,
        entry.packed,
        entry.size,
        entry.crc,
        entry.method == _DEFLATED,
    )


def _check_end(file: File, entry: _Entry, end: int, limit: int) -> None:
    """After the bytes of a member comes the next one, or first its sizes once more."""
    if end == limit and not entry.flags & _DESCRIPTOR:
        return
    if end > limit or not entry.flags & _DESCRIPTOR:
        raise _gap(file, end, limit)
    rest = bytes(file.view(end, min(limit - end, 25), "what follows a member"))
    sizes = (entry.packed, entry.size)
    forms = [
        b"".join(size.to_bytes(width, "little") for size in sizes)
        for width in (4, 8)
        if max(sizes) < 256**width
    ]
    crc = entry.crc.to_bytes(4, "little")
    if rest not in [mark + crc + form for mark in (b"", b"PK\7\10") for form in forms]:
        raise _gap(file, end, limit)


def _name(file: File, entry: _Entry, what: str) -> str:
    try:
        name = entry.name.decode("utf-8" if entry.flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise file_error(file.path, f"the name {what} is no text", offset=entry.at) from None
    return name


def _check_method(file: File, entry: _Entry, what: str) -> None:
    """Refuses what is no plain array: encrypted, packed otherwise, or packed beyond belief."""
    fix = None
    if entry.flags & ~(_HARMLESS | _DESCRIPTOR | _UTF8):
        problem = "is encrypted" if entry.flags & 1 else "has flags that are not known"
    elif entry.version > _VERSION:
        problem = f"needs version {entry.version / 10} of the format, which is not known"
    elif entry.method not in (_STORED, _DEFLATED):
        method = _METHODS.get(entry.method, f"method {entry.method}")
        problem = f"is packed by {method}, which numpy.savez does not write"
        fix = "write it by numpy.savez or numpy.savez_compressed."
    elif entry.method == _STORED:
        if entry.packed == entry.size:
            return
        problem = f"is not packed, and would be {entry.packed} and {entry.size} bytes"
    elif entry.size > _DEFLATE_LIMIT * entry.packed:
        problem = f"would be {entry.size} bytes out of {entry.packed}, which deflate cannot do"
    elif entry.size > _LARGE and entry.size > _DENSE * entry.packed:
        problem = (
            f"would be {entry.size} bytes out of {entry.packed}: a zip bomb, or an array of one "
            "value"
        )
        fix = "if you trust it, unpack it by numpy.load and save it by numpy.savez."
    else:
        return
    raise file_error(file.path, f"{what} {problem}", offset=entry.at, fix=fix)
