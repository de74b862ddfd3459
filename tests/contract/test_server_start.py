"""Settings, listeners and the commands of the binary: design.md section 1."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from harness.eider_process import EiderFactory
from harness.ingest_client import accepted, post_batch
from harness.lakes import FolderLake
from harness.s3_server import free_port
from harness.snapshot_processes import kill, zygote

pytestmark = pytest.mark.once  # servers that are started and ended, again and again

INGEST = {"EIDER_INGEST_LISTEN": "127.0.0.1:0"}
NOT_THERE_YET = ["projects", "staging"]


def refuses_to_start(start_eider, env, *named, args=()):
    """The server exits by itself with an error that names all of `named`; returns its log."""
    server = start_eider(env, args=args, expect_exit=True)
    assert server.returncode not in (0, None) and server.returncode > 0, server.stderr
    for name in named:
        assert name in server.stderr, f"{name} is not in:\n{server.stderr}"
    assert not server.events("server.ready")
    return server


# ---- the two programs ----
def loaded(pid):
    """The libraries of a process, by the first part of their names."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    paths = {Path(line.split()[-1]) for line in lines if ".so" in line}
    return {path.name.split(".")[0]: path for path in paths}


@pytest.fixture
def install(eider_binary, tmp_path_factory):
    """Copies both programs into a folder as a package would; install(...) returns what starts the server there."""
    folder = tmp_path_factory.mktemp("installed")
    factory = EiderFactory(folder / "bin" / "eider", lambda: tmp_path_factory.mktemp("eider"))

    def copy(engine="bin", change=lambda content: content):
        (folder / "bin").mkdir()
        shutil.copy(eider_binary, factory.binary)
        if engine:
            place = folder / engine / "eider-engine"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(change(eider_binary.with_name("eider-engine").read_bytes()))
            place.chmod(0o755)
        return factory

    yield copy
    factory.finish()


def test_each_process_has_the_libraries_that_it_calls(start_eider):
    server = start_eider()
    front, engine = loaded(server.pid), loaded(zygote(server))
    assert {"libduckdb", "libseccomp"} <= engine.keys() and not {"libduckdb", "libseccomp"} & front.keys()
    ours = {"libcurl", "libmicrohttpd", "libcrypto", "libjose"}
    assert ours <= front.keys() and not {*ours, "libssl", "libgnutls"} & engine.keys()


def test_another_library_is_refused(start_eider, install):
    """The listeners open while the library is checked; one byte more, and no job is ever run."""
    installed = install()
    changed = installed.binary.parent.parent / "lib" / "libduckdb.so"  # where its program looks first
    changed.parent.mkdir()
    shutil.copyfile(loaded(zygote(start_eider()))["libduckdb"], changed)
    with changed.open("ab") as file:
        file.write(b"x")
    refuses_to_start(installed, {}, "not the one Eider was built with")


def test_the_engine_may_be_where_packages_put_it(install):
    installed = install("libexec")
    server = installed()
    answer = server.post("/query", json={"sql": "SELECT 42 AS n"})
    assert answer.status_code == 200, answer.text
    assert Path(os.readlink(f"/proc/{zygote(server)}/exe")).parent == installed.binary.parent.parent / "libexec"


def test_a_missing_engine_is_refused(install):
    installed = install(engine=None)
    refuses_to_start(installed, {}, "eider-engine", str(installed.binary.parent), "../libexec")


def test_an_engine_of_another_build_is_refused(install, run_eider):
    word = re.search(r"^build (\w{16})$", run_eider("version").stdout, re.MULTILINE)[1]
    other = "0123456789abcdef"
    installed = install(change=lambda content: content.replace(word.encode(), other.encode()))
    engine = installed.binary.with_name("eider-engine")
    said = subprocess.run([engine], capture_output=True, text=True, timeout=30)
    assert said.returncode == 0 and f"build {other}" in said.stdout
    refuses_to_start(installed, {}, "another build", "eider version")


def test_an_engine_that_is_replaced_is_still_the_one_of_the_start(install, wait_until):
    """An update changes files under a running server: its zygote is started again from what it has open."""
    installed = install()
    server = installed()
    engine = installed.binary.with_name("eider-engine")
    engine.unlink()
    engine.write_bytes(b"something else")
    engine.chmod(0o755)
    before = zygote(server)
    kill(before)
    wait_until(lambda: server.get("/health/ready").status_code == 200 and zygote(server) != before, 15, "it is back")
    assert server.post("/query", json={"sql": "SELECT 42 AS n"}).status_code == 200


