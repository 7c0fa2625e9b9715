import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.trainers.data import timit_files
from trainers.data import input_pipeline
from trainers.data import timit as timit_lib
from trainers.data.phones import SYMBOLS


def load(folder, manual_dir):
    return input_pipeline.load("timit", folder / "tfds", manual_dir)


def test_speaker_lists():
    core, development = timit_lib.CORE_TEST, timit_lib.DEVELOPMENT
    assert (len(core), len(development)) == (24, 50)
    assert not core & development
    # Two men and a woman of each of eight regions.
    assert sum(name[0] == "F" for name in core) == 8
    for name in core | development:
        assert len(name) == 5 and name[0] in "FM" and name[4].isdigit()


def test_splits_are_those_of_the_speakers(timit):
    timit.load()
    builder = tfds.builder("timit", data_dir=timit.data_dir)
    for split, speakers in timit_files.SPLITS.items():
        examples = tfds.as_numpy(builder.as_dataset(split=split))
        found = {
            (e["speaker"].decode(), e["sentence"].decode()) for e in examples
        }
        # Without those that all speakers read.
        assert found == {(s, t) for s in speakers for t in ("SX37", "SI648")}


def test_speech_and_phones_are_kept(timit):
    timit.load()
    builder = tfds.builder("timit", data_dir=timit.data_dir)
    path = timit.manual_dir / "TIMIT" / "TRAIN" / "DR1" / "MDAC0"
    for example in tfds.as_numpy(builder.as_dataset(split="train")):
        if (example["speaker"], example["sentence"]) == (b"MDAC0", b"SX37"):
            break
    content = (path / "SX37.WAV").read_bytes()
    expected = np.frombuffer(content[1024:], "<i2")
    np.testing.assert_array_equal(example["speech"], expected)
    assert example["speech"].dtype == np.int16
    phones = example["phones"]
    lines = [
        f"{start} {end} {SYMBOLS[label]}\n"
        for start, end, label in zip(
            phones["start"], phones["end"], phones["label"]
        )
    ]
    assert "".join(lines) == (path / "SX37.PHN").read_text()


def test_other_names_and_format_give_the_same(timit, tmp_path):
    timit_files.write(tmp_path / "raw", "riff", lower=True)
    data, same = timit.load(), load(tmp_path, tmp_path / "raw")
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(data, name), getattr(same, name))


def test_manual_dir_is_needed(tmp_path):
    with pytest.raises(ValueError, match=r"timit could not [\s\S]*LDC93S1"):
        load(tmp_path, None)


def test_folder_without_timit(tmp_path):
    (tmp_path / "raw" / "TIMIT" / "DOC").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"`manual_dir` must have .*\['DOC'\] in TIMIT/"
    ):
        load(tmp_path, tmp_path / "raw")


def test_split_without_speakers(tmp_path):
    (tmp_path / "raw" / "TEST").mkdir(parents=True)
    (tmp_path / "raw" / "TRAIN").mkdir()
    with pytest.raises(ValueError, match="`manual_dir` .*without any of train"):
        load(tmp_path, tmp_path / "raw")


@pytest.mark.parametrize("ending, other", [("WAV", "PHN"), ("PHN", "WAV")])
def test_missing_file(ending, other, tmp_path):
    timit_files.write(tmp_path)
    place = tmp_path / "TRAIN" / "DR1" / "FCJF0"
    (place / f"SX37.{ending}").unlink()
    with pytest.raises(
        ValueError, match=rf"no \.{ending} file beside .*SX37\.{other}"
    ):
        timit_lib.sentences(tmp_path / "TRAIN", None)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"NIST_1A\n   1024\n", "FELC0.*SX37.WAV is damaged: .*end_head"),
        (
            timit_files.sphere(np.zeros(9000, "int16"), sample_rate="-i 8000"),
            "FELC0.*SX37.WAV must have 16000 .* has 8000",
        ),
        (
            timit_files.sphere(np.zeros(9000, "int16")),
            "line 7 of .*FELC0.*SX37.PHN.* inside .* 9000 samples",
        ),
    ],
)
def test_damaged_recordings_are_named(content, message, tmp_path):
    raw = tmp_path / "raw"
    timit_files.write(raw)
    path = raw / "TEST" / "DR1" / "FELC0"
    (path / "SX37.WAV").write_bytes(content)
    phones = timit_files.phn([(i * 10, i * 10 + 10, "b") for i in range(6)])
    (path / "SX37.PHN").write_text(phones + "17600 19200 h#\n")
    with pytest.raises(ValueError, match=message):
        load(tmp_path, raw)
    # Nothing half done is taken for the set.
    assert not list((tmp_path / "tfds" / "timit").glob("1*"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("0 100\n", "line 1 of .*, '0 100', there must be two numbers"),
        ("0 100 b\n1 -2 d\n", "line 2 .* two numbers"),
        ("0 100 b\n100 200 bb\n", "line 2 .* no phone of TIMIT"),
        ("0 200 b\n150 100 d\n", "line 2 .* must end after it begins"),
        ("50 100 b\n0 200 d\n", "line 2 .* which begins at 50"),
        ("0 100 b\n1000 1100 d\n", "line 2 .* which has 1000 samples"),
        ("0 1401 b\n", "line 1 .* inside of the recording"),
        ("\n", "no phones in"),
    ],
)
def test_damaged_phones_are_named(text, message, tmp_path):
    path = tmp_path / "SX37.PHN"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        timit_lib.read_phones(path, 1000)
    assert "SX37.PHN" in str(caught.value)


def test_last_phone_may_end_a_little_late(tmp_path):
    path = tmp_path / "SX37.PHN"
    path.write_text("0 500 B\n\n500 1400 h#\n")
    assert timit_lib.read_phones(path, 1000) == [
        {"start": 0, "end": 500, "label": "b"},
        {"start": 500, "end": 1000, "label": "h#"},
    ]
