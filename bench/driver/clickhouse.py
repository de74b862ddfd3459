"""A ClickHouse of one run, in a folder of its own, asked over HTTP."""

import os
import shutil
import subprocess

from parts import free_port, kill_session, load, spawn, wait_until

CONFIG = """<?xml version="1.0"?>
<yandex>
    <logger><level>warning</level><log>{folder}/log</log><errorlog>{folder}/errors</errorlog></logger>
    <http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
    <max_connections>100</max_connections><keep_alive_timeout>60</keep_alive_timeout>
    <path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>
    <users_config>{folder}/users.xml</users_config>
    <default_profile>default</default_profile><default_database>default</default_database>
    <mark_cache_size>67108864</mark_cache_size>
</yandex>
"""
USERS = """<?xml version="1.0"?>
<yandex>
    <profiles><default></default></profiles>
    <users><default><password></password><networks><ip>127.0.0.1</ip></networks>
        <profile>default</profile><quota>default</quota></default></users>
    <quotas><default></default></quotas>
</yandex>
"""


def program():
    """Of EIDER_BENCH_CLICKHOUSE, or what is installed, or None."""
    return os.environ.get("EIDER_BENCH_CLICKHOUSE") or shutil.which("clickhouse-server", path="/usr/bin:/usr/sbin")


class ClickHouse:
    def __init__(self, folder):
        self.port = free_port()
        (folder / "config.xml").write_text(CONFIG.format(folder=folder, http=self.port, tcp=free_port()))
        (folder / "users.xml").write_text(USERS)
        command = [program(), f"--config-file={folder / 'config.xml'}"]
        self._process = spawn(command, cwd=folder, env={"PATH": os.environ["PATH"], "TZ": "UTC"})
        wait_until(self._answers, 60, "ClickHouse answers")

    def _answers(self):
        if self._process.poll() is not None:
            raise RuntimeError("ClickHouse does not start")
        ask = ["curl", "-sf", "-m", "2", f"http://127.0.0.1:{self.port}/?query=SELECT%201"]
        return subprocess.run(ask, capture_output=True).stdout == b"1\n"

    def select(self, clients, requests):
        """The value stands in the text: versions that Debian has know no parameters."""
        path = "/?query=SELECT%20########%20AS%20v%20FORMAT%20JSONCompact"
        return load(self.port, path, connections=clients, requests=requests, warmup=requests // 10)

    def stop(self):
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        kill_session(self._process.pid)