# ---- listeners ----
def test_listeners_are_announced_and_then_ready(start_eider):
    server = start_eider({**INGEST, "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"})
    names = [line["name"] for line in server.events("server.listening")]
    assert sorted(names) == ["ingest", "main", "snapshot"]
    events = [line.get("event") for line in server.log_lines()]
    assert events.index("server.ready") > max(n for n, event in enumerate(events) if event == "server.listening")
    ports = {server.address(name)[1] for name in names}
    assert len(ports) == 3 and 0 not in ports


def test_only_the_main_listener_by_default(start_eider):
    server = start_eider()
    assert [line["name"] for line in server.events("server.listening")] == ["main"]
    assert server.address()[0] == "127.0.0.1"


def test_every_log_line_is_json(start_eider):
    server = start_eider(INGEST)
    accepted_key = post_batch(server, "logged", [{"a": 1}]).json()["s3_path"]
    assert accepted_key
    server.stop()
    lines = server.stderr.splitlines()
    assert lines and len(server.log_lines()) == len(lines)
    assert all("event" in line for line in server.log_lines())


def test_the_same_address_twice_names_both_settings(start_eider):
    address = f"127.0.0.1:{free_port()}"
    env = {"EIDER_LISTEN": address, "EIDER_INGEST_LISTEN": address}
    refuses_to_start(start_eider, env, "EIDER_LISTEN", "EIDER_INGEST_LISTEN", address)
    env = {"EIDER_SNAPSHOT_LISTEN": address, "EIDER_INGEST_LISTEN": address}
    refuses_to_start(start_eider, env, "EIDER_SNAPSHOT_LISTEN", "EIDER_INGEST_LISTEN", address)


def test_port_and_another_listener_on_the_same_address(start_eider):
    port = free_port()
    refuses_to_start(start_eider, {"EIDER_INGEST_LISTEN": f"127.0.0.1:{port}", "PORT": port}, "EIDER_INGEST_LISTEN", "PORT")


def test_an_address_in_use_names_the_setting(start_eider):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refuses_to_start(start_eider, {"EIDER_INGEST_LISTEN": address}, "EIDER_INGEST_LISTEN", address)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:x", "256.0.0.1:80"])
def test_addresses_that_are_none(start_eider, address):
    refuses_to_start(start_eider, {"EIDER_INGEST_LISTEN": address}, "EIDER_INGEST_LISTEN")


# ---- PORT ----
def test_port_opens_the_snapshot_listener(start_eider):
    port = free_port()
    server = start_eider({"PORT": port})
    assert server.address("snapshot") == ("127.0.0.1", port)
    assert server.get("/health", server.snapshot).text == '{"status":"ok","service":"duckdb-sidecar"}'


def test_port_is_a_leading_integer(start_eider):
    port = free_port()
    server = start_eider({"PORT": f"{port}abc"})
    assert server.address("snapshot") == ("127.0.0.1", port)


@pytest.mark.parametrize("value", ["abc", "-1", "70000"])
def test_port_that_is_none_exits_1(start_eider, value):
    server = refuses_to_start(start_eider, {"PORT": value}, "PORT")
    assert server.returncode == 1


# ---- exposure ----
@pytest.mark.parametrize(
    "name, address",
    [("EIDER_LISTEN", "0.0.0.0:0"), ("EIDER_INGEST_LISTEN", "0.0.0.0:0"), ("EIDER_SNAPSHOT_LISTEN", "[::]:0")],
)
def test_beyond_loopback_without_tokens_needs_a_plain_yes(start_eider, name, address):
    refuses_to_start(start_eider, {name: address, "EIDER_AUTH": "off"}, name, "EIDER_INSECURE")


def test_insecure_is_said_once_in_the_log(start_eider):
    server = start_eider({"EIDER_LISTEN": "0.0.0.0:0", "EIDER_INSECURE": "1"})
    port = server.address()[1]
    assert server.get("/health", f"http://127.0.0.1:{port}").status_code == 200
    said = [line for line in server.log_lines() if "insecure" in str(line).lower()]
    assert len(said) == 1


