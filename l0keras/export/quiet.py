import contextlib
import os
import sys
import tempfile
import warnings


@contextlib.contextmanager
def quiet():
    """Keeps what C++ libraries write to stderr, and warnings, to itself.

    The text is printed after all if the block raises. Both are as they were
    afterwards.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        try:
            saved = os.dup(2)
        except OSError:
            # There is no stderr to keep quiet.
            yield
            return
        stack.callback(os.close, saved)
        captured = stack.enter_context(tempfile.TemporaryFile())
        sys.stderr.flush()
        os.dup2(captured.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            if failed:
                captured.seek(0)
                sys.stderr.write(captured.read().decode(errors="replace"))
