"""Waiting for a condition, with a deadline. No test sleeps; this is the one place that does between two looks."""

import threading
import time


class DeadlinePassed(AssertionError):
    """The condition did not come true in time."""


def wait_until(condition, deadline=10.0, message=None, interval=0.01):
    """Calls `condition` until it returns something true, and returns that.

    After `deadline` seconds DeadlinePassed says what was waited for and what was seen last. AssertionError and
    connection errors inside `condition` count as "not yet".
    """
    end = time.monotonic() + deadline
    pause = threading.Event()
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() >= end:
            what = message() if callable(message) else message
            raise DeadlinePassed(f"not within {deadline} s: {what or condition}; last seen: {last!r}")
        pause.wait(interval)
