"""Prints the size of the smallest arena in which a LiteRT file loads.

    python smallest_arena.py FILE

A file ends its process if an arena is far too small, so each size is tried in
a process of its own. They are forks of this one, which imports little: so that
takes milliseconds.
"""

import os
import sys
import tempfile

from tflite_micro import runtime

# The runtime aligns the arena by so many bytes.
_ALIGNMENT = 16


def smallest_arena(content):
    """The size in bytes for the bytes of a file that loads in a large one."""
    fails, works = 0, 1
    while not _loads(content, works * _ALIGNMENT):
        fails, works = works, 2 * works
    while works - fails > 1:
        middle = (works + fails) // 2
        if _loads(content, middle * _ALIGNMENT):
            works = middle
        else:
            fails = middle
    return works * _ALIGNMENT


def _loads(content, size):
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 2)
            try:
                runtime.Interpreter.from_bytes(content, arena_size=size)
            except RuntimeError:
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        # It may miss some memory, say so and go on.
        return status == 0 and not said.seek(0, os.SEEK_END)


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        print(smallest_arena(file.read()))
