import contextlib
import os
import sys
import tempfile
import warnings


@contextlib.contextmanager
def quiet():
    """Silences warnings and C++ libraries that write to stderr, in a block.

    Afterwards both are as before. An error in the block gets the hidden text
    as a note, which tracebacks show.
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
        try:
            yield
        except BaseException as error:
            captured.seek(0)
            text = captured.read().decode(errors="replace").strip()
            if text:
                error.add_note(text)
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
