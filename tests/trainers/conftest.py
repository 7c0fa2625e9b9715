import keras

# The programs are written for TensorFlow, the library for any backend.
if keras.backend.backend() == "tensorflow":
    from tests.trainers.sets import digits  # noqa: F401
    from tests.trainers.sets import originals  # noqa: F401
    from tests.trainers.sets import small_sets  # noqa: F401
    from tests.trainers.sets import timit  # noqa: F401
else:
    collect_ignore_glob = ["*_test.py"]
