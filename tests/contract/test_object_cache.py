"""The object cache: one fetch for all, nobody's bytes for anybody else, and no wrong byte whatever happens to it."""

import contextlib
import json
import random
from pathlib import Path

import pyarrow
import pyarrow.compute
import pytest

from harness.s3_server import S3Server
from harness.snapshot_client import InFlight, RawPost, Sidecar, error_of

BLOCK = 128 << 10
LISTEN = {"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "EIDER_RESULT_CACHE_MAX": "0"}
COLUMNS = "abcd"
SCAN = "SELECT " + ", ".join(f"sum({c}::HUGEINT)::VARCHAR AS {c}" for c in COLUMNS) + ", count(*) AS n FROM t"
TABLES = {"t": "big.parquet"}


def make_table(rows, seed=1):
    """Numbers that no codec makes smaller: 8 bytes a value, so the object's size is known."""
    source = random.Random(seed)
    return pyarrow.table(
        {
            name: pyarrow.Array.from_buffers(pyarrow.int64(), rows, [None, pyarrow.py_buffer(source.randbytes(rows * 8))])
            for name in COLUMNS
        }
    )


def sums(table):
    wide = pyarrow.decimal128(38)
    return [(*(str(pyarrow.compute.sum(table[c].cast(wide)).as_py()) for c in COLUMNS), table.num_rows)]


def put(sidecar, key, table, groups=16):
    rows = max(1, table.num_rows // groups)
    sidecar.put_table(key, table, row_group_size=rows, compression="none", use_dictionary=False)
    return len(sidecar.object(key))


def blocks_of(requests):
    """The blocks that ranged requests asked for, as often as they did."""
    asked = []
    for request in requests:
        first, last = request.byte_range
        asked += range(first // BLOCK, last // BLOCK + 1)
    return asked


def gets(proxy):
    """Answered requests for bytes; one that a cancelled job had begun does not count."""
    return [one for one in proxy.requests(method="GET", key="parquet$") if one.status == 206]


def cache_files(server):
    return sorted(path for path in (Path(server.data) / "cache").iterdir())


def disk_bytes(server):
    total = 0
    for path in cache_files(server):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


@pytest.fixture(scope="module")
def table():
    return make_table(1 << 18)  # 8 MiB


@pytest.fixture(scope="module")
def big(s3, table):
    """A bucket with that table in it."""
    sidecar = Sidecar("http://127.0.0.1:1", s3)
    sidecar.size = put(sidecar, "big.parquet", table)
    return sidecar


@pytest.fixture
def cached(start_eider, big, s3_proxy):
    """Starts a server whose requests go to that bucket through the proxy."""

    def start(env=None, data=None):
        server = start_eider({**LISTEN, **(env or {})}, data=data)
        return Sidecar(server.snapshot, big.s3, big.bucket, s3_proxy.endpoint), server

    return start


# ---- one fetch for all ----
def test_sixteen_scans_fetch_each_block_once(cached, big, table, s3_proxy):
    sidecar, _ = cached({"SIDECAR_MAX_CONCURRENT_QUERIES": 16})
    s3_proxy.delay(0.02)
    expected = sums(table)
    for call in [InFlight(sidecar.rows, SCAN, TABLES) for _ in range(16)]:
        assert call.result() == expected
    asked = blocks_of(gets(s3_proxy))
    assert len(asked) == len(set(asked)) == -(-big.size // BLOCK)
    assert s3_proxy.count(method="HEAD") == 16
    s3_proxy.forget()
    assert sidecar.rows(SCAN, TABLES) == expected
    assert [one.method for one in s3_proxy.requests()] == ["HEAD"]


def test_a_cold_scan_is_read_ahead(cached, big, table, s3_proxy):
    sidecar, _ = cached({"DUCKDB_THREADS": 1})
    s3_proxy.delay(0.05)
    assert sidecar.rows(SCAN, TABLES) == sums(table)
    seen = gets(s3_proxy)
    assert len(seen) <= 16, "a block at a time is no way to scan"
    steps = sorted([(one.began, 1) for one in seen] + [(one.ended, -1) for one in seen])
    under_way = [sum(step for _, step in steps[: i + 1]) for i in range(len(steps))]
    assert 3 <= max(under_way) <= 8
    assert max(one.byte_range[1] for one in seen) == big.size - 1


def test_a_look_at_the_first_row_fetches_little(cached, big, s3_proxy):
    sidecar, _ = cached({"DUCKDB_THREADS": 1})
    assert len(sidecar.rows("SELECT a FROM t LIMIT 1", TABLES)) == 1
    assert len(set(blocks_of(s3_proxy.requests(method="GET", key="parquet$")))) <= 16


def test_who_waits_for_a_fetch_that_is_given_up_makes_its_own(cached, table, s3_proxy):
    """The first reader leaves in the middle of its fetch; the second had been waiting for the same bytes."""
    sidecar, _ = cached({"DUCKDB_THREADS": 1})
    stalled = s3_proxy.stall(method="GET", key="parquet$")
    first = RawPost(sidecar.base, "/query", sidecar.query_body(SCAN, TABLES))
    s3_proxy.wait_for(1, method="GET", key="parquet$")
    second = InFlight(sidecar.rows, SCAN, TABLES)
    s3_proxy.wait_for(2, method="HEAD")
    assert s3_proxy.count(method="GET", key="parquet$") == 1 and not second.done()
    first.close()
    assert second.result() == sums(table)
    stalled.release()


# ---- whose bytes ----
@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    server = S3Server(tmp_path_factory.mktemp("guarded"), accounts=True)
    server.add_account("stranger", "stranger-secret")
    yield server
    server.stop()


def denied(answer):
    text = error_of(answer, 403)
    assert "refused" in text or "denied" in text.lower() or "access" in text.lower(), text


def test_cached_bytes_are_not_for_strangers(start_eider, guarded):
    """Wrong keys, and right keys of somebody who may not read the object, get the store's refusal."""
    sidecar = Sidecar(start_eider(LISTEN).snapshot, guarded)
    table = make_table(1000)
    put(sidecar, "big.parquet", table, 1)
    assert sidecar.rows(SCAN, TABLES) == sums(table)
    for keys in (
        {"secretAccessKey": "wrong"},
        {"accessKeyId": "nobody"},
        {"accessKeyId": "stranger", "secretAccessKey": "stranger-secret"},
    ):
        denied(sidecar.query(SCAN, TABLES, s3_config={**sidecar.config, **keys}))
        denied(sidecar.query(SCAN, {"t": "big*"}, s3_config={**sidecar.config, **keys}))
    assert sidecar.rows(SCAN, TABLES) == sums(table)


def test_who_may_list_may_not_read(start_eider, guarded):
    """A pattern is answered by a list; the right to read is asked for object by object."""
    sidecar = Sidecar(start_eider(LISTEN).snapshot, guarded)
    table = make_table(1000)
    put(sidecar, "big.parquet", table, 1)
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": ["stranger"]},
                "Action": ["s3:ListBucket"],
                "Resource": f"arn:aws:s3:::{sidecar.bucket}",
            }
        ],
    }
    guarded.client().put_bucket_policy(Bucket=sidecar.bucket, Policy=json.dumps(policy))
    stranger = {**sidecar.config, "accessKeyId": "stranger", "secretAccessKey": "stranger-secret"}
    denied(sidecar.query(SCAN, {"t": "b*.parquet"}, s3_config=stranger))
    assert sidecar.rows(SCAN, {"t": "b*.parquet"}) == sums(table)
    denied(sidecar.query(SCAN, {"t": "b*.parquet"}, s3_config=stranger))
    denied(sidecar.query("SELECT * FROM t LIMIT 0", {"t": "b*.parquet"}, s3_config=stranger))


def test_objects_of_a_pattern_are_asked_for_once_each(cached, big, table, s3_proxy):
    """Cold, the first fetch is the proof; warm, it is a HEAD."""
    sidecar, _ = cached()
    put(sidecar, "many/1.parquet", table.slice(0, 100), 1)
    put(sidecar, "many/2.parquet", table.slice(100, 100), 1)
    for heads, reads in ((0, 2), (2, 0)):
        s3_proxy.forget()
        assert sidecar.rows(SCAN, {"t": "many/*.parquet"}) == sums(table.slice(0, 200))
        assert s3_proxy.count(method="HEAD", key="many/[12]") == heads
        assert s3_proxy.count(method="GET", key="many/[12]") == reads


# ---- objects that change ----
def test_an_object_that_is_replaced_is_read_anew(cached, s3_proxy):
    sidecar, _ = cached()
    for seed in (1, 2, 1, 3):
        table = make_table(5000, seed)
        put(sidecar, "changing.parquet", table)
        for _ in range(2):
            assert sidecar.rows(SCAN, {"t": "changing.parquet"}) == sums(table)


def test_an_object_that_changes_under_a_scan_is_a_conflict(cached, s3_proxy, wait_until):
    """Part of it is cached and part is under way when it is replaced: an error, and then the new one."""
    sidecar, _ = cached({"DUCKDB_THREADS": 1})
    put(sidecar, "swapped.parquet", make_table(1 << 17, 5), 8)
    assert sidecar.rows("SELECT a FROM t LIMIT 1", {"t": "swapped.parquet"})
    stalled = s3_proxy.stall(method="GET", key="swapped", times=1 << 30)
    scan = InFlight(sidecar.query, SCAN, {"t": "swapped.parquet"})
    wait_until(lambda: stalled.hits >= 1, 30)
    after = make_table(1 << 17, 6)
    put(sidecar, "swapped.parquet", after, 8)
    s3_proxy.clear()
    assert "changed" in error_of(scan.result(), 409)
    assert sidecar.rows(SCAN, {"t": "swapped.parquet"}) == sums(after)


# ---- restarts and damage ----
@pytest.mark.once
def test_a_restart_keeps_the_blocks(cached, big, table, s3_proxy):
    sidecar, server = cached()
    assert sidecar.rows(SCAN, TABLES) == sums(table)
    server.stop()
    s3_proxy.forget()
    sidecar, server = cached(data=server.data)
    assert sidecar.rows(SCAN, TABLES) == sums(table)
    assert [one.method for one in s3_proxy.requests()] == ["HEAD"]


def flip(path, offsets):
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 0x40]))


