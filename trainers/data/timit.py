"""TIMIT as a data set of tensorflow_datasets, which has none of its own."""

import os
import pathlib
import re

import numpy as np
import tensorflow_datasets as tfds

from trainers.data.phones import SYMBOLS
from trainers.data.sound import read_sound

SAMPLE_RATE = 16_000
# By which the last phone may end after the sound, in samples: one window of
# analysis, so that no frame can have its label from there.
MARGIN = 400
_SENTENCE = re.compile(r"(S[AIX]\d+)\.(WAV|PHN)")

# The core test set, two men and a woman of each dialect region, of the corpus's
# own TESTSET.DOC.
CORE_TEST = frozenset(
    """
    MDAB0 MWBT0 FELC0 MTAS1 MWEW0 FPAS0 MJMP0 MLNT0 FPKT0 MLLL0 MTLS0 FJLM0
    MBPM0 MKLT0 FNLP0 MCMJ0 MJDH0 FMGD0 MGRT0 MNJM0 FDHC0 MJLN0 MPAM0 FMLD0
    """.split()
)
# The 50 other speakers of the test folder who are commonly developed on:
# Halberstadt, Heterogeneous acoustic measurements and multiple classifiers
# for speech recognition (PhD thesis, MIT, 1998), as in Kaldi's recipe.
DEVELOPMENT = frozenset(
    """
    FAKS0 FDAC1 FJEM0 MGWT0 MJAR0 MMDB1 MMDM2 MPDF0 FCMH0 FKMS0 MBDG0 MBWM0
    MCSH0 FADG0 FDMS0 FEDW0 MGJF0 MGLB0 MRTK0 MTAA0 MTDT0 MTHC0 MWJG0 FNMR0
    FREW0 FSEM0 MBNS0 MMJR0 MDLS0 MDLF0 MDVC0 MERS0 FMAH0 FDRW0 MRCS0 MRJM4
    FCAL1 MMWH0 FJSJ0 MAJC0 MJSW0 MREB0 FGJD0 FJMG0 MROA0 MTEB0 MJFC0 MRJR0
    FMML0 MRWS1
    """.split()
)


