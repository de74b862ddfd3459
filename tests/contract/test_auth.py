"""Who may do what: tokens and their roles on every route, who is asked for one, and what is told to those who have none."""

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.prometheus import scrape
from harness.raw_http import RawConnection
from harness.snapshot_client import InFlight

ROLES = ("read", "write", "admin")
LISTENERS = {
    f"EIDER_{name}_LISTEN": "127.0.0.1:0" for name in ("INGEST", "SNAPSHOT", "ANALYTICS")
}
REQUIRED = {"EIDER_AUTH": "required"}
REFUSED = "Could not validate credentials"
SECRET = b"0123456789abcdef0123456789abcdef"
DUCKDB = "/api/v1/duckdb"
NAMED = f"{DUCKDB}/databases/{{name}}"

# Every route that somebody has to have a role for; test_every_route_is_here compares it with the server's own list.
OPEN = {
    *("GET /", "GET /health", "GET /health/live", "GET /health/ready", "GET /docs", "GET /redoc", "GET /openapi.json"),
    f"GET {DUCKDB}/health",
}
WANTED = {
    "read": [
        *("GET /metrics", "GET /queries", "GET /queries/{id}", "GET /tables", "GET /table/{name}/count"),
        *("GET /tables/{name}", "GET /pool-stats", "GET /snapshot-queue-stats", "POST /query"),
        *(f"POST {DUCKDB}/query", f"POST {DUCKDB}/batch", f"GET {DUCKDB}/statistics", f"POST {DUCKDB}/export"),
        *(f"POST {NAMED}/query", f"POST {NAMED}/batch", f"GET {NAMED}/statistics", f"POST {NAMED}/export"),
        *(f"GET {NAMED}/health", f"GET {NAMED}", f"GET {DUCKDB}/databases"),
        *(f"GET {DUCKDB}/templates/page-stats", f"GET {DUCKDB}/templates/performance-metrics"),
    ],
    "write": [
        *("POST /ingest", "POST /ingest/stream", "POST /flush", "POST /tables/{name}/rows", "PUT /tables/{name}"),
        *("POST /snapshot", f"POST {DUCKDB}/import", f"POST {NAMED}/import"),
    ],
    "admin": [
        *("DELETE /queries/{id}", f"POST {DUCKDB}/databases", f"DELETE {NAMED}"),
        *(f"POST {base}/{verb}" for base in (DUCKDB, NAMED) for verb in ("initialize", "backup", "restore")),
        *(f"POST {base}/circuit-breaker/reset" for base in (DUCKDB, NAMED)),
    ],
}


class Tokens:
    """The tokens of one data folder, by `eider token`."""

    def __init__(self, run, data):
        self._run = run
        self.data = data

    def __call__(self, *words):
        return self._run("token", *words, env={"EIDER_DATA": str(self.data)})

    def create(self, role, name=None):
        done = self("create", "--role", role, "--name", name or role)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    def revoke(self, name):
        assert self("revoke", "--name", name).returncode == 0


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims, secret=SECRET, **header):
    parts = [{"alg": "HS256", "kid": "k", **header}, {"exp": int(time.time()) + 300, "role": "read", **claims}]
    text = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    return f"{text}.{base64url(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def write_keys(path, secret=SECRET):
    path.write_text(json.dumps({"keys": [{"kty": "oct", "kid": "k", "k": base64url(secret)}]}))


@pytest.fixture(scope="module")
def tokens(run_eider, tmp_path_factory):
    return Tokens(run_eider, tmp_path_factory.mktemp("guarded") / "data")


@pytest.fixture(scope="module")
def by_role(tokens):
    return {role: tokens.create(role) for role in ROLES}


@pytest.fixture(scope="module")
def guarded(eider_binary, tmp_path_factory, tokens, by_role):
    """One server with all listeners on loopback that asks everybody for a token."""
    from harness.eider_process import EiderFactory

    factory = EiderFactory(eider_binary, lambda: tmp_path_factory.mktemp("eider"))
    yield factory({**LISTENERS, **REQUIRED}, data=tokens.data)
    factory.finish()


@pytest.fixture
def own_tokens(run_eider, tmp_path):
    return Tokens(run_eider, tmp_path / "data")


def call(server, route, headers=None, base=None):
    """A request without a body to a route's pattern: what the gate says comes before what the route would."""
    method, path = route.split(" ")
    path = path.replace("{name}", "nowhere").replace("{id}", "0123456789abcdef")
    return server.request(method, path, base=base, headers=headers)


