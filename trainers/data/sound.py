"""Recordings in the two formats that TIMIT comes in."""

import wave

import numpy as np

# As a file's "sample_byte_format" names the order of its bytes.
_DTYPES = {"01": "<i2", "10": ">i2"}
_MAGIC = b"NIST_1A\n"


def read_sound(path):
    """Reads a recording of one channel and 16 bits.

    Args:
        path: a file in NIST SPHERE format, as in LDC93S1 (whatever it is
            called), or a RIFF .wav file.

    Returns:
        A pair: an int16 array `(samples,)`, and the number of samples in a
        second.

    Raises:
        ValueError: another format, more channels, other samples, compressed
            ones, or a file that ends before its sound does.

    Source: NIST's SPHERE header format: a first line with the format, one
    with the header's number of bytes, and lines of a name, a type and a
    value up to `end_head`.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        if content.startswith(_MAGIC):
            return _sphere(content)
        if content.startswith(b"RIFF"):
            return _riff(path)
        raise ValueError(
            "it begins neither as NIST SPHERE files nor as RIFF files do"
        )
    except (ValueError, wave.Error, EOFError) as error:
        raise ValueError(f"The recording {path} is damaged: {error}") from error


def _sphere(content):
    size = content[len(_MAGIC) :].split(b"\n", 1)[0].strip()
    if not size.isdigit():
        raise ValueError(f"its header's size is {size!r}, not a number")
    header = content[: int(size)].decode("latin-1")
    if "\nend_head" not in header:
        raise ValueError("its header has no end_head")
    fields = {}
    for line in header.split("\nend_head")[0].splitlines()[2:]:
        # Strings may have spaces in them.
        parts = line.split(None, 2)
        if len(parts) == 3:
            fields[parts[0]] = parts[2].strip()
    coding = fields.get("sample_coding", "pcm")
    if coding != "pcm":
        raise ValueError(
            f"its sample_coding is {coding}; write it anew as pcm, such as by "
            "sph2pipe -p"
        )
    for name, wanted in (("channel_count", "1"), ("sample_n_bytes", "2")):
        if fields.get(name) != wanted:
            raise ValueError(
                f"its {name} must be {wanted} and is {fields.get(name)}"
            )
    order = fields.get("sample_byte_format")
    if order not in _DTYPES:
        raise ValueError(
            f"its sample_byte_format must be 01 or 10 and is {order}"
        )
    numbers = []
    for name in ("sample_rate", "sample_count"):
        if not fields.get(name, "").isdigit():
            raise ValueError(
                f"its {name} must be a number and is {fields.get(name)}"
            )
        numbers.append(int(fields[name]))
    rate, count = numbers
    body = content[int(size) : int(size) + 2 * count]
    _check_length(len(body) // 2, count)
    return np.frombuffer(body, _DTYPES[order]).astype("int16"), rate


def _riff(path):
    with wave.open(str(path), "rb") as file:
        for name, got, wanted in (
            ("number of channels", file.getnchannels(), 1),
            ("number of bytes in a sample", file.getsampwidth(), 2),
        ):
            if got != wanted:
                raise ValueError(f"its {name} must be {wanted} and is {got}")
        count, rate = file.getnframes(), file.getframerate()
        body = file.readframes(count)
    _check_length(len(body) // 2, count)
    return np.frombuffer(body, "<i2").astype("int16"), rate


def _check_length(got, wanted):
    if got < wanted:
        raise ValueError(f"it has {got} of the {wanted} samples it announces")
