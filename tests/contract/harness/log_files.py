"""A second reader, and a writer, of the durable log's files, written from src/wal/wal_format.h alone."""

import struct
from dataclasses import dataclass, field

SEGMENT_HEADER = struct.Struct("<8sII16sQQQQQQqQ")
RECORD_HEADER = struct.Struct("<HBBHHQQIIII")
SEGMENT_HEADER_SIZE = 4096
MAGIC = 0xE1D6
PROLOGUE, HEARTBEAT = 1, 2


def _table():
    rows = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return rows


TABLE = _table()


def crc32c(*pieces):
    crc = 0xFFFFFFFF
    for piece in pieces:
        for byte in piece:
            crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def u32(value):
    return struct.pack("<I", value)


@dataclass
class Record:
    sequence: int
    type: int
    payload: bytes
    durable: int = 0
    offset: int = 0  # of the payload


@dataclass
class Segment:
    number: int
    previous: int
    first: int
    replaces: int
    writer: bytes
    salt: bytes
    records: list = field(default_factory=list)
    end: int = SEGMENT_HEADER_SIZE


# ---- writing ----


def identity_bytes(writer, epoch=1):
    body = struct.pack("<8sII16sQI", b"EIDERWID", 1, 0, writer, epoch, 0)
    return body + u32(crc32c(body))


def record_bytes(salt, record):
    head = RECORD_HEADER.pack(MAGIC, record.type, 0, 40, 0, record.sequence, record.durable, len(record.payload), 0, 0, 0)
    head = head[:32] + u32(crc32c(salt, head[:32]))
    head += u32(crc32c(record.payload, salt, head))
    return head + record.payload + bytes(-len(record.payload) % 8)


def segment_bytes(segment, size):
    head = SEGMENT_HEADER.pack(b"EIDERWAL", 1, SEGMENT_HEADER_SIZE, segment.writer, 1, segment.number, segment.replaces,
                               segment.previous, segment.first, int.from_bytes(segment.salt, "little"), 0, size)
    head += bytes(SEGMENT_HEADER_SIZE - 4 - len(head))
    body = head + u32(crc32c(head)) + b"".join(record_bytes(segment.salt, record) for record in segment.records)
    return body + bytes(size - len(body))


def write_log(folder, segments, size=65536):
    folder.mkdir(parents=True)
    (folder / "identity").write_bytes(identity_bytes(segments[0].writer))
    for segment in segments:
        (folder / f"{segment.number:020}.wal").write_bytes(segment_bytes(segment, size))


# ---- reading ----


def read_record(data, at, salt):
    """The valid record at an offset of a segment, or None."""
    if at + 40 > len(data):
        return None
    fields = RECORD_HEADER.unpack_from(data, at)
    magic, kind, flags, header_size, zero, sequence, durable, size, zero_too, head_crc, crc = fields
    head, end = data[at : at + 36], at + 40 + size
    if (magic, flags, header_size, zero, zero_too) != (MAGIC, 0, 40, 0, 0) or durable >= sequence or size > 32 << 20:
        return None
    if head_crc != crc32c(salt, head[:32]) or end + -size % 8 > len(data) or any(data[end : end + -size % 8]):
        return None
    if crc != crc32c(data[at + 40 : end], salt, head):
        return None
    return Record(sequence, kind, data[at + 40 : end], durable, at + 40)


def read_segment(path):
    data = path.read_bytes()
    magic, version, header_size, writer, _, number, replaces, previous, first, salt, _, size = SEGMENT_HEADER.unpack_from(data)
    assert (magic, version, header_size) == (b"EIDERWAL", 1, SEGMENT_HEADER_SIZE)
    assert u32(crc32c(data[:4092])) == data[4092:4096], "the header's CRC"
    assert len(data) >= size
    segment = Segment(number, previous, first, replaces, writer, salt.to_bytes(8, "little"))
    while (record := read_record(data, segment.end, segment.salt)) and record.sequence == first + len(segment.records):
        segment.records.append(record)
        segment.end += 40 + len(record.payload) + -len(record.payload) % 8
    return segment


def read_log(folder):
    """The segments in use, oldest first. What is torn or damaged ends its segment: see wal_format.h."""
    identity = (folder / "identity").read_bytes()
    assert len(identity) == 48 and identity[:8] == b"EIDERWID" and u32(crc32c(identity[:44])) == identity[44:]
    segments = [read_segment(path) for path in sorted(folder.glob("*.wal"))]
    assert all(segment.writer == identity[16:32] for segment in segments)
    return [one for one in segments if not any(other.replaces <= one.number < other.number for other in segments)]