# ---- routes and roles ----
def test_every_route_is_here(guarded):
    listed = {f"{route['method']} {route['path']}" for route in guarded.get("/").json()["endpoints"]}
    assert listed == OPEN | {route for routes in WANTED.values() for route in routes}


@pytest.mark.parametrize("route", sorted(OPEN))
def test_some_routes_ask_nobody(guarded, route):
    for headers in ({}, bearer("eider_wrong")):
        assert call(guarded, route, headers).status_code == 200


@pytest.mark.parametrize("wanted", ROLES)
def test_every_other_route_wants_its_role(guarded, by_role, wanted):
    for route in WANTED[wanted]:
        missing = call(guarded, route)
        assert (missing.status_code, missing.headers.get("WWW-Authenticate")) == (401, "Bearer"), route
        for role in ROLES:
            answer = call(guarded, route, bearer(by_role[role]))
            if ROLES.index(role) >= ROLES.index(wanted):
                assert answer.status_code not in (401, 403), f"{role} {route}: {answer.text}"
            else:
                assert answer.status_code == 403, f"{role} {route}: {answer.text}"
                assert f"role {wanted}" in answer.text


def test_each_personality_has_its_shape(guarded, by_role):
    listeners = {"ingest": "POST /ingest", "snapshot": "POST /query", "analytics": f"POST {DUCKDB}/query"}
    for name, route in listeners.items():
        base = guarded.listener(name)
        refused = call(guarded, route, base=base)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        body = refused.json()
        if name == "analytics":
            path = f"{base}{DUCKDB}/query"
            assert body == {"detail": REFUSED, "status_code": 401, "path": path}
        else:
            assert body == {"detail" if name == "ingest" else "error": REFUSED}
        assert call(guarded, route, bearer(by_role["write"]), base).status_code not in (401, 403)
    ours = call(guarded, "GET /queries").json()
    assert (ours["error"], ours["code"]) == (REFUSED, "unauthenticated")


def test_the_staging_services_key_passes_its_gate_alone(start_eider, own_tokens):
    key = "a-key-that-all-share"
    keys = {"GRAPH_API_KEY": key, "EIDER_STAGING_LISTEN": "127.0.0.1:0"}
    token = {role: own_tokens.create(role) for role in ROLES}
    server = start_eider({**REQUIRED, **LISTENERS, **keys}, data=own_tokens.data)
    staging = server.listener("staging")

    def ask(path="/databases/sec/tables", **headers):
        answer = server.get(path, staging, headers=headers)
        return answer.status_code, answer.json().get("detail")

    assert ask() == (401, "Missing API key")
    assert ask(**{"X-Graph-API-Key": key}) == (501, None)
    assert ask(Authorization=f"Bearer {key}") == (501, None)
    assert ask(Authorization=f"Bearer {token['write']}") == (501, None)
    for wrong in (key[:-1], key + "x", key.upper(), token["admin"]):
        assert ask(**{"X-Graph-API-Key": wrong}) == (401, "Invalid API key"), wrong
    for wrong in (key[:-1], key + "x", token["read"]):
        assert ask(Authorization=f"Bearer {wrong}") == (401, "Invalid API key"), wrong
    assert ask("/health") == (501, None)  # open there, and not there yet
    for headers in ({"X-Graph-API-Key": key}, {"Authorization": f"Bearer {key}"}):
        assert server.get("/queries", headers=headers).status_code == 401
    assert key not in server.stderr


def test_paths_and_methods_that_are_not_there_are_told_to_all(guarded):
    assert guarded.get("/nowhere").status_code == 404
    assert guarded.request("DELETE", "/metrics").status_code == 405
    headers = {"Content-Type": "application/json"}
    assert guarded.post("/nowhere", guarded.snapshot, data=b"{", headers=headers).status_code == 401


# ---- statements ----
def run_sql(server, token, text):
    answer = server.post(f"{DUCKDB}/query", json={"query": text}, headers=bearer(token))
    return answer.status_code, answer.text


