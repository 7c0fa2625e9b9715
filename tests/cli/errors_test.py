import pytest
import tensorflow as tf

from l0keras.cli.errors import expected
from l0keras.cli.errors import short


def test_places_in_a_graph_are_left_out():
    with pytest.raises(expected()) as caught:
        for _ in tf.data.Dataset.from_tensors(b"no image").map(
            lambda text: tf.image.decode_image(text)
        ):
            pass
    text = short(caught.value)
    assert "Unknown image file format" in text
    assert "{{" not in text and "[[" not in text and "\n" not in text


def test_other_texts_stay():
    assert short(ValueError("one\ntwo {x}")) == "one\ntwo {x}"
    assert short(RuntimeError()) == "RuntimeError"
    assert not isinstance(TypeError(), expected())
