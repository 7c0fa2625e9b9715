"""The phones of TIMIT, and how they are folded for classification.

Source: Lee and Hon, Speaker-independent phone recognition using hidden Markov
models, IEEE Transactions on Acoustics, Speech, and Signal Processing 37
(1989), table III; beyond its 48 phones, those that it counts as one in its
results are one here, which leaves 39.
"""

# The label of what has no class, such as padding.
IGNORED = -1

# The 61 symbols of the corpus's .PHN files.
SYMBOLS = (
    *("aa", "ae", "ah", "ao", "aw", "ax", "ax-h", "axr", "ay", "b", "bcl"),
    *("ch", "d", "dcl", "dh", "dx", "eh", "el", "em", "en", "eng", "epi"),
    *("er", "ey", "f", "g", "gcl", "h#", "hh", "hv", "ih", "ix", "iy", "jh"),
    *("k", "kcl", "l", "m", "n", "ng", "nx", "ow", "oy", "p", "pau", "pcl"),
    *("q", "r", "s", "sh", "t", "tcl", "th", "uh", "uw", "ux", "v", "w", "y"),
    *("z", "zh"),
)
# The glottal stop is no class.
LEFT_OUT = "q"
SILENCE = "sil"
# What is more than one symbol: closures and pauses are silence.
GROUPS = {
    "aa": ("aa", "ao"),
    "ah": ("ah", "ax", "ax-h"),
    "er": ("er", "axr"),
    "hh": ("hh", "hv"),
    "ih": ("ih", "ix"),
    "l": ("l", "el"),
    "m": ("m", "em"),
    "n": ("n", "en", "nx"),
    "ng": ("ng", "eng"),
    "sh": ("sh", "zh"),
    "uw": ("uw", "ux"),
    SILENCE: (
        *("bcl", "dcl", "gcl", "kcl", "pcl", "tcl"),
        *("epi", "h#", "pau"),
    ),
}
_CLASS_OF = {
    symbol: name for name, symbols in GROUPS.items() for symbol in symbols
}
# From a symbol to the name of its class, without `LEFT_OUT`.
FOLDED = {
    symbol: _CLASS_OF.get(symbol, symbol)
    for symbol in SYMBOLS
    if symbol != LEFT_OUT
}
# In the order of their labels.
CLASSES = tuple(sorted(set(FOLDED.values())))