def test_statements_are_judged_by_the_role(guarded, by_role, table):
    create = f"CREATE TABLE {table} (a INT)"
    assert run_sql(guarded, by_role["read"], create)[0] == 400
    assert run_sql(guarded, by_role["write"], create)[0] == 200
    assert run_sql(guarded, by_role["write"], f"INSERT INTO {table} VALUES (7)")[0] == 200
    for text in (f"INSERT INTO {table} VALUES (8)", f"DELETE FROM {table}", f"DROP TABLE {table}", "CHECKPOINT"):
        assert run_sql(guarded, by_role["read"], text)[0] == 400, text
    status, body = run_sql(guarded, by_role["read"], f"SELECT a FROM {table}")
    assert status == 200 and json.loads(body)["data"] == [[7]]
    batch = {"queries": [f"DELETE FROM {table}"]}
    for role, status, rows in (("read", 400, [[7]]), ("write", 200, [])):
        assert guarded.post(f"{DUCKDB}/batch", json=batch, headers=bearer(by_role[role])).status_code == status
        assert json.loads(run_sql(guarded, by_role["read"], f"SELECT a FROM {table}")[1])["data"] == rows


def test_a_read_token_takes_no_writers_turn(guarded, by_role, table):
    """Its batch runs beside a change that lasts, and a kept result stays."""
    query = {"query": f"SELECT '{table}'"}
    ask = lambda: guarded.post(f"{DUCKDB}/query", json=query, headers=bearer(by_role["read"]))
    lasting = ["CREATE TABLE IF NOT EXISTS lasting AS SELECT 1 AS a", "SELECT count(*) FROM range(100000000000) r(i) WHERE i % 7 = 3"]
    assert ask().status_code == 200 and ask().headers["X-Cache"] == "hit"
    batch = {"queries": ["SELECT 7"]}
    assert guarded.post(f"{DUCKDB}/batch", json=batch, headers=bearer(by_role["read"])).json()["results"][0]["data"] == [[7]]
    assert ask().headers["X-Cache"] == "hit"
    writing = InFlight(
        guarded.post, f"{DUCKDB}/batch", json={"queries": lasting, "timeout_seconds": 20}, headers=bearer(by_role["write"]), timeout=60
    )
    wait_for(lambda: guarded.get("/queries", headers=bearer(by_role["admin"])).json()["queries"])
    began = time.monotonic()
    assert guarded.post(f"{DUCKDB}/batch", json=batch, headers=bearer(by_role["read"])).status_code == 200
    assert time.monotonic() - began < 10
    for query in guarded.get("/queries", headers=bearer(by_role["admin"])).json()["queries"]:
        guarded.request("DELETE", f"/queries/{query['id']}", headers=bearer(by_role["admin"]))
    writing.wait()


def test_a_read_token_does_not_write_into_the_backup_folder(guarded, by_role, table):
    def send(role, route, **fields):
        return guarded.post(f"{DUCKDB}{route}", json=fields, headers=bearer(by_role[role]))

    backup = f"{table}.duckdb"
    assert send("admin", "/backup", to=backup).status_code == 200
    for name in (backup, f"{table}.parquet"):
        assert send("read", "/export", query="SELECT 1 AS a", to=name, overwrite=True).status_code == 403
    assert send("write", "/export", query="SELECT 1 AS a", to=backup, overwrite=True).status_code == 400
    assert send("write", "/export", query="SELECT 1 AS a", to=f"{table}.parquet").status_code == 200
    assert send("admin", "/backup", to=f"{table}_b.parquet").status_code == 400
    assert send("admin", "/restore", **{"from": backup}).status_code == 200


def test_a_page_of_another_site_changes_nothing(guarded, by_role, table):
    """A browser sends the cookie along, and says where the page is from."""
    create = {"query": f"CREATE TABLE {table} (a INT)"}

    def send(site, **headers):
        return guarded.post(f"{DUCKDB}/query", json=create, headers={"Sec-Fetch-Site": site, **headers}).status_code

    cookie = {"Cookie": f"session_id={by_role['write']}"}
    assert send("cross-site", **cookie) == 403
    assert send("Cross-Site", **cookie) == 403
    assert send("cross-site") == 403
    assert send("same-origin", **cookie) == 200
    assert send("cross-site", **bearer(by_role["write"])) == 400  # it is there already
    answer = guarded.get("/queries", headers={"Sec-Fetch-Site": "cross-site", "Cookie": f"session_id={by_role['read']}"})
    assert answer.status_code == 200


ORIGINS = [
    *(("http://evil.example", 403), ("null", 403), ("http://eider.lan.evil.example:8000", 403), ("", 403)),
    *(("http://eider.lan", 403), ("http://eider.lan:8000", 200), ("https://EIDER.lan:8000", 200)),
]


