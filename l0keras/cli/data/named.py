"""Image classification sets of tensorflow_datasets."""

from l0keras.cli.data.folder import image_shape
from l0keras.cli.data.source import Source
from l0keras.cli.data.source import share_held_out
from l0keras.cli.data.task import check_range

# In this order; the first that a set has is measured on.
_HELD_OUT = ("test", "validation")
_SHUFFLE_BUFFER = 10_000


def from_name(name, values, task):
    """Streams a data set, which is downloaded where it is not there.

    Args:
        name: a name that tensorflow_datasets knows.
        values: the flags `data_dir`, `validation_split`, `image_size`,
            `batch_size` and `seed`.
        task: the `Task`.

    Returns:
        A `Source`. Without `validation_split`, the part that is measured on
        is the set's own test or validation split, if it has one.

    Raises:
        ImportError: tensorflow_datasets is not installed.
        ValueError: the name is unknown, or the set does not fit the model.
    """
    size, channels, first = image_shape(task, values.image_size)
    builder, image_key, label_key = _builder(name, values)
    info = builder.info
    check_range(0, info.features[label_key].num_classes - 1, task, name)
    if info.features[image_key].shape[-1] not in (channels, None):
        raise ValueError(
            f"Argument `data` must have images of {channels} channels, as the "
            f"model reads them. Received: data={name}, with images of shape "
            f"{info.features[image_key].shape}"
        )
    total = info.splits["train"].num_examples
    own = [split for split in _HELD_OUT if split in info.splits]
    if own and values.validation_split is None:
        splits = "train", own[0]
        counts = total, info.splits[own[0]].num_examples
    else:
        held = share_held_out(total, values)
        splits = f"train[{held}:]", f"train[:{held}]"
        counts = total - held, held
    import tensorflow as tf

    def sized(example):
        image = tf.image.resize(example[image_key], size)
        if first:
            image = tf.transpose(image, (2, 0, 1))
        return image, tf.cast(example[label_key], "int32")

    batches = []
    for split, shuffled in zip(splits, (True, False)):
        dataset = builder.as_dataset(split=split, shuffle_files=False)
        if shuffled:
            dataset = dataset.shuffle(_SHUFFLE_BUFFER, seed=values.seed)
        dataset = dataset.map(sized, tf.data.AUTOTUNE)
        batches.append(dataset.batch(values.batch_size))
    return Source(
        *batches, *counts, classes=True, names=info.features[label_key].names
    )


def _builder(name, values):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "tensorflow_datasets reads data sets by their names. Install it "
            "with `pip install 'l0keras[tfds]'`."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=values.data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            "Argument `data` must be a folder, an .npz file, or a name that "
            f"tensorflow_datasets knows. Received: data={name}"
        ) from error
    keys = builder.info.supervised_keys or ()
    features = builder.info.features
    if (
        len(keys) != 2
        or not all(isinstance(key, str) for key in keys)
        or not isinstance(features[keys[0]], tfds.features.Image)
        or not isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        raise ValueError(
            "Argument `data` must name a set of images with one class each. "
            f"Received: data={name}, which has {', '.join(sorted(features))}"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:
        # From a network that is not there to a full disk.
        raise ValueError(
            f"The data set {name} could not be prepared in "
            f"{builder.data_dir} ({type(error).__name__}: {error})"
        ) from error
    if "train" not in builder.info.splits:
        raise ValueError(
            "Argument `data` must name a set with a training split. "
            f"Received: data={name}, with {', '.join(builder.info.splits)}"
        )
    return builder, *keys
