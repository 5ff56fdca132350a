"""Processes for the tests that need some, from one that has torch already.

A fresh Python takes seconds to import torch; a child of the fork server is
there at once. Everything else about it is a process of its own.
"""

import multiprocessing

PRELOADED = ["torch", "pytest", "lib.distributed"]


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