@pytest.mark.once
@pytest.mark.parametrize("part", ["data", "records", "header", "bits", "short", "foreign"])
def test_a_damaged_file_gives_right_answers(cached, big, table, s3_proxy, part):
    sidecar, server = cached()
    assert sidecar.rows(SCAN, TABLES) == sums(table)
    server.stop()
    (path,) = cache_files(server)
    begin = path.stat().st_size - big.size
    blocks = -(-big.size // BLOCK)
    if part == "data":
        flip(path, range(begin + 4096, begin + big.size, 3 * BLOCK))
    elif part == "records":
        flip(path, range(4096, 4096 + 8 * blocks, 24))
    elif part == "header":
        flip(path, [16])
    elif part == "bits":
        flip(path, range(65536, 65536 + 64 + blocks // 8))
    elif part == "short":
        with path.open("r+b") as file:
            file.truncate(begin + big.size - 5)
    else:
        path.write_bytes(b"not ours")
        (path.parent / "a-stray-file").write_bytes(b"neither")
    s3_proxy.forget()
    sidecar, server = cached(data=server.data)
    if part in ("header", "short", "foreign"):
        assert cache_files(server) == []
    assert sidecar.rows(SCAN, TABLES) == sums(table)
    fetched = blocks_of(gets(s3_proxy))
    damaged = {"data": -(-blocks // 3), "records": -(-blocks // 3), "bits": 0}.get(part, blocks)
    assert abs(len(fetched) - damaged) <= 1
    s3_proxy.forget()
    assert sidecar.rows(SCAN, TABLES) == sums(table)
    assert gets(s3_proxy) == []


def kill_while_it_fills(cached, s3_proxy, rounds):
    """Each round reads what the one before was killed over, and is killed over an object of its own."""
    data, before = None, None
    s3_proxy.delay(0.002)
    for number in range(rounds + 1):
        sidecar, server = cached({"DUCKDB_THREADS": 1}, data)
        data = server.data
        if before:
            key, table = before
            for _ in range(2):
                assert sidecar.rows(SCAN, {"t": key}) == sums(table), f"round {number}"
        key, table = before = f"killed-{number}.parquet", make_table(1 << 14, number)
        put(sidecar, key, table, 8)
        s3_proxy.forget()
        fill = InFlight(sidecar.query, SCAN, {"t": key})
        if number % 7:
            s3_proxy.wait_for(1 + number % 4, method="GET", key=key)
        else:
            fill.result()
        server.kill()
        fill.wait()


@pytest.mark.once
def test_kill_9_during_fills(cached, s3_proxy):
    kill_while_it_fills(cached, s3_proxy, 10)


@pytest.mark.once
@pytest.mark.long
def test_kill_9_during_fills_a_hundred_times(cached, s3_proxy):
    kill_while_it_fills(cached, s3_proxy, 100)


# ---- room ----
@pytest.mark.once
def test_the_least_recently_used_goes_first(cached, s3_proxy):
    """Room for three of five objects of some 600 KiB."""
    sidecar, server = cached({"EIDER_CACHE_MAX": "2MiB"})
    tables = [make_table(19000, seed) for seed in range(5)]
    keys = [f"room/{number}.parquet" for number in range(5)]

    def read(number):
        s3_proxy.forget()
        assert sidecar.rows(SCAN, {"t": keys[number]}) == sums(tables[number])
        return len(gets(s3_proxy)) > 0

    for number in range(5):
        put(sidecar, keys[number], tables[number], 1)
        assert read(number)
        assert disk_bytes(server) <= 2 << 20
    assert len(cache_files(server)) == 3
    assert not read(2) and read(0) and not read(2), "2 was used after 3 and 4"
    assert read(3)
    assert disk_bytes(server) <= 2 << 20
    server.stop()
    sidecar, server = cached({"EIDER_CACHE_MAX": "1MiB"}, server.data)
    assert len(cache_files(server)) == 1, "a smaller limit holds from the start"


def test_without_room_nothing_is_kept(cached, big, table, s3_proxy):
    sidecar, server = cached({"EIDER_CACHE_MAX": "0"})
    for _ in range(2):
        s3_proxy.forget()
        assert sidecar.rows(SCAN, TABLES) == sums(table)
        assert len(set(blocks_of(gets(s3_proxy)))) == -(-big.size // BLOCK)
        assert cache_files(server) == []


@pytest.mark.once
def test_the_limit_holds_while_more_is_being_read(cached, big, s3_proxy):
    """An object of 96 MiB, read twice by each of three statements at once: blocks that are in use make room too."""
    sidecar, server = cached({"EIDER_CACHE_MAX": "8MiB"})
    table = make_table(3 << 20)
    put(sidecar, "huge.parquet", table, 24)
    twice = f"{SCAN} UNION ALL SELECT sum(a), sum(b), sum(c), sum(d), count(*) FROM t"
    scans = [InFlight(sidecar.rows, twice, {"t": "huge.parquet"}) for _ in range(3)]
    most = 0
    while not all(scan.done() for scan in scans):
        most = max(most, disk_bytes(server))
    for scan in scans:
        assert scan.result() == sums(table) * 2
    assert 32 << 20 < most <= 65 << 20
    assert disk_bytes(server) <= 8 << 20