@pytest.mark.parametrize("origin, status", ORIGINS)
def test_an_origin_has_to_be_the_host(guarded, by_role, origin, status):
    """Browsers send no Sec-Fetch-Site to what is neither https nor loopback, and text/plain asks for no leave."""
    headers = {"Host": "eider.lan:8000", "Origin": origin, "Content-Type": "text/plain"}
    ask = json.dumps({"query": "SELECT 1"})
    cookie = {"Cookie": f"session_id={by_role['write']}"}
    assert guarded.post(f"{DUCKDB}/query", data=ask, headers={**headers, **cookie}).status_code == status
    assert guarded.post(f"{DUCKDB}/query", data=ask, headers={**headers, **bearer(by_role["write"])}).status_code == 200
    same = {"Sec-Fetch-Site": "same-origin", **headers, **cookie}  # the browser's word, behind a proxy too
    assert guarded.post(f"{DUCKDB}/query", data=ask, headers=same).status_code == 200
    assert guarded.get("/queries", headers={**headers, **cookie}).status_code == 200


# ---- what is no token ----
@pytest.mark.parametrize(
    "header",
    [
        *("Bearer", "Bearer ", "Bearer eider_", "Bearer x", "Bearer a.b.c", "Basic YTpi", "eider_x", "Token x"),
        *("Bearer e30.e30.", "Bearer " + "A" * 9000, "Bearer eider_" + "A" * 43, "Bearer \xff\xfe"),
    ],
)
def test_what_is_no_token_is_refused_with_one_text(guarded, header):
    answer = guarded.get("/queries", headers={"Authorization": header.encode("latin-1")})
    assert (answer.status_code, answer.json()["error"]) == (401, REFUSED)


def test_a_token_counts_whole(guarded, by_role):
    token = by_role["admin"]
    for wrong in (token[:-1], token + "A", token.swapcase(), token[6:], token + " x", f'"{token}"'):
        assert guarded.get("/queries", headers=bearer(wrong)).status_code == 401
    assert guarded.get("/queries", headers={"authorization": f"bearer   {token}  "}).status_code == 200


def test_the_cookie_is_a_token_where_no_header_is(guarded, by_role):
    def ask(cookie, **headers):
        return guarded.get("/queries", headers={"Cookie": cookie, **headers}).status_code

    good = f"session_id={by_role['read']}"
    assert ask(good) == ask(f"a=b; {good}; c") == ask(f'session_id="{by_role["read"]}"') == 200
    for wrong in ("session_id=", "session_id", "session_id=sess_x", f"x{good}", f"SESSION_ID={by_role['read']}"):
        assert ask(wrong) == 401, wrong
    assert ask(good, **bearer("eider_wrong")) == 401
    assert ask("session_id=x", **bearer(by_role["read"])) == 200


def test_a_body_is_not_waited_for(guarded):
    with RawConnection(guarded.address("ingest")) as connection:
        head = "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 40000000\r\n\r\n"
        connection.send(head.encode())
        assert connection.answer("POST").status == 401


# ---- what is told ----
def test_health_tells_strangers_less(guarded, by_role):
    path = str(guarded.data)
    known = bearer(by_role["read"])
    for route, base in (
        (f"{DUCKDB}/health", None), ("/health", guarded.ingest), ("/", guarded.ingest), ("/health/ready", None)
    ):
        stranger = guarded.get(route, base)
        friend = guarded.get(route, base, headers=known)
        assert stranger.status_code == friend.status_code == 200
        assert path not in stranger.text
        assert (path in friend.text) == (route != "/health/ready")
        assert stranger.json().keys() == friend.json().keys()


def test_refusals_are_counted_by_reason(guarded, by_role, wait_until):
    class Scraper:
        def get(self, path):
            return guarded.get(path, headers=bearer(by_role["read"]))

    def counts():
        return {reason: value for reason, value in scrape(Scraper()).by("eider_auth_refusals_total", "reason").items() if value}

    before = counts()
    guarded.get("/queries")
    guarded.get("/queries", headers=bearer("eider_wrong"))
    guarded.get("/queries", headers=bearer("wrong"))
    call(guarded, "POST /flush", bearer(by_role["read"]))
    moved = {reason: value - before.get(reason, 0) for reason, value in counts().items()}
    assert {reason: gain for reason, gain in moved.items() if gain} == {"missing": 1, "unknown": 2, "role": 1}


