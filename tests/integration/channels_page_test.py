"""The code of docs/guides/channels.md runs and shows what the page says."""

import pathlib

import pytest

from l0keras.graph.rules import table
from tests.integration import readme_test

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "channels.md"


@pytest.fixture
def rules(monkeypatch):
    """What the page registers is gone afterwards."""
    monkeypatch.setattr(table, "RULES", dict(table.RULES))


def test_python_code_runs(rules, capsys):
    printed = []
    names = {"__name__": "channels"}
    for info, code in readme_test.blocks(PAGE.read_text(), "python"):
        assert not info
        exec(compile(code, "channels.md", "exec"), names)
        printed.append(capsys.readouterr().out)
    groups, gates, report, _, last = printed
    # One group holds both ends of the residual connection.
    assert all(name in groups for name in ("stem", "sum", "outer", "inner"))
    assert "inner" not in gates and ", 16)" in gates
    assert "8 -> 3" in report
    params, difference = last.split()
    assert int(params) == 4 * 2 + 2 + 2 + 2 * 2 + 2
    assert float(difference) < 1e-6
