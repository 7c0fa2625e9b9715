import numpy as np
import pytest

from l0keras import models
from trainers.run import plots
from trainers.run.workdir import Workdir

PNG = b"\x89PNG"


def history(names):
    return [
        {
            "epoch": epoch,
            "val_accuracy": 1 - 0.1 / epoch,
            **{f"{name}_open": 9 - epoch for name in names},
            **{f"{name}_expected": 9.5 - epoch for name in names},
        }
        for epoch in range(1, 4)
    ]


def test_heat_map_shows_each_gate_at_its_pixel():
    gates = np.zeros((3, 4, 1))
    gates[1, 2, 0] = 0.5
    gates[0, 3, 0] = 1.0
    axes = plots.pixel_gates(gates).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), gates[..., 0])
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.get_title(loc="left") == "2 of 12 inputs are read"


def test_panels_show_units_of_each_layer_and_the_error():
    figure = plots.units(history(["a", "b"]), {"a": 10, "b": 20})
    first, second, error, *_ = figure.axes
    expected, alive = first.lines
    np.testing.assert_array_equal(alive.get_xydata().T, [[1, 2, 3], [8, 7, 6]])
    np.testing.assert_array_equal(expected.get_ydata(), [8.5, 7.5, 6.5])
    assert second.get_title(loc="left") == "b: 6 of 20"
    assert error.lines[0].get_ydata() == pytest.approx([10, 5, 10 / 3])
    assert error.get_title(loc="left") == "test error: 3.33 %"


def kept(names, epochs=3):
    return [
        {
            "epoch": epoch,
            "val_accuracy": 1 - 0.1 / epoch,
            **{f"{name}_kept": 9 - i - epoch for i, name in enumerate(names)},
        }
        for epoch in range(1, epochs + 1)
    ]


def test_lines_show_groups_of_each_layer_and_the_error():
    figure = plots.groups(kept(["a", "b"]))
    left, error = figure.axes
    first, second = left.lines
    np.testing.assert_array_equal(first.get_xydata().T, [[1, 2, 3], [8, 7, 6]])
    np.testing.assert_array_equal(second.get_ydata(), [7, 6, 5])
    texts = [text.get_text() for text in left.get_legend().get_texts()]
    assert texts == ["a: 6", "b: 5"]
    assert left.get_ylim()[0] == 0
    assert error.lines[0].get_ydata() == pytest.approx([10, 5, 10 / 3])
    assert error.get_title(loc="left") == "error: 3.33 %"


def test_many_layers_have_no_legend():
    names = [f"layer{index}" for index in range(9)]
    left, _ = plots.groups(kept(names)).axes
    assert len(left.lines) == 9 and left.get_legend() is None


def test_layers_without_groups_are_on_the_axis():
    left, _ = plots.groups([row | {"a_kept": 0} for row in kept(["a"])]).axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [0] * 3)
    assert left.get_ylim()[0] == 0 < left.get_ylim()[1]


def test_file_of_groups(tmp_path):
    folder = Workdir(tmp_path, {})
    model = models.mlp((8, 8, 1))
    plots.draw(model, model.input_shape[1:], kept(["fc1"], 1), folder)
    folder.close()
    assert {path.name for path in tmp_path.glob("*.png")} == {"groups.png"}
    assert (tmp_path / "groups.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    "model, files",
    [
        (
            models.mlp((8, 8, 1), gates="paper"),
            {"pixel_gates.png", "units.png"},
        ),
        (models.lenet5((16, 16, 1), gates="paper"), {"units.png"}),
        (models.mlp((8, 8, 1)), set()),
    ],
)
def test_files(model, files, tmp_path):
    folder = Workdir(tmp_path, {})
    names = list(("conv1", "conv2", "fc1", "fc2", "fc3"))
    plots.draw(model, model.input_shape[1:], history(names), folder)
    folder.close()
    written = {path.name for path in tmp_path.glob("*.png")}
    assert written == files
    for name in files:
        assert (tmp_path / name).read_bytes().startswith(PNG)
