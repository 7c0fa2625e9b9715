"""Each model of the corpus, from its gates to its file."""

import pytest

from trainers.studies import road
from trainers.studies.corpus import ENTRIES

# What strangers' code warns of is not about this library.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", ENTRIES)
def test_the_whole_road(name):
    entry = ENTRIES[name]
    missing = road.missing(entry)
    if missing:
        pytest.skip(f"{missing} is not there")
    row = road.travel(entry)
    largest = max(row["difference"].values(), default=0.0)
    assert largest <= road.TOLERANCE, row["failed"]
    if entry.known:
        # It says so for as long as that is true.
        assert not road.is_fine(entry, row)
        return
    assert row["failed"] is None
    assert road.share(row) <= entry.limit, row["kept"]
