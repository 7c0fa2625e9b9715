"""Classification data, in an order known beforehand."""

import dataclasses
import difflib
import fcntl

import numpy as np
import tensorflow as tf

from trainers.data import augment
from trainers.data import speech
from trainers.data.phones import CLASSES
from trainers.data.streaming import Streamed

EVAL_BATCH_SIZE = 1000
# Means and standard deviations of the channels of pixels in [0, 1]. For CIFAR
# those of the codes of Louizos et al. and Li and Ji, in 255ths.
NORMALIZATIONS = {
    "cifar10": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
    "imagenet2012": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
# Sets whose test split has no labels.
TEST_SPLITS = {"imagenet2012": "validation"}


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set in memory.

    `streaming.Streamed` has the same public face, but for the arrays of
    images.

    Examples are images with a class each, or sequences with one for each step.

    Args:
        train_images, test_images: uint8 arrays `(examples, height, width,
            channels)`, or float32 arrays `(examples, steps, features)`.
        train_labels, test_labels: int32 arrays `(examples,)` or `(examples,
            steps)`, where `objective.IGNORED` does not count.
        classes: the number of classes.
        white: the largest value a pixel can have; 1 for features.
        augmentation: `"none"` or `"crop_flip"`.
        normalization: means and standard deviations of the channels of
            pixels in [0, 1], for the network to normalize by; or `None`.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    white: int = 255
    augmentation: str = "none"
    normalization: tuple | None = None

    @property
    def input_shape(self):
        return self.train_images.shape[1:]

    @property
    def num_train(self):
        return len(self.train_labels)

    def scale(self, images):
        """Pixels as float32 in [0, 1], of a tensor or an array."""
        return tf.cast(images, tf.float32) / self.white

    def train_batches(
        self, batch_size, seed, epochs, first_epoch=0, drop_remainder=False
    ):
        """The training examples of several epochs, shuffled.

        The order of an epoch and what augmentation does to its images
        depend on the seed and the epoch's number alone, so that a run that
        begins with a later epoch sees what the whole run sees there.

        Args:
            batch_size: examples in a batch.
            seed: an integer.
            epochs: the number of the epoch to end before.
            first_epoch: the number of the epoch to begin with, from 0.
            drop_remainder: leaves out the examples of an epoch that do not
                fill a batch; others in each epoch.

        Returns:
            A `tf.data.Dataset` of pairs of float32 images in [0, 1], or
            features, and int32 labels, of `steps_per_epoch` batches for each
            epoch.
        """
        images = tf.constant(self.train_images)
        labels = tf.constant(self.train_labels)

        def shuffled(epoch):
            key = tf.stack([tf.cast(seed, epoch.dtype), epoch])
            order = tf.random.experimental.stateless_shuffle(
                tf.range(self.num_train), seed=key
            )
            indices = tf.data.Dataset.from_tensor_slices(order)
            indices = indices.batch(batch_size, drop_remainder)
            return indices.enumerate().map(lambda step, i: (key, step, i))

        def gather(key, step, indices):
            batch = tf.gather(images, indices)
            if self.augmentation == "crop_flip":
                key = tf.random.fold_in(key, step)
                batch = augment.crop_flip(batch, key)
            return self.scale(batch), tf.gather(labels, indices)

        dataset = tf.data.Dataset.range(first_epoch, epochs)
        dataset = dataset.flat_map(shuffled).map(gather, tf.data.AUTOTUNE)
        options = tf.data.Options()
        # Its thread looks ever more rarely, up to once in a minute. In
        # TensorFlow 2.21 an iterator that is deleted may wait for the next
        # look, and it is deleted wherever a network is cut in its training.
        options.autotune.enabled = False
        return dataset.prefetch(2).with_options(options)

    def reshuffled_batches(self, batch_size, seed):
        """The training examples of one epoch, in another order each time.

        They are not augmented.

        Args:
            batch_size: examples in a batch.
            seed: fixes the orders.

        Returns:
            A `tf.data.Dataset` that knows its length.
        """
        pairs = (self.train_images, self.train_labels)
        dataset = tf.data.Dataset.from_tensor_slices(pairs)
        dataset = dataset.shuffle(self.num_train, seed=seed)
        return dataset.batch(batch_size).map(
            lambda images, labels: (self.scale(images), labels)
        )

    def hold_out(self, count, seed):
        """Takes examples out of the training set, to validate on.

        Args:
            count: how many.
            seed: fixes which.

        Returns:
            A `Data` with the other training examples, and the batches of
            those that were taken out, as `test_batches` gives them.

        Raises:
            ValueError: there are not that many.
        """
        held_out = self.without_test(count, seed)
        rest = dataclasses.replace(
            held_out,
            test_images=self.test_images,
            test_labels=self.test_labels,
        )
        return rest, held_out.test_batches()

    def without_test(self, count, seed):
        """A set whose test examples are held out of the training examples.

        Whatever is chosen by its errors is not chosen by the test set, which
        it does not have.

        Args:
            count, seed: see `hold_out`.

        Returns:
            A `Data`.

        Raises:
            ValueError: there are not that many.
        """
        if not 0 < count < self.num_train:
            raise ValueError(
                "Argument `validation_examples` must be at least 1 and less "
                f"than the {self.num_train} training examples. "
                f"Received: validation_examples={count}"
            )
        order = np.random.default_rng(seed).permutation(self.num_train)
        held, kept = np.sort(order[:count]), np.sort(order[count:])
        images, labels = self.train_images, self.train_labels
        return dataclasses.replace(
            self,
            train_images=images[kept],
            train_labels=labels[kept],
            test_images=images[held],
            test_labels=labels[held],
        )

    def sample(self, count):
        """Up to `count` training examples, evenly spread, images in [0, 1].

        Returns:
            A float32 array.
        """
        step = -(-self.num_train // count)
        return self.scale(self.train_images[::step]).numpy()

    def steps_per_epoch(self, batch_size, drop_remainder=False):
        """How many batches an epoch of `train_batches` has."""
        full, rest = divmod(self.num_train, batch_size)
        return full + (rest > 0 and not drop_remainder)

    def test_batches(self):
        """The test examples in their order, as `train_batches` gives them."""
        pairs = (self.test_images, self.test_labels)
        dataset = tf.data.Dataset.from_tensor_slices(pairs)
        dataset = dataset.batch(EVAL_BATCH_SIZE)
        return dataset.map(
            lambda images, labels: (self.scale(images), labels)
        ).cache()


def load(
    name, data_dir=None, manual_dir=None, image_size=0, augmentation="none"
):
    """Loads a data set.

    Args:
        name: `"digits"`, scikit-learn's 8 x 8 digits, which come with it, or
            the name of an image classification set in tensorflow_datasets, or
            `"timit"`, whose frames of speech are classified, see `speech`.
            The test split is the one of that name, else, and for ImageNet,
            `validation`.
        data_dir: where tensorflow_datasets keeps data sets.
        manual_dir: a folder with the original files of this data set, which
            are then not downloaded; their checksums are compared. TIMIT
            cannot be downloaded.
        image_size: the side to which images are resized (bilinear), or 0 to
            leave them. Needed where a set has images of several sizes, of
            which the middle is cut out.
        augmentation: what is done to training examples: `"none"`,
            `"crop_flip"`, see `augment.crop_flip`, for images of one size,
            or `"imagenet"`, see `augment.random_resized_crop_flip`, for those
            of several.

    Returns:
        A `Data`, or a `Streamed` where images have several sizes.

    Raises:
        ValueError: an unknown name, not a set of images with one label each,
            files that are not there or not the right ones, no split to test
            on, images of several sizes that shall not be resized, sequences
            that shall be, or an augmentation for other examples.
    """
    if name == "digits":
        data = _digits(image_size)
    else:
        data = _from_tfds(name, data_dir, manual_dir, image_size)
    kind, *augmentations = _kind(data)
    allowed = ("none", *augmentations)
    if augmentation not in allowed:
        raise ValueError(
            f"Argument `augmentation` must be one of {', '.join(allowed)} for "
            f"{kind}, as in {name}. Received: augmentation={augmentation}"
        )
    normalization = None
    if name in NORMALIZATIONS:
        normalization = tuple(
            [value / 255 for value in values] for values in NORMALIZATIONS[name]
        )
    return dataclasses.replace(
        data, augmentation=augmentation, normalization=normalization
    )


def _kind(data):
    """What the examples are, and the names of their augmentations."""
    if len(data.input_shape) == 2:
        return ("sequences",)
    if isinstance(data, Streamed):
        return "images of several sizes", "imagenet"
    return "images of one size", "crop_flip"


def _digits(image_size):
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype("uint8")[..., None]
    if image_size:
        resized = tf.image.resize(images, (image_size, image_size))
        images = np.round(resized.numpy()).astype("uint8")
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


def _from_tfds(name, data_dir, manual_dir, image_size):
    # Takes long to import, and digits do without.
    import tensorflow_datasets as tfds

    # Known to tensorflow_datasets once it is imported.
    from trainers.data.timit import Timit

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
    is_speech = builder.name == Timit.name
    if not is_speech:
        image_key, label_key = _keys(builder, tfds)
    elif image_size:
        raise ValueError(
            f"Argument `image_size` must be 0 for {name}, which has no images. "
            f"Received: image_size={image_size}"
        )
    _prepare(builder, manual_dir, tfds)
    # Where another run prepared the set meanwhile, only a new builder sees it.
    builder = tfds.builder(name, data_dir=data_dir)
    test_split = _test_split(name, builder)
    if is_speech:
        arrays = speech.load(builder, test_split)
        return Data(**arrays, classes=len(CLASSES), white=1)
    shape = builder.info.features[image_key].shape
    if None in shape and not image_size:
        raise ValueError(
            f"The images of {name} have several sizes. Argument `image_size` "
            "must say to which size they shall be brought. Received: "
            f"image_size={image_size}"
        )

    if None in shape:
        return Streamed(builder, image_key, label_key, test_split, image_size)

    if image_size:
        shape = (image_size, image_size, shape[-1])

    def sized(image, label):
        if image_size:
            image = tf.image.resize(image, shape[:2])
            image = tf.cast(tf.round(image), tf.uint8)
        return image, label

    def arrays(split):
        dataset = builder.as_dataset(split=split, as_supervised=True)
        dataset = dataset.map(sized, tf.data.AUTOTUNE).batch(1024)
        size = builder.info.splits[split].num_examples
        images = np.empty((size, *shape), "uint8")
        labels = np.empty(size, "int32")
        done = 0
        for image, label in dataset.as_numpy_iterator():
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
    for split in (TEST_SPLITS.get(name), "test", "validation"):
        if split in splits and "train" in splits:
            return split
    raise ValueError(
        "Argument `dataset` must name a set with the splits train and test "
        f"(or validation). Received: dataset={name}, which has "
        f"{', '.join(splits)}"
    )