@pytest.mark.parametrize("address", ["localhost:0", "127.0.0.2:0"])
def test_other_names_of_loopback_are_loopback(start_eider, address):
    start_eider({"EIDER_LISTEN": address})


# ---- unknown and bad settings ----
def test_unknown_settings_are_errors(start_eider):
    refuses_to_start(start_eider, {"EIDER_FOO": "1"}, "EIDER_FOO")


def test_near_misses_are_errors_too(start_eider):
    said = "EIDER_INGEST_LISTN is not a setting; did you mean EIDER_INGEST_LISTEN?"
    refuses_to_start(start_eider, {"EIDER_INGEST_LISTN": "127.0.0.1:0"}, said)


def test_variables_of_others_are_ignored(start_eider):
    start_eider({"FOO": "1", "EIDERDOWN": "x", "S3_SOMETHING": "y"})


@pytest.mark.parametrize(
    "endpoint", ["minio:9000", "ftp://x", "http://", "http://x/path", "http://u:p@x", "http://x?y", "not a url"]
)
def test_bad_s3_endpoints_are_refused_at_start(start_eider, endpoint):
    env = {"EIDER_LAKE": "s3://bucket/lake", "S3_ENDPOINT": endpoint, "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"}
    refuses_to_start(start_eider, env, "S3_ENDPOINT")


@pytest.mark.parametrize("lake", ["gs://bucket/x", "s3:/bucket", "s3:bucket/x", "file:/lake", "s3://", "s3:///x", "s3://b/../x"])
def test_bad_lakes_are_refused_at_start(start_eider, lake):
    refuses_to_start(start_eider, {"EIDER_LAKE": lake, "S3_ENDPOINT": "http://127.0.0.1:9"}, "EIDER_LAKE")


def test_the_lake_may_be_another_folder(start_eider, tmp_path, table):
    lake = FolderLake()
    server = start_eider({**INGEST, "EIDER_LAKE": str(tmp_path / "my lake")}, lake=lake)
    lake.root = tmp_path / "my lake"
    key = accepted(server, post_batch(server, table, [{"a": 1}]))
    assert (tmp_path / "my lake" / key).is_file()


# ---- --config ----
def write_config(folder, text):
    path = folder / "eider.conf"
    path.write_text(text)
    return str(path)


def test_a_config_file_sets_what_the_environment_does_not(start_eider, tmp_path):
    path = write_config(
        tmp_path, "# how this server listens\n\nEIDER_INGEST_LISTEN=127.0.0.1:0\nEIDER_LISTEN=not-an-address\n"
    )
    server = start_eider(args=["--config", path])  # EIDER_LISTEN is in the environment, which wins
    assert server.ingest and server.url


def test_unknown_names_in_a_config_file_are_errors(start_eider, tmp_path):
    path = write_config(tmp_path, "EIDER_BAR=1\n")
    refuses_to_start(start_eider, {}, "EIDER_BAR", args=["--config", path])


@pytest.mark.parametrize("line", ["no equals sign", "=value"])
def test_broken_lines_in_a_config_file_are_errors(start_eider, tmp_path, line):
    path = write_config(tmp_path, f"EIDER_INGEST_LISTEN=127.0.0.1:0\n{line}\n")
    refuses_to_start(start_eider, {}, path, "2", args=["--config", path])


def test_a_missing_config_file_is_an_error(start_eider, tmp_path):
    path = str(tmp_path / "nowhere.conf")
    refuses_to_start(start_eider, {}, path, args=["--config", path])


# ---- eider config, version, --help ----
def test_config_lists_every_setting(run_eider):
    result = run_eider("config")
    assert result.returncode == 0, result.stderr
    listeners = [f"EIDER_{name}LISTEN" for name in ("", "INGEST_", "SNAPSHOT_", "PROJECTS_", "ANALYTICS_", "STAGING_")]
    for name in listeners + ["EIDER_DATA", "EIDER_LAKE", "EIDER_INSECURE", "PORT", "S3_ENDPOINT", "S3_REGION"]:
        assert re.search(rf"\b{name}\b", result.stdout), f"{name} is not in:\n{result.stdout}"
    assert "127.0.0.1:8080" in result.stdout
    assert "eider-data" in result.stdout


