"""Image classification data, in memory and in an order known beforehand."""

import dataclasses
import difflib
import fcntl

import numpy as np
import tensorflow as tf

EVAL_BATCH_SIZE = 1000


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set in memory.

    Args:
        train_images, test_images: uint8 arrays `(examples, height, width,
            channels)`.
        train_labels, test_labels: int32 arrays `(examples,)`.
        classes: the number of classes.
        white: the largest value a pixel can have.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    white: int = 255

    @property
    def input_shape(self):
        return self.train_images.shape[1:]

    def scale(self, images):
        """Pixels as float32 in [0, 1], of a tensor or an array."""
        return tf.cast(images, tf.float32) / self.white

    def train_batches(
        self, batch_size, seed, epochs, first_epoch=0, drop_remainder=False
    ):
        """The training examples of several epochs, shuffled.

        The order of an epoch depends on the seed and the epoch's number
        alone, so that a run that begins with a later epoch sees what the
        whole run sees there.

        Args:
            batch_size: examples in a batch.
            seed: an integer.
            epochs: the number of the epoch to end before.
            first_epoch: the number of the epoch to begin with, from 0.
            drop_remainder: leaves out the examples of an epoch that do not
                fill a batch; others in each epoch.

        Returns:
            A `tf.data.Dataset` of pairs of float32 images in [0, 1] and
            int32 labels, of `steps_per_epoch` batches for each epoch.
        """
        images = tf.constant(self.train_images)
        labels = tf.constant(self.train_labels)

        def shuffled(epoch):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(len(self.train_labels)),
                seed=tf.stack([tf.cast(seed, epoch.dtype), epoch]),
            )
            indices = tf.data.Dataset.from_tensor_slices(order)
            return indices.batch(batch_size, drop_remainder)

        def gather(indices):
            batch = tf.gather(images, indices)
            return self.scale(batch), tf.gather(labels, indices)

        dataset = tf.data.Dataset.range(first_epoch, epochs)
        dataset = dataset.flat_map(shuffled).map(gather)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def steps_per_epoch(self, batch_size, drop_remainder=False):
        """How many batches an epoch of `train_batches` has."""
        full, rest = divmod(len(self.train_labels), batch_size)
        return full + (rest > 0 and not drop_remainder)

    def test_batches(self):
        """The test examples in their order, as `train_batches` gives them."""
        pairs = (self.test_images, self.test_labels)
        dataset = tf.data.Dataset.from_tensor_slices(pairs)
        dataset = dataset.batch(EVAL_BATCH_SIZE)
        return dataset.map(
            lambda images, labels: (self.scale(images), labels)
        ).cache()


def load(name, data_dir=None, manual_dir=None, image_size=0):
    """Loads a data set.

    Args:
        name: `"digits"`, scikit-learn's 8 x 8 digits, which come with it, or
            the name of an image classification set in tensorflow_datasets.
            The test split is the one of that name, else `validation`.
        data_dir: where tensorflow_datasets keeps data sets.
        manual_dir: a folder with the original files of this data set, which
            are then not downloaded; their checksums are compared.
        image_size: the side to which images are resized (bilinear), or 0 to
            leave them. Needed where a set has images of several sizes.

    Returns:
        A `Data`.

    Raises:
        ValueError: an unknown name, not a set of images with one label each,
            no split to test on, or images of several sizes.
    """
    if name == "digits":
        data = _digits()
    else:
        data = _from_tfds(name, data_dir, manual_dir, image_size)
    if image_size and data.input_shape[:2] != (image_size, image_size):
        data = dataclasses.replace(
            data,
            train_images=_resize(data.train_images, image_size),
            test_images=_resize(data.test_images, image_size),
        )
    return data


def _digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype("uint8")[..., None]
    labels = digits.target.astype("int32")
    # Every fifth, so that all writers are in both parts.
    test = np.arange(len(labels)) % 5 == 0
    return Data(
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
        classes=10,
        white=16,
    )


def _resize(images, size):
    resized = tf.image.resize(images, (size, size))
    return np.round(resized.numpy()).astype("uint8")


def _from_tfds(name, data_dir, manual_dir, image_size):
    # Takes long to import, and digits do without.
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name, known, n=5)
        hint = f" Close: {', '.join(close)}." if close else ""
        raise ValueError(
            "Argument `dataset` must be digits or a name known to "
            f"tensorflow_datasets {tfds.__version__} (its `list_builders()` "
            f"gives all {len(known)}). Received: dataset={name}.{hint}"
        ) from None
    image_key, label_key = _keys(builder, tfds)
    _prepare(builder, manual_dir, tfds)
    # Where another run prepared the set meanwhile, only a new builder sees it.
    builder = tfds.builder(name, data_dir=data_dir)
    test_split = _test_split(name, builder)
    shape = builder.info.features[image_key].shape
    if None in shape and not image_size:
        raise ValueError(
            f"The images of {name} have several sizes. Argument `image_size` "
            "must say to which size they shall be brought. Received: "
            f"image_size={image_size}"
        )

    def arrays(split):
        dataset = builder.as_dataset(split=split)

        def pair(example):
            image = example[image_key]
            if image_size:
                image = tf.image.resize(image, (image_size, image_size))
                image = tf.cast(tf.round(image), tf.uint8)
            return image, example[label_key]

        size = builder.info.splits[split].num_examples
        images = labels = None
        dataset = dataset.map(pair, tf.data.AUTOTUNE).batch(1024)
        done = 0
        for image, label in dataset.as_numpy_iterator():
            if images is None:
                images = np.empty((size, *image.shape[1:]), "uint8")
                labels = np.empty(size, "int32")
            images[done : done + len(label)] = image
            labels[done : done + len(label)] = label
            done += len(label)
        return images, labels

    train_images, train_labels = arrays("train")
    test_images, test_labels = arrays(test_split)
    return Data(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=builder.info.features[label_key].num_classes,
    )


def _prepare(builder, manual_dir, tfds):
    if builder.data_path.exists():
        return
    # In one folder for all, sets with the same file names (MNIST and
    # Fashion-MNIST) would be taken for one another.
    folder = builder.data_dir_root / "downloads" / builder.name
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        # Runs that start together would prepare the set on top of another.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            builder.download_and_prepare(
                download_dir=folder,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=manual_dir, force_checksums_validation=True
                ),
            )
        except Exception as error:
            # From a network that is not there to a file that is not the
            # right one, each with a type of its own.
            raise ValueError(
                f"The data set {builder.name} could not be prepared from "
                f"manual_dir={manual_dir} or a download into {folder} "
                f"({type(error).__name__}: {error})"
            ) from error


def _keys(builder, tfds):
    keys = builder.info.supervised_keys or ()
    features = builder.info.features
    if (
        len(keys) != 2
        or not all(isinstance(key, str) for key in keys)
        or not isinstance(features[keys[0]], tfds.features.Image)
        or not isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        raise ValueError(
            "Argument `dataset` must name a set of images with one class "
            f"label each. Received: dataset={builder.name}, which has "
            f"{sorted(features)}"
        )
    return keys


def _test_split(name, builder):
    splits = builder.info.splits
    for split in ("test", "validation"):
        if split in splits and "train" in splits:
            return split
    raise ValueError(
        "Argument `dataset` must name a set with the splits train and test "
        f"(or validation). Received: dataset={name}, which has "
        f"{', '.join(splits)}"
    )
