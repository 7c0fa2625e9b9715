import os
import random
import sys
import warnings

import keras
import pytest
from keras import layers

import l0keras
from l0keras.graph.analyze import channel_graph
from l0keras.graph.groups import load_shapes
from l0keras.targets.latency.cache import cache_path
from l0keras.targets.latency.cache import read_cache
from l0keras.targets.latency.measure import measure
from l0keras.targets.latency.pieces import pieces

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written on TensorFlow",
)


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """Takes a microsecond for each byte, three in every other round."""
    calls = []

    def measure_latency(paths, **_):
        calls.append([os.path.basename(path) for path in paths])
        slow = 3 if len(calls) % 2 else 1
        return [slow * os.path.getsize(path) for path in paths]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(l0keras.export, "measure_latency", measure_latency)
    return calls


@pytest.fixture
def found():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.Flatten()(x)
    graph = channel_graph(keras.Model(inputs, layers.Dense(3)(x)))
    load_shapes(graph)
    return pieces(graph)


def test_times_are_those_of_files_without_the_overhead(clock, found):
    shown = []
    nothing, times = measure(found, None, lambda *done: shown.append(done))
    conv, flatten, dense = times
    assert list(conv) == [(1, 0), (1, 0.25), (1, 0.5), (1, 1)]
    # 4, 2 and 1 channels of 18 weights and a bias each, 4 bytes a number.
    assert conv[1, 1] - conv[1, 0.5] == pytest.approx(2 * 19 * 4, abs=16)
    assert conv[1, 0] == conv[1, 0.25] < conv[1, 0.5]
    assert nothing > 0 and min(conv[1, 0], dense[1, 1]) > 0
    assert shown == [(done, len(shown)) for done in range(1, 1 + len(shown))]
    # One channel is a quarter of four, and measured once.
    assert len(flatten) == len(dense) == 4 and len(shown) == 3 + 3 + 4


def test_known_times_are_not_measured_again(clock, found):
    first = measure(found, None, progress=False)
    count = len(clock)
    assert measure(found, None, progress=False) == first
    assert len(clock) == count
    measure(found, "float16", progress=False)
    assert len(clock) > count
    cache_path().write_text("damaged")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = measure(found, None, progress=False)
    assert again[1] == [pytest.approx(times) for times in first[1]]
    assert read_cache()


def test_a_bar_is_shown_on_terminals_alone(clock, found, capsys, monkeypatch):
    measure(found[:1], None)
    assert not capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    measure(found[1:2], None)
    assert "3/3" in capsys.readouterr().out


def test_what_has_no_file_is_left_out(clock, found):
    class Narrow:
        def widths(self):
            return [(1, 0.5), (1, 1)]

        def key(self, parts):
            return None

        def model(self, parts):
            if parts == (1, 0.5):
                raise ValueError("no such width")
            return found[0].model(parts)

    state = random.getstate()
    nothing, (times,) = measure([Narrow()], None, progress=False)
    assert list(times) == [(1, 1)]
    assert random.getstate() == state
    # Without a key it is not kept: there is the overhead alone.
    assert list(read_cache().values()) == [nothing]
