import numpy as np
import pytest
import tensorflow as tf
from scipy import fft

from tests.trainers.data import timit_files
from trainers.data import speech
from trainers.data.phones import CLASSES
from trainers.data.phones import SYMBOLS


def reference(samples):
    """MFCC by the book, in float64 and without TensorFlow."""
    x = samples / 32768.0
    x = np.append(0.03 * x[0], x[1:] - 0.97 * x[:-1])
    count = 1 + (len(x) - 400) // 160
    frames = np.stack([x[160 * i : 160 * i + 400] for i in range(count)])
    n = np.arange(400)
    frames = frames * (0.54 - 0.46 * np.cos(2 * np.pi * n / 399))
    power = np.abs(np.fft.rfft(frames, 512)) ** 2

    def mel(hertz):
        return 1127 * np.log(1 + hertz / 700)

    edges = np.linspace(0, mel(8000), 42)
    bins = mel(np.arange(257) * 16_000 / 512)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    channels = np.maximum(0, np.minimum(rising, falling))
    # As usual, nothing is heard at zero hertz.
    channels[0] = 0
    logs = np.log(power @ channels + 1e-10)
    cepstra = fft.dct(logs, 2)[:, :13] / np.sqrt(2 * 40)

    def slopes(c):
        c = np.concatenate([c[:1], c[:1], c, c[-1:], c[-1:]])
        middle = np.arange(2, len(c) - 2)
        near = c[middle + 1] - c[middle - 1]
        return (near + 2 * (c[middle + 2] - c[middle - 2])) / 10

    first = slopes(cepstra)
    return np.concatenate([cepstra, first, slopes(first)], 1)


def test_mfcc_are_those_of_the_book():
    rng = np.random.default_rng(0)
    samples, _ = timit_files.recording(rng)
    samples = samples[:10_000]
    got = speech.mfcc(samples).numpy()
    assert got.shape == (1 + (10_000 - 400) // 160, 39)
    assert got.dtype == np.float32
    expected = reference(samples)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-3)
    for part in (slice(13), slice(13, 26), slice(26, 39)):
        assert expected[:, part].std() > 0.1


def test_mfcc_of_short_and_silent_sound():
    assert speech.mfcc(np.zeros(399, "int16")).shape == (0, 39)
    silent = speech.mfcc(np.zeros(720, "int16")).numpy()
    assert silent.shape == (3, 39)
    assert np.isfinite(silent).all()


def test_labels_are_the_phones_at_the_middle_of_frames():
    # Middles lie at 200, 360, 520, 680, 840, 1000, 1160, 1320.
    phones = {
        "start": tf.constant([210, 360, 521, 840, 1000]),
        "end": tf.constant([360, 520, 840, 1000, 1161]),
        "label": tf.constant(
            [SYMBOLS.index(s) for s in ("h#", "ao", "b", "q", "zh")]
        ),
    }
    labels = speech.frame_labels(phones, 8).numpy()
    names = [CLASSES[i] if i >= 0 else None for i in labels]
    assert names == [None, "aa", None, "b", None, "sh", "sh", None]
    assert labels.dtype == np.int32


def test_windows_are_filled_with_what_does_not_count(monkeypatch):
    monkeypatch.setattr(speech, "FRAMES", 4)
    features = np.arange(1, 21, dtype="float32").reshape(10, 2)
    labels = np.arange(10, dtype="int32")
    examples, marks = speech.windows(features, labels)
    assert examples.shape == (3, 4, 2)
    np.testing.assert_array_equal(examples.reshape(12, 2)[:10], features)
    assert not examples.reshape(12, 2)[10:].any()
    assert marks.reshape(-1).tolist() == [*range(10), -1, -1]
    # Nothing is added to what is full, and nothing comes of nothing.
    assert len(speech.windows(features[:8], labels[:8])[0]) == 2
    assert len(speech.windows(features[:0], labels[:0])[0]) == 0


def test_loaded_frames(timit):
    data = timit.load()
    assert data.input_shape == (speech.FRAMES, 39)
    assert data.classes == 39
    # Six recordings of 1.2 s, which are 118 frames, each in two windows.
    assert data.train_images.shape == (12, 100, 39)
    assert data.test_images.shape == (8, 100, 39)
    filled = np.arange(100) >= 18
    assert (data.train_labels[1::2][:, filled] == -1).all()
    assert not data.train_images[1::2][:, filled].any()
    frames = np.concatenate(
        [w[: 100 - 82 * (i % 2)] for i, w in enumerate(data.train_images)]
    )
    assert frames.shape == (6 * 118, 39)
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(0), 1, atol=1e-3)
    labels = set(data.train_labels[::2].flat) - {-1}
    found = {CLASSES[label] for label in labels}
    assert found <= {"iy", "aa", "uw", "sil"} and len(found) > 2


def test_frames_in_batches(timit):
    data = timit.load()
    batches = list(data.train_batches(5, seed=1, epochs=2))
    assert [len(x) for x, _ in batches] == [5, 5, 2] * 2
    x, y = batches[0]
    assert (x.dtype, y.dtype) == (tf.float32, tf.int32)
    rows = {row.tobytes(): i for i, row in enumerate(data.train_images)}
    for row, labels in zip(x.numpy(), y.numpy()):
        expected = data.train_labels[rows[row.tobytes()]]
        np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(
        np.concatenate([y for _, y in data.test_batches()]), data.test_labels
    )
    assert data.sample(4).shape == (4, 100, 39)


def test_what_is_for_images_is_refused(timit):
    with pytest.raises(ValueError, match="`image_size` must be 0 for timit"):
        timit.load(image_size=8)
    with pytest.raises(ValueError, match="must be one of none for sequences"):
        timit.load(augmentation="crop_flip")
