import dataclasses
import json
import pickle
import re

import keras
import numpy as np
import pytest

from l0keras.targets import Target
from l0keras.targets.target import as_targets

HALF = {"of": "macs", "share": 0.5}


def test_a_target_is_plain():
    target = Target("params", 0.5, where="conv")
    assert target == Target("params", share=0.5, where="conv")
    assert target != Target("params", at_most=0.5, where="conv")
    assert len({target, Target("params", 0.5, where="conv")}) == 1
    assert pickle.loads(pickle.dumps(target)) == target
    with pytest.raises(dataclasses.FrozenInstanceError):
        target.share = 0.25
    with pytest.raises(TypeError):
        Target("params", 0.5, None, "conv")


@pytest.mark.parametrize(
    "target, text",
    [
        (Target("macs", 0.25), "Target('macs', share=0.25)"),
        (
            Target("bytes", at_most=50_000, quantization="int8"),
            "Target('bytes', at_most=50000, quantization='int8')",
        ),
        (
            Target("units", 1, where="^conv", each=True),
            "Target('units', share=1.0, where='^conv', each=True)",
        ),
        (Target("latency", at_most=1.5), "Target('latency', at_most=1.5)"),
    ],
)
def test_it_shows_what_was_asked_and_comes_back_from_plain_values(target, text):
    assert repr(target) == text
    assert eval(text) == target
    config = json.loads(json.dumps(target.get_config()))
    assert Target.from_config(config) == target
    saved = keras.saving.serialize_keras_object(target)
    assert keras.saving.deserialize_keras_object(saved) == target


def test_numbers_of_numpy_become_plain_ones():
    share = Target("macs", np.float32(0.5)).share
    at_most = Target("params", at_most=np.int64(7)).at_most
    assert (type(share), type(at_most)) == (float, int)


def test_the_limit():
    assert Target("macs", 0.25).limit(80) == 20
    assert Target("macs", at_most=7).limit(80) == 7


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"of": "weights", "share": 0.5}, "`of` must be one of ('params'"),
        ({"of": ["macs"], "share": 0.5}, "Received: of=['macs']"),
        ({"of": "macs"}, "share=None, at_most=None"),
        ({"of": "macs", "share": 0.5, "at_most": 5}, "share=0.5, at_most=5"),
        *(
            ({"of": "macs", "share": share}, f"Received: share={share!r}")
            for share in (0, -0.5, 1.01, float("nan"), True, "0.5")
        ),
        *(
            ({"of": "macs", "at_most": size}, f"Received: at_most={size!r}")
            for size in (0, -1, float("nan"), float("inf"), True, "5")
        ),
        ({**HALF, "where": "("}, "Received: where='(', missing )"),
        ({**HALF, "where": 3}, "Received: where=3, not a string"),
        ({**HALF, "each": 1}, "Received: each=1"),
        ({**HALF, "quantization": "int8"}, "must be None for of='macs'"),
        (
            {"of": "bytes", "share": 0.5, "where": "conv"},
            "must be None and False for of='bytes'",
        ),
        ({"of": "latency", "share": 0.5, "each": True}, "each=True"),
        (
            {"of": "bytes", "share": 0.5, "quantization": "int4"},
            "Received: quantization='int4'",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Target(**arguments)


def test_one_target_or_several_are_a_list():
    one, other = Target("macs", 0.5), Target("params", at_most=100)
    assert as_targets(one) == [one]
    assert as_targets((other, one)) == [other, one]
    several = [
        Target("macs", 0.5),
        Target("macs", 0.5, each=True),
        Target("macs", 0.5, where="conv"),
        Target("bytes", 0.5),
        Target("bytes", 0.5, quantization="int8"),
    ]
    assert as_targets(several) == several


@pytest.mark.parametrize(
    "target, message",
    [
        ([], "Received: target=[]"),
        (0.5, "Received: target=0.5"),
        ([Target("macs", 0.5), "macs"], "'macs']"),
        (
            [Target("macs", 0.5), Target("macs", at_most=9)],
            "Received: Target('macs', share=0.5) and Target('macs', at_most=9)",
        ),
        ([Target("units", 0.5)] * 2, "Received: Target('units', share=0.5)"),
    ],
)
def test_lists_that_say_nothing_or_two_things(target, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        as_targets(target)
