from l0keras.compression.compressed import Compressed
from l0keras.compression.compressed import History
from l0keras.targets import Target


def test_trainings_follow_each_other():
    history = History()
    history.add("one", [{"loss": 3.0}, {"loss": 2.0, "val_loss": 2.5}])
    history.add("two", [{"loss": 1.0, "rate": 0.1}])
    assert history == {
        "stage": ["one", "one", "two"],
        "loss": [3.0, 2.0, 1.0],
        "val_loss": [None, 2.5, None],
        "rate": [None, None, 0.1],
    }


def result(metrics, **costs):
    target = Target("bytes", at_most=50_000, quantization="int8")
    sizes = {"dense": 400_000, "asked": 50_000, "expected": 51_000.4}
    return Compressed(
        model=None,
        report=None,
        history={},
        table={
            "targets": [
                {"target": target, "layer": None, **sizes, "reached": 49_000}
            ],
            "data": "validation_data",
            "dense": {"params": 1000, **costs, "metrics": metrics},
            "small": {"params": 250, **costs, "metrics": metrics},
        },
    )


def test_the_table():
    costs = {"macs": 2000, "bytes": None, "latency_us": 12.34}
    assert str(result({"loss": 0.12345}, **costs)).splitlines() == [
        "             dense   small   share",
        "params       1,000     250   25.0%",
        "MACs         2,000   2,000  100.0%",
        "latency us    12.3    12.3  100.0%",
        "loss        0.1235  0.1235",
        "The last 1 on validation_data.",
        "",
        "asked                     at most  expected  reached  share",
        "bytes of the model, int8   50,000    51,000   49,000  12.2%",
    ]


def test_what_is_not_known_is_left_out():
    costs = {"macs": None, "bytes": None, "latency_us": None}
    lines = str(result(None, **costs)).splitlines()
    assert lines[:3] == [
        "        dense  small  share",
        "params  1,000    250  25.0%",
        "",
    ]
