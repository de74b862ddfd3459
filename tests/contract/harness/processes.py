"""Child processes that cannot outlive the test run, and a look at who is left of them."""

import os
import shutil
import signal
import subprocess
import threading


def spawn(command, env=None, cwd=None, stdin=subprocess.DEVNULL):
    """Starts `command` in a session of its own; it is killed when the test process dies."""
    setpriv = shutil.which("setpriv")
    prefix = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    return subprocess.Popen(
        prefix + [os.fspath(part) for part in command],
        env=env,
        cwd=cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def processes_of_session(session):
    """The ids of all live processes in the session, zombies left out."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue
        state, session_id = fields[0], int(fields[3])
        if session_id == session and state not in (b"Z", b"X"):
            found.append(int(name))
    return found


def kill_session(session):
    """SIGKILL for what is left of a session that this test run started."""
    for pid in processes_of_session(session):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class LineReader(threading.Thread):
    """Reads a pipe to its end in the background; `lines` grows as they arrive."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self._pipe = pipe
        self.lines = []
        self.start()

    def run(self):
        with self._pipe:
            for line in self._pipe:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    def text(self):
        return "\n".join(list(self.lines))
