"""Image classification data that are read while they are needed."""

import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from trainers.data import augment

EVAL_BATCH_SIZE = 250
# Of encoded images, of which this many of ImageNet take a gigabyte.
SHUFFLE_BUFFER = 10_000


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A data set with images of several sizes, never in memory as a whole.

    It has the same public face as `input_pipeline.Data`, which see.

    Args:
        builder: a prepared `tfds.core.DatasetBuilder`.
        image_key, label_key: the names of its features.
        test_split: the name of the split to test on.
        image_size: the side of the images that it gives.
        augmentation: `"none"` for the middle of training images too, or
            `"imagenet"`.
        normalization: see `input_pipeline.Data`.
    """

    builder: Any
    image_key: str
    label_key: str
    test_split: str
    image_size: int
    augmentation: str = "none"
    normalization: tuple | None = None

    @property
    def input_shape(self):
        channels = self.builder.info.features[self.image_key].shape[-1]
        return (self.image_size, self.image_size, channels)

    @property
    def classes(self):
        return self.builder.info.features[self.label_key].num_classes

    @property
    def num_train(self):
        return self.builder.info.splits["train"].num_examples

    @functools.cached_property
    def test_labels(self):
        labels = self._encoded(self.test_split).map(lambda _, label: label)
        return np.array(list(labels.as_numpy_iterator()), "int32")

    def train_batches(
        self, batch_size, seed, epochs, first_epoch=0, drop_remainder=False
    ):
        """The training examples of several epochs, shuffled."""

        def epoch(number):
            sequence = np.random.SeedSequence((seed, number))
            key = (sequence.generate_state(2) >> 1).astype("int32")

            def augmented(index, pair):
                image, label = pair
                image = self._decode(image)
                if self.augmentation == "imagenet":
                    image = augment.random_resized_crop_flip(
                        image, self.image_size, tf.random.fold_in(key, index)
                    )
                else:
                    image = augment.resize_crop(image, self.image_size)
                return image / 255, label

            dataset = self._encoded("train", int(key[0]))
            dataset = dataset.shuffle(SHUFFLE_BUFFER, int(key[1])).enumerate()
            dataset = dataset.map(augmented, tf.data.AUTOTUNE)
            return dataset.batch(batch_size, drop_remainder)

        datasets = [epoch(number) for number in range(first_epoch, epochs)]
        dataset = functools.reduce(tf.data.Dataset.concatenate, datasets)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def reshuffled_batches(self, batch_size, seed):
        """The training examples of one epoch, in another order each time."""
        dataset = self._encoded("train").shuffle(SHUFFLE_BUFFER, seed)
        return dataset.map(self._middle, tf.data.AUTOTUNE).batch(batch_size)

    def hold_out(self, count, seed):
        raise ValueError(
            "Argument `validation_examples` must be 0 for images that are "
            f"read while they are needed. Received: validation_examples={count}"
        )

    without_test = hold_out

    def sample(self, count):
        """Up to `count` training images, in [0, 1]."""
        # Sets are shuffled when they are prepared.
        dataset = self._encoded("train").take(count).map(self._middle)
        return np.stack([image for image, _ in dataset.as_numpy_iterator()])

    def steps_per_epoch(self, batch_size, drop_remainder=False):
        """How many batches an epoch of `train_batches` has."""
        full, rest = divmod(self.num_train, batch_size)
        return full + (rest > 0 and not drop_remainder)

    def test_batches(self):
        """The test examples in their order, as `train_batches` gives them."""
        dataset = self._encoded(self.test_split)
        dataset = dataset.map(self._middle, tf.data.AUTOTUNE)
        return dataset.batch(EVAL_BATCH_SIZE).prefetch(tf.data.AUTOTUNE)

    def _encoded(self, split, seed=None):
        """Pairs of encoded images and labels, files shuffled with a seed."""
        import tensorflow_datasets as tfds

        dataset = self.builder.as_dataset(
            split=split,
            shuffle_files=seed is not None,
            decoders={self.image_key: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(shuffle_seed=seed),
            as_supervised=True,
        )
        return dataset.map(
            lambda image, label: (image, tf.cast(label, "int32"))
        )

    def _decode(self, image):
        channels = self.input_shape[-1]
        image = tf.io.decode_image(image, channels, expand_animations=False)
        return tf.ensure_shape(image, (None, None, channels))

    def _middle(self, image, label):
        image = augment.resize_crop(self._decode(image), self.image_size)
        return image / 255, label
