"""Times that were measured once, kept in a file."""

import functools
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import tempfile
import warnings


def cache_path() -> pathlib.Path:
    """The file: `l0keras/latency.json` in the user's folder for caches.

    That is `$XDG_CACHE_HOME`, or `~/.cache`. Whoever deletes the file has
    everything measured anew.
    """
    folder = os.environ.get("XDG_CACHE_HOME")
    folder = pathlib.Path(folder) if folder else pathlib.Path.home() / ".cache"
    return folder / "l0keras" / "latency.json"


def read_cache() -> dict[str, float]:
    """The times in microseconds by their keys; a damaged file has none."""
    path = cache_path()
    try:
        times = json.loads(path.read_text())
        if not isinstance(times, dict) or not all(
            map(_is_time, times.values())
        ):
            raise ValueError("no table of times")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        warnings.warn(
            f"The table of latencies {path} cannot be read ({error}). It is "
            "made anew.",
            stacklevel=2,
        )
        return {}
    return times


def add_to_cache(times: dict[str, float]):
    """Writes times beside those that are there; warns where that fails."""
    path = cache_path()
    with warnings.catch_warnings():
        # Who read it before was warned.
        warnings.simplefilter("ignore")
        times = {**read_cache(), **times}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".json")
        with os.fdopen(handle, "w") as file:
            json.dump(times, file, indent=0, sort_keys=True)
        os.replace(draft, path)
    except OSError as error:
        warnings.warn(
            f"The table of latencies {path} cannot be written ({error}). It "
            "will be measured again next time.",
            stacklevel=2,
        )


def cache_key(key: str, quantization: str | None) -> str:
    """A key in the file: for this processor and this version of LiteRT.

    Args:
        key: what was timed, a string.
        quantization: the way its numbers are written.
    """
    version = importlib.metadata.version("ai-edge-litert")
    parts = [processor(), version, quantization, key]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@functools.cache
def processor() -> str:
    """The name of this machine's processor."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _is_time(value):
    return isinstance(value, (int, float)) and 0 <= value < math.inf
