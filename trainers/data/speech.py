"""Frames of speech and their phones, as examples to train on."""

import numpy as np
import tensorflow as tf

from trainers.data.phones import CLASSES
from trainers.data.phones import FOLDED
from trainers.data.phones import IGNORED
from trainers.data.phones import SYMBOLS

SAMPLE_RATE = 16_000
# In samples: 25 ms every 10 ms.
WINDOW = 400
STEP = 160
PRE_EMPHASIS = 0.97
FFT = 512
MEL_CHANNELS = 40
COEFFICIENTS = 13
# Frames in an example: a second, about a phrase.
FRAMES = 100
# Below the noise of 16 bits, for the logarithm of digital silence.
FLOOR = 1e-10

# The transform of tf.signal, which stops at speech without a whole frame.
_COSINES = (
    np.sqrt(2 / MEL_CHANNELS)
    * np.cos(
        np.pi
        / MEL_CHANNELS
        * np.outer(np.arange(MEL_CHANNELS) + 0.5, np.arange(COEFFICIENTS))
    )
).astype("float32")

_LABELS = np.array(
    [
        CLASSES.index(FOLDED[symbol]) if symbol in FOLDED else IGNORED
        for symbol in SYMBOLS
    ],
    "int32",
)


def mfcc(speech):
    """Mel-frequency cepstral coefficients and their changes.

    The speech is pre-emphasized and cut into Hamming windows of 25 ms every
    10 ms. The logarithms of the power in 40 mel channels from 0 to 8 kHz give
    the first 13 coefficients of a discrete cosine transform; deltas and
    their deltas are slopes over two frames to either side, where the first
    and last frames are repeated.

    Source: Young et al., The HTK Book, sections 5.3 to 5.9.

    Args:
        speech: an integer tensor `(samples,)` of 16 bits at 16 kHz.

    Returns:
        A float32 tensor `(frames, 39)`: coefficients, deltas, deltas of
        deltas. Samples that do not fill a last window are left out.
    """
    speech = tf.cast(speech, tf.float32) / 2**15
    before = tf.concat([speech[:1], speech[:-1]], 0)
    windows = tf.signal.frame(speech - PRE_EMPHASIS * before, WINDOW, STEP)
    windows *= tf.signal.hamming_window(WINDOW, periodic=False)
    # The transform pads too, but not where there is no frame.
    windows = tf.pad(windows, ((0, 0), (0, FFT - WINDOW)))
    power = tf.abs(tf.signal.rfft(windows)) ** 2
    channels = tf.signal.linear_to_mel_weight_matrix(
        MEL_CHANNELS, FFT // 2 + 1, SAMPLE_RATE, 0.0, SAMPLE_RATE / 2
    )
    logs = tf.math.log(power @ channels + FLOOR)
    cepstra = logs @ _COSINES
    slopes = _slopes(cepstra)
    return tf.concat([cepstra, slopes, _slopes(slopes)], axis=1)


def frame_labels(phones, frames):
    """The classes of frames: those of the phones at their middles.

    Args:
        phones: a dict of integer tensors `(phones,)`: `start` and `end` in
            samples and `label`, an index of `phones.SYMBOLS`.
        frames: the number of frames.

    Returns:
        An int32 tensor `(frames,)` of indices of `phones.CLASSES`, or
        `IGNORED` for glottal stops and frames in no phone.
    """
    middles = tf.range(frames) * STEP + WINDOW // 2
    starts = tf.cast(phones["start"], tf.int32)
    ends = tf.cast(phones["end"], tf.int32)
    index = tf.searchsorted(starts, middles, side="right") - 1
    inside = index >= 0
    index = tf.maximum(index, 0)
    inside &= middles < tf.gather(ends, index)
    labels = tf.gather(_LABELS, tf.gather(phones["label"], index))
    return tf.where(inside, labels, IGNORED)


def windows(features, labels):
    """Cuts an utterance into examples of as many frames each.

    Args:
        features: an array `(frames, features)`.
        labels: an int32 array `(frames,)`.

    Returns:
        A pair of arrays `(examples, FRAMES, features)` and `(examples,
        FRAMES)`. The last example is filled with zeros and `IGNORED`.
    """
    missing = -len(labels) % FRAMES
    features = np.pad(features, ((0, missing), (0, 0)))
    labels = np.pad(labels, (0, missing), constant_values=IGNORED)
    return (
        features.reshape(-1, FRAMES, features.shape[1]),
        labels.reshape(-1, FRAMES),
    )


def load(builder, test_split):
    """Reads the frames of a prepared `timit.Timit`.

    Features are normalized by the mean and the deviation of each over all
    frames of the training split.

    Args:
        builder: the prepared data set.
        test_split: the name of the split to test on.

    Returns:
        A dict of the arrays of an `input_pipeline.Data`.

    Raises:
        ValueError: no recording of the training split has a whole frame.
    """
    train, test = (_utterances(builder, name) for name in ("train", test_split))
    frames = np.concatenate([features for features, _ in train])
    if not len(frames):
        raise ValueError(
            "The training split must have recordings of at least "
            f"{WINDOW / SAMPLE_RATE:g} seconds. Received: shorter ones only"
        )
    mean = frames.mean(0, "float64")
    # Of a feature that is always the same, nothing is left.
    deviation = np.maximum(frames.std(0, dtype="float64"), 1e-6)
    arrays = {}
    for name, utterances in (("train", train), ("test", test)):
        parts = [
            windows(((features - mean) / deviation).astype("float32"), labels)
            for features, labels in utterances
        ]
        examples, labels = zip(*parts)
        arrays[f"{name}_images"] = np.concatenate(examples)
        arrays[f"{name}_labels"] = np.concatenate(labels)
    return arrays


def _utterances(builder, split):
    def frames(example):
        features = mfcc(example["speech"])
        count = tf.shape(features)[0]
        return features, frame_labels(example["phones"], count)

    dataset = builder.as_dataset(split=split)
    dataset = dataset.map(frames, tf.data.AUTOTUNE)
    return list(dataset.as_numpy_iterator())


def _slopes(frames):
    """By least squares over two frames to either side."""
    first, last = frames[:1], frames[-1:]
    padded = tf.concat([first, first, frames, last, last], 0)
    count = tf.shape(frames)[0]
    return sum(
        distance
        * (
            padded[2 + distance : 2 + distance + count]
            - padded[2 - distance : 2 - distance + count]
        )
        for distance in (1, 2)
    ) / (2.0 * (1 + 4))
