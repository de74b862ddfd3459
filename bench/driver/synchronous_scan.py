"""A reader without read-ahead: the footer, then piece after piece, one ranged GET at a time on one connection.
It decodes nothing. Prints {"ms": N, "requests": N, "bytes": N}.

Usage: synchronous_scan.py URL chunks|groups      a GET for each column chunk, or one for each row group
"""

import http.client
import io
import json
import struct
import sys
import time
from urllib.parse import urlsplit

import pyarrow.parquet

FOOTER_GUESS = 64 * 1024


class Store:
    def __init__(self, url):
        parts = urlsplit(url)
        self._target = f"{parts.path}?{parts.query}"
        self._connection = http.client.HTTPConnection(parts.netloc)
        self.requests = 0
        self.bytes = 0

    def read(self, byte_range):
        """Returns the bytes and the size of the whole object."""
        self._connection.request("GET", self._target, headers={"Range": f"bytes={byte_range}"})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 206:
            raise RuntimeError(f"{answer.status}: {body[:300]}")
        self.requests += 1
        self.bytes += len(body)
        return body, int(answer.headers["Content-Range"].rpartition("/")[2])


def read_footer(store):
    tail, size = store.read(f"-{FOOTER_GUESS}")
    footer_size = struct.unpack("<I", tail[-8:-4])[0] + 8
    if footer_size > len(tail):
        tail, size = store.read(f"-{footer_size}")
    # A file that is a footer alone is enough for its metadata.
    return pyarrow.parquet.read_metadata(io.BytesIO(b"PAR1" + tail[-footer_size:]))


def column_ranges(group):
    for index in range(group.num_columns):
        column = group.column(index)
        first = column.dictionary_page_offset or column.data_page_offset
        yield min(first, column.data_page_offset), column.total_compressed_size


def main(url, unit):
    store = Store(url)
    started = time.monotonic()
    metadata = read_footer(store)
    for index in range(metadata.num_row_groups):
        ranges = list(column_ranges(metadata.row_group(index)))
        if unit == "groups":
            ranges = [(ranges[0][0], sum(size for _, size in ranges))]
        for offset, size in ranges:
            store.read(f"{offset}-{offset + size - 1}")
    took_ms = (time.monotonic() - started) * 1000
    print(json.dumps({"ms": took_ms, "requests": store.requests, "bytes": store.bytes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
