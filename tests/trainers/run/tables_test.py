from trainers.run import tables

REPORT = {
    "units": {"dense": "20-50-800-500", "gated": "9-18-65-25"},
    "test_error": {"gated": 0.97, "tflite": 0.98},
    "test_error_raw": 1.25,
    "params": {"dense": 431080, "gated": 432450, "stripped": 6212},
    "macs": {"dense": 2293000},
    "bytes": {"dense": 1726000, "tflite": 27512},
    "latency_us": {"dense": 210.4, "tflite": 33.2},
    "seed": 3,
    "epochs": 200,
    "seconds": 1234.5,
    "config": {"model": "lenet5", "dataset": "mnist"},
}


def test_one_line_for_each_stage():
    lines = tables.table(REPORT).splitlines()
    rows = {line.split()[0]: line for line in lines[3:7]}
    assert list(rows) == ["dense", "gated", "stripped", "LiteRT"]
    assert rows["dense"].split() == (
        "dense - 20-50-800-500 431,080 2,293,000 1,726,000 210 us".split()
    )
    assert "0.97 %" in rows["gated"] and "9-18-65-25" in rows["gated"]
    assert rows["stripped"].split() == "stripped - - 6,212 - - -".split()
    assert "33 us" in rows["LiteRT"]
    assert len({len(line) for line in lines[1:7]}) == 1
    assert "seed 3: 200 epochs in 1234 s" in lines[-2]
    assert "1.25 % without averaging" in lines[-1]


def test_stages_that_were_not_reached_are_left_out():
    report = {**REPORT, "test_error": {"dense": 1.0}}
    for key in ("units", "params", "macs", "bytes", "latency_us"):
        report[key] = {"dense": REPORT[key]["dense"]}
    assert "gated" not in tables.table(report)


ROWS = [["", "bytes", "error"], ["dense", "1,000", "0.5 %"], ["l0", "9", "-"]]


def test_text_aligns_columns():
    assert tables.text(ROWS).splitlines() == [
        "       bytes  error",
        "-------------------",
        "dense  1,000  0.5 %",
        "l0         9      -",
    ]


def test_markdown_has_a_line_under_the_titles():
    assert tables.markdown(ROWS).splitlines() == [
        "|  | bytes | error |",
        "| --- | --- | --- |",
        "| dense | 1,000 | 0.5 % |",
        "| l0 | 9 | - |",
    ]


def test_of_two_in_the_middle_the_worse_one():
    for runs, median in (([3, 1, 2], 2), ([2, 1], 2)):
        assert tables.median_run(runs, lambda run: run) == median