def test_the_log_tells_names_and_never_a_token(guarded, by_role, wait_until):
    wrong = "eider_canary7f3a9c51e"
    answers = [
        (guarded.get("/queries", headers=bearer(by_role["read"])), "read"),
        (call(guarded, "POST /flush", bearer(by_role["read"])), "read"),
        (guarded.get("/queries", headers=bearer(wrong)), ""),
        (guarded.get("/queries", headers={"Cookie": f"session_id={wrong}"}), ""),
    ]
    for answer, name in answers:
        wanted = answer.headers["X-Request-Id"]
        line = wait_until(lambda: [one for one in guarded.events("http.request") if one["request"] == wanted], 10)[0]
        assert line["identity"] == name
    for secret in (wrong, *by_role.values()):
        assert secret not in guarded.stderr and secret[6:] not in guarded.stderr


# ---- who is asked ----
def status_without_token(server):
    return server.get("/queries", f"http://127.0.0.1:{server.address()[1]}").status_code


@pytest.mark.parametrize(
    "env, status",
    [
        ({}, 200),
        ({"EIDER_AUTH": "auto"}, 200),
        ({"EIDER_AUTH": "off"}, 200),
        ({"EIDER_AUTH": "required"}, 401),
        ({"EIDER_LISTEN": "0.0.0.0:0"}, 401),
        ({"EIDER_SNAPSHOT_LISTEN": "0.0.0.0:0"}, 401),
        ({"EIDER_LISTEN": "0.0.0.0:0", "EIDER_AUTH": "required", "EIDER_INSECURE": "1"}, 401),
        ({"EIDER_LISTEN": "0.0.0.0:0", "EIDER_INSECURE": "1"}, 200),
        ({"EIDER_LISTEN": "0.0.0.0:0", "EIDER_AUTH": "off", "EIDER_INSECURE": "1"}, 200),
    ],
    ids=str,
)
@pytest.mark.once
def test_who_is_asked(start_eider, env, status):
    server = start_eider(env)
    assert status_without_token(server) == status
    exposed_open = status == 200 and "EIDER_INSECURE" in env
    assert len(server.events("server.insecure")) == exposed_open
    assert len(server.events("server.no_tokens")) == (status == 401)
    if status == 401:
        assert "eider token create --role admin" in server.events("server.no_tokens")[0]["note"]


def test_insecure_is_a_switch_too(start_eider):
    assert status_without_token(start_eider({"EIDER_LISTEN": "0.0.0.0:0"}, args=["--insecure"])) == 200


def test_off_beyond_loopback_needs_a_plain_yes(start_eider):
    server = start_eider({"EIDER_INGEST_LISTEN": "0.0.0.0:0", "EIDER_AUTH": "off"}, expect_exit=True)
    assert server.returncode == 1
    for word in ("EIDER_INGEST_LISTEN", "EIDER_AUTH=off", "EIDER_INSECURE=1"):
        assert word in server.stderr


def test_a_mode_that_is_none_is_an_error(start_eider):
    server = start_eider({"EIDER_AUTH": "on"}, expect_exit=True)
    assert server.returncode == 1 and "EIDER_AUTH must be auto, required or off" in server.stderr


def test_where_nothing_is_asked_a_wrong_token_is_refused_all_the_same(start_eider, own_tokens):
    server = start_eider(data=own_tokens.data)
    assert server.get("/queries", headers=bearer("of-somebody-else")).status_code == 200  # none is there to be meant
    read = own_tokens.create("read")
    server.send(signal.SIGHUP)
    status = lambda **headers: server.get("/queries", headers=headers).status_code  # noqa: E731
    assert wait_for(lambda: status(**bearer("of-somebody-else")) == 401)
    assert status(**bearer(read)) == status() == status(Cookie="session_id=sess_x") == 200
    assert call(server, "POST /flush", bearer(read)).status_code == 403


def wait_for(condition):
    from harness.waiting import wait_until

    return wait_until(condition, 10)


# ---- changes while it runs ----
def test_new_tokens_count_and_revoked_ones_do_not(start_eider, own_tokens):
    server = start_eider(REQUIRED, data=own_tokens.data)
    token = own_tokens.create("read", "grafana")
    assert wait_for(lambda: server.get("/queries", headers=bearer(token)).status_code == 200)
    own_tokens.revoke("grafana")
    assert wait_for(lambda: server.get("/queries", headers=bearer(token)).status_code == 401)


def test_a_broken_file_changes_nothing_and_is_told_once(start_eider, own_tokens):
    token = own_tokens.create("read")
    server = start_eider(REQUIRED, data=own_tokens.data)
    (own_tokens.data / "tokens").write_text("nonsense\n")

    def told():
        assert server.get("/queries", headers=bearer(token)).status_code == 200
        return server.events("auth.files_refused")

    assert wait_for(told)
    assert "line 1" in server.events("auth.files_refused")[0]["error"]
    server.send(signal.SIGHUP)
    assert wait_for(lambda: len(server.events("auth.files_refused")) == 2)
    assert server.get("/queries", headers=bearer(token)).status_code == 200
    assert server.stop() == 0
    assert "line 1" in start_eider(REQUIRED, data=own_tokens.data, expect_exit=True).stderr


