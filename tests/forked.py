"""Processes for the tests that need some, from one that has torch already.

A fresh Python takes seconds to import torch; a child of the fork server is
there at once. Everything else about it is a process of its own. A plain fork
is quicker still and shares what the test has defined; it is for work that
does not train.
"""

import multiprocessing
import os
import signal
import time
import traceback

import pytest

PRELOADED = ["torch", "pytest", "lib.distributed"]
needs_fork = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="needs os.fork"
)


def context():
    """Where processes with torch come from, the same server for all."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    return server


def start(work, *arguments):
    """A process that runs ``work(*arguments)``."""
    process = context().Process(target=work, args=arguments)
    process.start()
    return process


class Fork:
    """A child that runs ``work()`` and leaves without pytest's own ending.

    What it raises is printed, and makes :meth:`finish` and :meth:`kill`
    fail the test.
    """

    def __init__(self, work):
        self.code = None
        self.child = os.fork()
        if self.child == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException:  # noqa: BLE001 (its exit code tells)
                # at once: os._exit empties no buffer
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(code)

    def ended(self):
        """Whether it has ended by now; its exit code is checked later."""
        if self.code is None:
            child, status = os.waitpid(self.child, os.WNOHANG)
            if child:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait_until(self, done):
        """Wait for what ``done()`` sees; fails if the child ends before."""
        limit = time.monotonic() + 60
        while not done():
            assert not self.ended(), f"it ended ({self.code}) before its work"
            assert time.monotonic() < limit, "it does not do its work"
            time.sleep(0.001)

    def finish(self):
        """Wait for its end, which has to be a good one."""
        self.wait_for(0)

    def kill(self):
        """End it hard, in the middle of its work."""
        os.kill(self.child, signal.SIGKILL)
        self.wait_for(-signal.SIGKILL)

    def wait_for(self, code):
        """Wait for its end with this exit code."""
        while not self.ended():
            time.sleep(0.001)
        assert self.code == code, "see the traceback that the child printed"
