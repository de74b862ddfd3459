"""The documents say what the server does: commands work when pasted, lists are complete.

A block fenced as `sh` whose first word is curl is run as it stands, but for addresses and credentials; every curl in it has
to be answered with 2xx. What is meant to be read only is fenced without `sh`, or shown as an answer.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = REPOSITORY / "src"
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
ARCHITECTURE = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
LISTENERS = {f"EIDER_{name}_LISTEN": "127.0.0.1:0" for name in ("INGEST", "SNAPSHOT", "ANALYTICS")}


def curl_blocks(document):
    blocks = re.findall(r"^```sh\n(.*?)^```$", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if re.match(r"\s*curl\b", block)]


def without_scheme(url):
    return url.removeprefix("http://")


# ---- commands ----


@pytest.fixture
def curl_home(tmp_path):
    """A folder whose .curlrc has every curl tell its status on stderr, whatever its own options are."""
    settings = ['write-out = "%{stderr}status=%{http_code}\\n"', "max-time = 60", 'noproxy = "*"']
    (tmp_path / ".curlrc").write_text("\n".join(settings) + "\n")
    return tmp_path


def run_block(block, curl_home):
    """The statuses of a block's curls, and what it printed."""
    done = subprocess.run(
        ["bash", "-euc", block],
        env={"PATH": os.environ["PATH"], "HOME": str(curl_home), "CURL_HOME": str(curl_home)},
        cwd=curl_home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return re.findall(r"^status=(\d+)$", done.stderr, re.MULTILINE), done.stdout + done.stderr


@pytest.mark.once
@pytest.mark.parametrize("document", [d for d in DOCUMENTS if curl_blocks(d)], ids=lambda d: d.name)
def test_commands_work_when_pasted(document, start_eider, s3, curl_home):
    """The blocks of one document, in their order, against one fresh server."""
    server = start_eider(LISTENERS)
    replaced = {
        "127.0.0.1:8080": without_scheme(server.url),
        "127.0.0.1:8001": without_scheme(server.ingest),
        "127.0.0.1:3214": without_scheme(server.snapshot),
        "127.0.0.1:8000": without_scheme(server.listener("analytics")),
        "http://127.0.0.1:9000": s3.endpoint,
        "my-access-key": s3.access_key,
        "my-secret-key": s3.secret_key,
        "my-bucket": s3.make_bucket("documents"),
    }
    for block in curl_blocks(document):
        command = re.sub("|".join(map(re.escape, replaced)), lambda match: replaced[match.group()], block)
        statuses, output = run_block(command, curl_home)
        assert len(statuses) == len(re.findall(r"^curl\b", block, re.MULTILINE)), f"{command}\n{output}"
        assert all(status.startswith("2") for status in statuses), f"{command}\n{output}"


def test_readme_posts_queries_and_looks():
    commands = "\n".join(curl_blocks(REPOSITORY / "README.md"))
    for path in ("/ingest", "/query", "/tables"):
        assert f"127.0.0.1:8080{path}" in commands


# ---- settings ----


def settings_table(described):
    """The rows of docs/config.md, from what `eider config` prints with nothing set."""
    entry = re.compile(r"^(\w+)=.*\n    from: default; default: (.*)\n    (.*)$", re.MULTILINE)
    rows = [
        f"| `{name}` | {default if default == 'unset' else f'`{default}`'} | {meaning.replace('|', chr(92) + '|')} |"
        for name, default, meaning in entry.findall(described)
    ]
    assert len(rows) == len(re.findall(r"^\w+=", described, re.MULTILINE)), "an entry of an unexpected form"
    return rows


def test_every_setting_is_documented_and_no_other(run_eider):
    described = run_eider("config")
    assert described.returncode == 0, described.stderr
    expected = settings_table(described.stdout)
    text = (REPOSITORY / "docs" / "config.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `[A-Z]\w*` \|.*\|$", text, re.MULTILINE)
    assert documented == expected, "docs/config.md should have this table:\n" + "\n".join(expected)


# ---- routes ----


def test_every_route_is_documented(start_eider):
    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    routes = [f"{route['method']} {route['path']}" for route in start_eider().get("/").json()["endpoints"]]
    assert len(routes) > 10
    missing = [route for route in routes if f"`{route}`" not in text]
    assert not missing, "not in README.md or docs/, each as `METHOD /path`"


# ---- ARCHITECTURE.md ----


def test_architecture_is_short():
    assert len(ARCHITECTURE.splitlines()) <= 200


def test_architecture_names_every_folder_and_no_other():
    folders = {path.name for path in SOURCES.iterdir() if path.is_dir()}
    assert set(re.findall(r"\bsrc/(\w+)/", ARCHITECTURE)) == folders


def test_architecture_has_the_include_table_of_the_build():
    build = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    modules = re.findall(r"^module\((\w+)(?: USES ([\w/ ]+?))?(?: LIBRARIES .*)?\)$", build, re.MULTILINE)
    table = re.findall(r"^\| `(\w+)` \| ?([\w/ ]*?) ?\| [^|]+ \|$", ARCHITECTURE, re.MULTILINE)
    rows = [(name, uses.split()) for name, uses in table if name in dict(modules)]
    assert rows == [(name, uses.split()) for name, uses in modules]


def test_architecture_names_every_thread():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.c"))
    names = set(re.findall(r'(?:thread_start|lane_create)\("(\w+)"', sources))
    assert len(names) > 6
    assert {name for name in names if f"`{name}`" not in ARCHITECTURE} == set()


def test_architecture_has_the_lock_order():
    header = (SOURCES / "base" / "thread.h").read_text(encoding="utf-8")
    order = re.findall(r"ROW\((LOCK_\w+),", header)
    section = ARCHITECTURE.split("## Lock order")[1].split("No lock is held")[0]
    assert re.findall(r"LOCK_\w+", section) == order


# ---- all documents ----


def test_links_between_documents_lead_somewhere():
    documents = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