def test_config_shows_current_values_and_masks_secrets(run_eider, tmp_path):
    path = write_config(tmp_path, "S3_REGION=mars-north-7\nAWS_SESSION_TOKEN=token-from-file-123\n")
    env = {
        "EIDER_DATA": "/somewhere/else",
        "S3_SECRET_KEY": "very-secret-1",
        "AWS_SECRET_ACCESS_KEY": "very-secret-2",
        "S3_SECRET_ACCESS_KEY": "very-secret-3",
    }
    result = run_eider("config", "--config", path, env=env)
    assert result.returncode == 0, result.stderr
    assert "/somewhere/else" in result.stdout
    assert "mars-north-7" in result.stdout
    assert "S3_SECRET_KEY" in result.stdout
    for secret in ("very-secret", "token-from-file-123"):
        assert secret not in result.stdout + result.stderr


def test_config_refuses_unknown_settings(run_eider):
    result = run_eider("config", env={"EIDER_FOO": "1"})
    assert result.returncode != 0
    assert "EIDER_FOO" in result.stderr


def test_config_makes_no_data_folder(run_eider, tmp_path):
    run_eider("config", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_version(run_eider):
    result = run_eider("version")
    assert result.returncode == 0
    assert re.match(r"eider \d+\.\d+", result.stdout, re.IGNORECASE)
    assert re.search(r"\b1\.5\.\d\b", result.stdout), "the version of the engine"


@pytest.mark.parametrize("command", [[], ["serve"], ["check"], ["config"], ["version"]])
def test_help(run_eider, command):
    result = run_eider(*command, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    for word in command or ["serve", "check", "config", "version"]:
        assert word in result.stdout
    assert "usage" in result.stdout.lower()
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


@pytest.mark.parametrize("arguments", [["srve"], ["serve", "--nonsense"], ["config", "extra"], ["serve", "--config"]])
def test_wrong_arguments(run_eider, arguments, tmp_path):
    result = run_eider(*arguments, cwd=tmp_path)
    assert result.returncode > 0
    assert result.stdout == ""
    assert arguments[-1] in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong, meant", [("serv", "serve"), ("confg", "config"), ("chekc", "check")])
def test_the_nearest_command_is_named(run_eider, wrong, meant):
    result = run_eider(wrong)
    assert result.returncode == 2
    assert result.stderr == f"eider: unknown command '{wrong}'; did you mean `eider {meant}`?\n"


# ---- personalities that are not there yet ----
@pytest.mark.parametrize("name", NOT_THERE_YET)
def test_a_personality_that_is_not_there_yet_says_so(start_eider, name):
    server = start_eider({f"EIDER_{name.upper()}_LISTEN": "127.0.0.1:0"})
    base = server.listener(name)
    for method, path in (("GET", "/"), ("POST", "/query"), ("GET", "/anything/at/all")):
        answer = server.request(method, path, base)
        assert answer.status_code == 501, f"{method} {path}"
        assert answer.headers["content-type"].startswith("application/json")
        assert isinstance(answer.json(), dict) and answer.json()
    assert server.get("/health/live", base).status_code == 200
    assert server.get("/health/ready", base).status_code == 200


# ---- the data folder ----
def test_two_servers_do_not_share_a_data_folder(start_eider, table):
    first = start_eider(INGEST, lake=FolderLake())
    second = start_eider(INGEST, data=first.data, expect_exit=True)
    assert second.returncode > 0
    assert str(first.data) in second.stderr
    accepted(first, post_batch(first, table, [{"a": 1}]))


def test_the_data_folder_is_free_again_after_kill(start_eider):
    first = start_eider()
    first.kill()
    start_eider(data=first.data)


def test_the_data_folder_is_made_for_its_owner_only(start_eider):
    server = start_eider()
    assert server.data.is_dir()
    assert server.data.stat().st_mode & 0o007 == 0


def test_a_data_folder_that_cannot_be_made(start_eider, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    server = start_eider(data=blocked / "data", expect_exit=True)
    assert server.returncode > 0
    assert str(blocked) in server.stderr


def test_the_default_data_folder_is_in_the_working_directory(start_eider):
    server = start_eider({"EIDER_DATA": None})
    (folder,) = [path for path in server.data.parent.iterdir() if path.is_dir()]
    assert folder.name == "eider-data"
