"""Small models as strangers write them.

Each is a function in the manner of Keras's example gallery or of keras-hub:
own layers without a configuration, blocks with sublayers, own functions,
lambdas, masks, models within models. None knows this library.
"""

from trainers.studies.corpus import control
from trainers.studies.corpus import generative
from trainers.studies.corpus import graphs
from trainers.studies.corpus import hub
from trainers.studies.corpus import images
from trainers.studies.corpus import patches
from trainers.studies.corpus import pixels
from trainers.studies.corpus import points
from trainers.studies.corpus import reading
from trainers.studies.corpus import series
from trainers.studies.corpus import sound
from trainers.studies.corpus import tables
from trainers.studies.corpus import text
from trainers.studies.corpus import video
from trainers.studies.corpus.entry import ENTRIES
from trainers.studies.corpus.entry import LIMIT
from trainers.studies.corpus.entry import Entry

__all__ = [
    "ENTRIES",
    "LIMIT",
    "Entry",
    "control",
    "generative",
    "graphs",
    "hub",
    "images",
    "patches",
    "pixels",
    "points",
    "reading",
    "series",
    "sound",
    "tables",
    "text",
    "video",
]
