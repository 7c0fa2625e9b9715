"""The files that a comparison makes of one network."""

import dataclasses

from trainers.studies import study


@dataclasses.dataclass(frozen=True)
class Variant(study.Row):
    """A row of the table: a file.

    Args:
        name, title: see `study.Row`.
        origin: the model that it is made of, see `Comparison.model`.
        quantization: see `l0keras.export_tflite`.
        sparse_encoding: likewise.
        clusters: whether weights share values.
        quantize_aware: whether the model is fine-tuned for int8.
    """

    flagfile: str = ""
    origin: str = "l0"
    quantization: str | None = None
    sparse_encoding: bool = False
    clusters: bool = False
    quantize_aware: bool = False

    @property
    def last_file(self):
        """The name of its file."""
        return self.name.replace(",", "").replace(" ", "_") + ".tflite"

    def folder(self, workdir, seed=None):
        """The folder of all files."""
        return workdir


def _variant(name, **arguments):
    origin = name.partition(",")[0]
    int8 = "int8" if "int8" in name else None
    return Variant(name, name, origin=origin, quantization=int8, **arguments)


VARIANTS = (
    _variant("dense"),
    _variant("dense, int8"),
    _variant("pruned"),
    _variant("pruned, sparse encoding", sparse_encoding=True),
    _variant("pruned, int8"),
    _variant("from scratch"),
    _variant("from scratch, int8"),
    _variant("l0"),
    _variant("l0, int8"),
    _variant("l0, int8, fine-tuned", quantize_aware=True),
    _variant("l0, clustered", clusters=True),
    _variant(
        "l0, clustered, int8, fine-tuned", clusters=True, quantize_aware=True
    ),
)