class Timit(tfds.core.GeneratorBasedBuilder):
    """The sentences of LDC93S1 with the phones in them.

    The splits are `train` (all speakers of the training folder), `validation`
    (`DEVELOPMENT`) and `test` (`CORE_TEST`), each without the two sentences SA
    that all speakers read, because they would be in training and test alike.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "TIMIT must be bought from the Linguistic Data Consortium, catalogue "
        "number LDC93S1. Argument `manual_dir` must be the folder with its "
        "TRAIN and TEST, or the one above."
    )

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Read sentences and their phones, framed by hand.",
            features=tfds.features.FeaturesDict(
                {
                    "speech": tfds.features.Tensor(
                        shape=(None,),
                        dtype=np.int16,
                        encoding=tfds.features.Encoding.BYTES,
                    ),
                    # In samples, the end not included.
                    "phones": tfds.features.Sequence(
                        {
                            "start": np.int32,
                            "end": np.int32,
                            "label": tfds.features.ClassLabel(names=SYMBOLS),
                        }
                    ),
                    "speaker": tfds.features.Text(),
                    "sentence": tfds.features.Text(),
                }
            ),
            homepage="https://catalog.ldc.upenn.edu/LDC93S1",
        )

    def _split_generators(self, dl_manager):
        train, test = folders(dl_manager.manual_dir)
        found = {
            "train": sentences(train, None),
            "validation": sentences(test, DEVELOPMENT),
            "test": sentences(test, CORE_TEST),
        }
        for split, files in found.items():
            if not files:
                raise ValueError(
                    "Argument `manual_dir` must have speakers of each split. "
                    f"Received: manual_dir={dl_manager.manual_dir}, without "
                    f"any of {split}"
                )
        return {
            split: self._generate_examples(files)
            for split, files in found.items()
        }

    def _generate_examples(self, files):
        for (speaker, sentence), paths in files.items():
            speech, rate = read_sound(paths["WAV"])
            if rate != SAMPLE_RATE:
                raise ValueError(
                    f"The recording {paths['WAV']} must have {SAMPLE_RATE} "
                    f"samples in a second and has {rate}"
                )
            yield (
                f"{speaker}_{sentence}",
                {
                    "speech": speech,
                    "phones": read_phones(paths["PHN"], len(speech)),
                    "speaker": speaker,
                    "sentence": sentence,
                },
            )


def folders(manual_dir):
    """The folders of training and of test speakers.

    Args:
        manual_dir: a folder that has them, or in which TIMIT/ does; names are
            in upper or lower case.

    Returns:
        A pair of paths.

    Raises:
        ValueError: they are not there.
    """
    top = pathlib.Path(manual_dir)
    while True:
        below = {path.name.upper(): path for path in _folders(top)}
        if {"TRAIN", "TEST"} <= below.keys():
            return below["TRAIN"], below["TEST"]
        if "TIMIT" not in below:
            raise ValueError(
                "Argument `manual_dir` must have the folders TRAIN and TEST of "
                f"LDC93S1, or TIMIT with them. Received: "
                f"manual_dir={manual_dir}, with {sorted(below) or 'nothing'} "
                f"in {top.name}/"
            )
        top = below["TIMIT"]


def sentences(folder, speakers):
    """The files of sentences, without those that all speakers read.

    Args:
        folder: a path with folders of dialect regions in it, which have those
            of speakers.
        speakers: the names of those to take, or `None` for all.

    Returns:
        A dict from pairs of a speaker and a sentence, in upper case, to dicts
        of the paths of their `"WAV"` and `"PHN"`.

    Raises:
        ValueError: one of these is missing.
    """
    found = {}
    for region in _folders(folder):
        for place in _folders(region):
            speaker = place.name.upper()
            if speakers is not None and speaker not in speakers:
                continue
            for path in sorted(place.iterdir()):
                match = _SENTENCE.fullmatch(path.name.upper())
                if match and not match[1].startswith("SA"):
                    found.setdefault((speaker, match[1]), {})[match[2]] = path
    for files in found.values():
        for missing in {"WAV", "PHN"} - files.keys():
            [there] = files.values()
            raise ValueError(f"There is no .{missing} file beside {there}")
    return found


def read_phones(path, samples):
    """Reads the phones of a recording.

    Args:
        path: a .PHN file: in each line the first sample of a phone, the first
            one after it, and its symbol.
        samples: how many samples the recording has.

    Returns:
        A list of dicts with the keys `start`, `end` and `label`.

    Raises:
        ValueError: a line that is not as above, phones that are not in their
            order, or outside of the recording.
    """
    phones = []
    last = 0
    for number, line in enumerate(path.read_text("latin-1").splitlines(), 1):
        if not line.strip():
            continue
        parts = line.split()
        where = f"In line {number} of {path}, {line.strip()!r},"
        if len(parts) != 3 or not (parts[0] + parts[1]).isdigit():
            raise ValueError(f"{where} there must be two numbers and a phone")
        start, end, label = int(parts[0]), int(parts[1]), parts[2].lower()
        if label not in SYMBOLS:
            raise ValueError(f"{where} there is no phone of TIMIT")
        if not last <= start <= end:
            raise ValueError(
                f"{where} a phone must end after it begins, and begin after "
                f"the one before, which begins at {last}"
            )
        if start >= samples or end > samples + MARGIN:
            raise ValueError(
                f"{where} a phone must lie inside of the recording, which "
                f"has {samples} samples"
            )
        end = min(end, samples)
        phones.append({"start": start, "end": end, "label": label})
        last = start
    if not phones:
        raise ValueError(f"There are no phones in {path}")
    return phones


def _folders(path):
    if not os.path.isdir(path):
        return []
    return sorted(entry for entry in path.iterdir() if entry.is_dir())
