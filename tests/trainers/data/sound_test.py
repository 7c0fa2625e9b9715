import numpy as np
import pytest

from tests.trainers.data import timit_files
from trainers.data.sound import read_sound

SPEECH = np.random.default_rng(0).integers(-(2**15), 2**15, 500, "int16")


def stored(tmp_path, content):
    path = tmp_path / "SA1.WAV"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        timit_files.sphere(SPEECH),
        timit_files.sphere(SPEECH, order="10"),
        # As in the corpus, whose headers do not name it.
        timit_files.sphere(SPEECH, sample_coding=None),
        timit_files.riff(SPEECH),
    ],
    ids=["little", "big", "no coding", "riff"],
)
def test_samples_of_all_formats(content, tmp_path):
    speech, rate = read_sound(stored(tmp_path, content))
    assert rate == 16_000
    assert speech.dtype == np.int16 and speech.dtype.isnative
    np.testing.assert_array_equal(speech, SPEECH)


def test_what_follows_the_sound_is_left_out(tmp_path):
    content = timit_files.sphere(SPEECH, sample_count="-i 100")
    speech, _ = read_sound(stored(tmp_path, content))
    np.testing.assert_array_equal(speech, SPEECH[:100])
    content = timit_files.riff(SPEECH, rate=8_000)
    assert read_sound(stored(tmp_path, content))[1] == 8_000


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "begins neither as NIST SPHERE files nor as RIFF"),
        (b"NIST_1A\n   many\n", "header's size is b'many'"),
        (timit_files.sphere(SPEECH)[:100], "has no end_head"),
        (
            timit_files.sphere(
                SPEECH, sample_coding="-s26 pcm,embedded-shorten-v2.00"
            ),
            "sample_coding is pcm,embedded-shorten-v2.00; .*sph2pipe",
        ),
        (
            timit_files.sphere(SPEECH, channel_count="-i 2"),
            "channel_count must be 1 and is 2",
        ),
        (
            timit_files.sphere(SPEECH, sample_n_bytes="-i 1"),
            "sample_n_bytes must be 2 and is 1",
        ),
        (
            timit_files.sphere(SPEECH, sample_byte_format="-s2 11"),
            "sample_byte_format must be 01 or 10 and is 11",
        ),
        (
            timit_files.sphere(SPEECH, sample_rate=None),
            "sample_rate must be a number and is None",
        ),
        (timit_files.sphere(SPEECH)[:-10], "has 495 of the 500 samples"),
        (timit_files.riff(SPEECH)[:-10], "has 495 of the 500 samples"),
        (timit_files.riff(SPEECH)[:20], "is damaged"),
        (
            timit_files.riff(SPEECH, channels=2),
            "number of channels must be 1 and is 2",
        ),
    ],
)
def test_damaged_files_are_named(content, message, tmp_path):
    with pytest.raises(
        ValueError, match=f"SA1.WAV is damaged: .*{message}|SA1.WAV {message}"
    ):
        read_sound(stored(tmp_path, content))
