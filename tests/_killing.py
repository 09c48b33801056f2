"""Blocks that kill their worker, which imports little of it."""

import os
import signal


def kill_once(block, flag):
    """The same block; the first worker that comes here dies."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return block
    os.kill(os.getpid(), signal.SIGKILL)
