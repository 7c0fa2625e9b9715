import keras
import pytest

from l0keras.callbacks import Checkpoint
from l0keras.targets import Target
from trainers.studies import sizes


def small(data, seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(data.input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(40, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


NETWORKS = {
    "small": sizes.Network(
        "small", small, "digits", dense_epochs=4, epochs=8, batch_size=16
    )
}


@pytest.fixture
def epochs(monkeypatch):
    """The epochs of all trainings, which are stopped after some of them."""
    save = Checkpoint.on_epoch_end
    epochs = []

    def stops(self, epoch, logs=None):
        save(self, epoch, logs)
        epochs.append(epoch)
        # Of the dense network, of `compress` twice, and of the two others.
        if len(epochs) in (3, 6, 10, 14, 28):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "on_epoch_end", stops)
    return epochs


def test_cells_are_made_once_and_shown(tmp_path, epochs):
    found = sizes.Sizes(NETWORKS)
    row = next(r for r in found.rows if r.target == Target("params", 0.25))
    where = {"data_dir": None, "manual_dir": None}
    workdir = str(tmp_path)
    folder = row.folder(workdir, 1)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            found.result(row, 1, folder, where)
    result = found.result(row, 1, folder, where)
    assert epochs == [*range(4), *range(8), *range(8), *range(12)]
    assert not list(tmp_path.rglob("*.npz"))
    assert 0.97 * 0.25 <= result["reached"] <= 0.25
    assert 0.9 * 0.25 <= result["norm_reached"] <= 0.25
    # Chance is 90.
    assert all(result[way] < 60 for way in sizes.WAYS)
    assert result["test_error"] == result["compress"]
    again = found.collect(workdir, where)
    assert again == [result]
    found.save(again, tmp_path / "saved")
    table = (tmp_path / "saved" / "table.md").read_text()
    assert f"25% of params | {result['reached']:.2%}" in table
    assert (tmp_path / "saved" / "sizes.png").exists()


def test_some_networks_are_trained():
    study = sizes.Sizes(trained=["mlp"])
    wanted = study.wanted([], ["2"])
    assert {(row.network, seed) for row, seed in wanted} == {("mlp", 2)}
    assert len(wanted) == 10


def test_all_sizes_of_all_networks_are_rows():
    rows = sizes.Sizes().rows
    assert len(rows) == 10 * len(sizes.NETWORKS)
    assert len({row.name for row in rows}) == len(rows)


@pytest.mark.parametrize("network", sizes.NETWORKS)
def test_norms_are_known_of_all_networks(network):
    import numpy as np

    import l0keras
    from trainers.studies import largest_norm

    class Data:
        input_shape = {
            "resnet20": (14, 14, 1),
            "mobilenet_v2": (32, 32, 3),
        }.get(network, (28, 28, 1))

    model = sizes.NETWORKS[network].make(Data, 1)
    cut = largest_norm.cut(model, Target("macs", 0.3))
    share = l0keras.count_macs(cut) / l0keras.count_macs(model)
    assert 0.27 < share <= 0.3
    assert np.isfinite(cut.predict(np.ones((1, *Data.input_shape)))).all()
