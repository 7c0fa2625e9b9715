from trainers.data.phones import CLASSES
from trainers.data.phones import FOLDED
from trainers.data.phones import GROUPS
from trainers.data.phones import LEFT_OUT
from trainers.data.phones import SYMBOLS

# Lee and Hon's groups, and the symbols that are a class alone.
TOGETHER = (
    "aa ao, ah ax ax-h, er axr, hh hv, ih ix, l el, m em, n en nx, ng eng, "
    "sh zh, uw ux, pcl tcl kcl bcl dcl gcl h# pau epi"
)
ALONE = (
    "iy eh ae uh ey ay oy aw ow r y w ch jh dh b d dx g p t k z v f th s"
).split()


def test_61_symbols_and_39_classes():
    assert len(SYMBOLS) == len(set(SYMBOLS)) == 61
    assert len(CLASSES) == len(set(CLASSES)) == 39
    assert FOLDED.keys() | {LEFT_OUT} == set(SYMBOLS)
    assert LEFT_OUT == "q" and "q" not in FOLDED
    assert set(FOLDED.values()) == set(CLASSES)


def test_groups_are_lee_and_hons():
    groups = [set(names.split()) for names in TOGETHER.split(", ")]
    assert [set(symbols) for symbols in GROUPS.values()] != []
    for group in groups:
        assert set(GROUPS[FOLDED[next(iter(group))]]) == group
        assert len({FOLDED[symbol] for symbol in group}) == 1
    assert len(GROUPS) == len(groups) == 12
    assert {s for s in SYMBOLS if FOLDED.get(s) == s} >= set(ALONE)
    assert sum(len(group) for group in groups) + len(ALONE) + 1 == 61
    assert FOLDED["h#"] == FOLDED["pcl"] == "sil"
