"""The tables of the study of controllers, of made-up results."""

import pytest

from trainers.studies import controller_tables


def cell(controller, share, expected, error, seed=1, of="macs"):
    return {
        "of": of,
        "share": share,
        "controller": controller,
        "seed": seed,
        "expected": expected,
        "strip": 2 * expected,
        "cut": share,
        "strip_error": error + 2,
        "cut_error": error + 1,
        "validation_error": error,
    }


@pytest.fixture
def results():
    return [
        {"name": "dense", "seed": 1, "validation_error": 2.0},
        *(
            cell(controller, share, share * ratio, error)
            for controller, ratio in zip(
                controller_tables.TITLES, (1.0, 3.0, 0.5, 0.8)
            )
            for share, error in ((0.5, 3.0), (0.02, 5.0))
        ),
        # A size that others were not asked for.
        cell("budget", 0.25, 0.9, 99.0),
    ]


def test_a_point_is_the_median_of_seeds(results):
    more = [cell("nu_pi", 0.5, x, 10 * x, seed=s) for s, x in ((2, 1), (3, 2))]
    points = controller_tables.points([*results, *more])
    assert len(points) == 9
    [point] = [one for one in points if one["seeds"] == 3]
    assert point["expected"] == 1.0 and point["validation_error"] == 10.0


def test_the_summary_compares_sizes_that_all_were_asked_for(results):
    head, *lines = controller_tables.summary(results)
    assert head[0] == "controller, 2 sizes"
    assert [line[1] for line in lines] == [
        "1.00 to 1.00",
        "3.00 to 3.00",
        "0.50 to 0.50",
        "0.80 to 0.80",
    ]
    for line in lines:
        assert line[3:] == ["6.00 %", "5.00 %", "4.00 %", "5.00 %"]
    # No 2 % yet.
    lines = controller_tables.summary(
        [r for r in results if r is not results[2]]
    )
    assert [line[-1] for line in lines[1:]] == ["-"] * 4
    assert not controller_tables.summary(results[:2])


def test_cells_have_a_line_each(results):
    head, dense, *lines = controller_tables.cells(results)
    assert dense[1] == "dense" and dense[-2] == "2.00 %"
    assert lines[0][0] == "50 % of the MACs"
    assert lines[0][2:5] == ["50.00 %", "100.00 %", "50.00 %"]
    assert len(lines) == 9
    assert all(len(line) == len(head) for line in (dense, *lines))