# ---- signed tokens ----
def test_signed_tokens(start_eider, tmp_path):
    keys = tmp_path / "keys.json"
    write_keys(keys)
    rules = {"EIDER_JWT_KEYS": str(keys), "EIDER_JWT_ISSUER": "https://issuer", "EIDER_JWT_AUDIENCE": "eider"}
    server = start_eider({**REQUIRED, **rules})
    good = {"iss": "https://issuer", "aud": "eider", "sub": "ada"}

    def status(claims, path="GET /queries", **options):
        return call(server, path, bearer(signed({**good, **claims}, **options))).status_code

    assert status({}) == 200 and status({"aud": ["x", "eider"]}) == 200
    assert status({}, "POST /flush") == 403 and status({"role": "write"}, "POST /flush") == 422
    for wrong in ({"iss": "x"}, {"aud": "x"}, {"role": "root"}, {"exp": 1}, {"nbf": int(time.time()) + 1000}):
        assert status(wrong) == 401, wrong
    for header in ({"alg": "none"}, {"alg": "HS512"}, {"kid": "x"}, {"crit": ["exp"]}):
        assert status({}, **header) == 401, header
    assert status({}, secret=b"x" * 32) == 401
    assert wait_for(lambda: "ada" in {line["identity"] for line in server.events("http.request")})
    token = signed(good)
    assert server.get("/queries", headers=bearer(token)).status_code == 200
    write_keys(keys, b"y" * 32)  # the keys change
    assert wait_for(lambda: server.get("/queries", headers=bearer(token)).status_code == 401)
    assert status({}, secret=b"y" * 32) == 200
    assert token not in server.stderr and token.split(".")[2] not in server.stderr


@pytest.mark.parametrize("text", ["", "{}", '{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}'])
def test_keys_that_are_wrong_stop_the_start(start_eider, tmp_path, text):
    keys = tmp_path / "keys.json"
    keys.write_text(text)
    server = start_eider({"EIDER_JWT_KEYS": str(keys)}, expect_exit=True)
    assert server.returncode == 1 and "server.ready" not in server.stderr


# ---- eider token ----
def test_the_command_line(own_tokens):
    made = own_tokens("create", "--role", "read", "--name", "grafana")
    token = made.stdout.splitlines()[-1]
    assert re.fullmatch(r"eider_[A-Za-z0-9_-]{43}", token) and made.stderr == ""
    path = own_tokens.data / "tokens"
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text() and hashlib.sha256(token.encode()).hexdigest() in path.read_text()
    own_tokens.create("admin", "root")
    assert [line.split()[:2] for line in own_tokens("list").stdout.splitlines()] == [["grafana", "read"], ["root", "admin"]]
    assert own_tokens("revoke", "--name", "grafana").returncode == 0
    assert [line.split()[0] for line in own_tokens("list").stdout.splitlines()] == ["root"]


@pytest.mark.parametrize(
    "words, code",
    [
        *((["create", "--role", "root", "--name", "a"], 1), (["create", "--role", "read", "--name", "a b"], 1)),
        *((["revoke", "--name", "nobody"], 1), ([], 2), (["create"], 2), (["create", "--name", "a"], 2)),
        *((["create", "--role", "read"], 2), (["create", "--name"], 2), (["list", "--name", "a"], 2)),
        *((["revoke", "--name", "a", "--name", "b"], 2), (["make", "--role", "read", "--name", "a"], 2)),
    ],
    ids=str,
)
def test_words_that_are_wrong(own_tokens, words, code):
    done = own_tokens(*words)
    assert done.returncode == code and done.stdout == "" and done.stderr
    assert not (own_tokens.data / "tokens").exists()


def test_help_tells_the_commands(run_eider):
    done = run_eider("token", "--help")
    assert done.returncode == 0
    for word in ("create", "list", "revoke", "--role", "--name"):
        assert word in done.stdout


def test_two_who_make_tokens_take_turns(own_tokens):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: own_tokens.create("read", f"t{number}"), range(16)))
    assert len(set(made)) == 16
    assert len(own_tokens("list").stdout.splitlines()) == 16
    assert os.listdir(own_tokens.data) == ["tokens"]
