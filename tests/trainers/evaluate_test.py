import pytest
from absl import flags
from absl.testing import flagsaver

from l0keras import models
from trainers import evaluate


@pytest.fixture(scope="module", autouse=True)
def parsed():
    evaluate.define_flags()
    flags.FLAGS(["evaluate"])
    yield
    for name in ("input", "dataset", "image_size", "data_dir", "manual_dir"):
        delattr(flags.FLAGS, name)
    delattr(flags.FLAGS, "num_threads")


def test_model_file(tmp_path, capsys, digits):
    path = str(tmp_path / "m.keras")
    model = models.mlp((8, 8, 1), hidden=(5,), seed=0)
    model.save(path)
    with flagsaver.flagsaver(input=path, dataset="digits"):
        evaluate.main(["evaluate"])
    images = digits.test_images.astype("float32") / 16
    right = model.predict(images, verbose=0).argmax(-1) == digits.test_labels
    error = 100 * (1 - right.mean())
    assert f"{path}: test error {error:.2f} %" in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "`dataset` must say what to test on"),
        ({"dataset": "digits", "image_size": 9}, r"shape \(9, 9, 1\)"),
    ],
)
def test_errors(settings, message, tmp_path):
    path = str(tmp_path / "m.keras")
    models.mlp((8, 8, 1), hidden=(5,)).save(path)
    with flagsaver.flagsaver(input=path, **settings):
        with pytest.raises(SystemExit, match=message):
            evaluate.main(["evaluate"])


def test_damaged_model(tmp_path):
    (tmp_path / "m.keras").write_text("no model")
    with flagsaver.flagsaver(input=str(tmp_path / "m.keras"), dataset="digits"):
        with pytest.raises(SystemExit, match="`input` must be a model that"):
            evaluate.main(["evaluate"])
