import csv
import types

from trainers.run.callbacks import HistoryCsv


def test_table_follows_the_checkpoint(tmp_path):
    path = tmp_path / "history.csv"
    checkpoint = types.SimpleNamespace(history=[])
    callback = HistoryCsv(path, checkpoint)
    callback.on_train_begin()
    assert not path.exists()
    for epoch in (1, 2):
        checkpoint.history.append({"epoch": epoch, "loss": 0.5 / epoch})
        callback.on_epoch_end(epoch - 1)
    # Resumed from a checkpoint that lacks the last epoch.
    del checkpoint.history[1]
    HistoryCsv(path, checkpoint).on_train_begin()
    with open(path, newline="") as file:
        assert list(csv.DictReader(file)) == [{"epoch": "1", "loss": "0.5"}]
    assert [p.name for p in tmp_path.iterdir()] == ["history.csv"]
