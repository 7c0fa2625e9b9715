"""Small files in the layout and the formats of TIMIT."""

import io
import wave

import numpy as np

SPLITS = {
    "train": ("FCJF0", "MDAC0", "MKDD0"),
    "validation": ("FAKS0",),
    "test": ("MDAB0", "FELC0"),
}
# Of the training folder a few, of the test folder two of the core test set,
# one of the development set and one of neither.
SPEAKERS = {
    "TRAIN": SPLITS["train"],
    "TEST": (*SPLITS["test"], *SPLITS["validation"], "MJSW9"),
}
SENTENCES = ("SA1", "SX37", "SI648")
# Vowels far apart, so that a network can learn them.
PHONES = {"iy": (300, 2300), "aa": (750, 1100), "uw": (300, 850), "q": (60, 90)}


def write(folder, kind="sphere", lower=False):
    """Writes a corpus of 21 recordings of about a second.

    Args:
        folder: where `TRAIN` and `TEST` go.
        kind: `"sphere"` or `"riff"`.
        lower: whether names are in lower case.
    """
    rng = np.random.default_rng(0)
    for part, speakers in SPEAKERS.items():
        for speaker in speakers:
            for sentence in SENTENCES:
                place = f"{part}/DR1/{speaker}"
                place = folder / (place.lower() if lower else place)
                place.mkdir(parents=True, exist_ok=True)
                speech, phones = recording(rng)
                content = (sphere if kind == "sphere" else riff)(speech)
                for ending, data in (
                    ("WAV", content),
                    ("PHN", phn(phones).encode()),
                    ("TXT", b"0 1 A sentence."),
                ):
                    name = f"{sentence}.{ending}"
                    name = name.lower() if lower else name
                    (place / name).write_bytes(data)


def recording(rng, seconds=1.2):
    """Tones of formants in noise, between silences.

    Returns:
        A pair: an int16 array of samples, and a list of triples of the first
        sample, the one after the last, and a symbol.
    """
    samples = int(16_000 * seconds)
    cuts = [0, 1600, *sorted(rng.integers(2000, samples - 2000, 4))]
    cuts += [samples - 1600, samples]
    symbols = ["h#", *rng.choice(list(PHONES), len(cuts) - 3), "h#"]
    time = np.arange(samples) / 16_000
    speech = rng.normal(size=samples) * 20
    phones = []
    for start, end, symbol in zip(cuts, cuts[1:], symbols):
        part = slice(start, end)
        for formant in PHONES.get(symbol, ()):
            speech[part] += 3000 * np.sin(2 * np.pi * formant * time[part])
        phones.append((int(start), int(end), str(symbol)))
    return speech.astype("int16"), phones


def phn(phones):
    """The text of a .PHN file."""
    return "".join(f"{start} {end} {label}\n" for start, end, label in phones)


def sphere(speech, order="01", **changes):
    """The bytes of a NIST SPHERE file.

    Args:
        speech: an int16 array.
        order: `"01"` for little-endian samples, `"10"` for big-endian ones.
        **changes: other values of fields of the header; `None` leaves one
            out.
    """
    fields = {
        "database_id": "-s5 TIMIT",
        "channel_count": "-i 1",
        "sample_count": f"-i {len(speech)}",
        "sample_rate": "-i 16000",
        "sample_n_bytes": "-i 2",
        "sample_byte_format": f"-s2 {order}",
        "sample_coding": "-s3 pcm",
    } | changes
    lines = ["NIST_1A", "   1024"]
    lines += [f"{name} {value}" for name, value in fields.items() if value]
    header = "\n".join([*lines, "end_head", ""]).encode().ljust(1024)
    return header + speech.astype("<i2" if order == "01" else ">i2").tobytes()


def riff(speech, rate=16_000, channels=1):
    """The bytes of a RIFF .wav file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(speech.astype("<i2").tobytes())
    return buffer.getvalue()
