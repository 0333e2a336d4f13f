"""The bytes of the members of zip archives, unpacked in bounded memory, and their checksums."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator

import numpy as np

from jscope.errors import FileError
from jscope.io._file import File, file_error, shown
from jscope.io._zip import Member

_INPUT, _OUTPUT = 1 << 16, 1 << 20


def beginning(file: File, member: Member, size: int) -> bytes:
    """The first bytes of a member, up to ``size``."""
    size = min(size, member.size)
    if not member.deflated:
        return bytes(file.view(member.start, size, shown(member.name)))
    found = b""
    for chunk in _inflated(file, member, max(size, 1)):
        found += chunk
        if len(found) >= size:
            break
    return found[:size]


def unpacked(file: File, member: Member, *, verify: bool) -> np.ndarray:
    """The bytes of a deflated member, checked."""
    whole = np.empty(member.size, np.uint8)
    at = crc = 0
    for chunk in _inflated(file, member, _OUTPUT):
        if at + len(chunk) > member.size:
            raise _packed_wrong(file, member)
        whole[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
        at += len(chunk)
        crc = zlib.crc32(chunk, crc) if verify else crc
    if at != member.size:
        raise _packed_wrong(file, member)
    if verify and crc != member.crc:
        raise _bad_crc(file, member)
    return whole


def _inflated(file: File, member: Member, most: int) -> Iterator[bytes]:
    """Yields the bytes of a deflated member in chunks of ``most`` at most."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = file.view(member.start, member.packed, shown(member.name))
    for at in itertools.count(0, _INPUT):
        waiting = bytes(packed[at : at + _INPUT])
        ended = at + _INPUT >= member.packed
        while waiting or (ended and not engine.eof):
            try:
                chunk = engine.decompress(waiting, most)
            except zlib.error:
                raise _packed_wrong(file, member) from None
            yield chunk
            if not (chunk or waiting or engine.eof):
                raise _packed_wrong(file, member)  # it waits for more
            waiting = engine.unconsumed_tail
        if engine.unused_data or (engine.eof and not ended):
            raise _packed_wrong(file, member)
        if ended:
            return


def check_crc(file: File, member: Member) -> None:
    """Refuses a member whose bytes are not those that were written."""
    if member.deflated:
        unpacked(file, member, verify=True)
        return
    crc = 0
    for piece in file.pieces(member.start, member.size, shown(member.name)):
        crc = zlib.crc32(piece, crc)
    if crc != member.crc:
        raise _bad_crc(file, member)


def _packed_wrong(file: File, member: Member) -> FileError:
    return file_error(
        file.path,
        f"{shown(member.name)} does not unpack to its {member.size} bytes",
        offset=member.start,
        fix="the file is damaged: fetch it again.",
    )


def _bad_crc(file: File, member: Member) -> FileError:
    return file_error(
        file.path,
        f"the bytes of {shown(member.name)} are not those that were written (CRC-32)",
        offset=member.start,
        fix="the file is damaged: fetch it again.",
    )
