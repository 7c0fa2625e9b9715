import dataclasses

from l0keras.export.litert.precision import label_of
from l0keras.export.micro.micro_file import MicroFile


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """A LiteRT file with its size, its latency and its errors.

    Attributes:
        path: the path of the file, a string.
        quantization: the way its numbers are written, as `export_tflite` got
            it.
        bytes: its size in bytes.
        gzip_bytes: its size in bytes after gzip.
        latency_us: the median time of one example in microseconds on this
            machine, a dictionary from the number of threads; empty if the file
            was not run.
        sample_shape: the shape of that example, a tuple, or for several
            inputs a dictionary of tuples by their names; `None` if the file
            was not run.
        max_difference: the largest absolute difference between outputs of the
            file and of the model (of integers the share of those that
            differ), or `None` if the file was not run. For a model of half
            precision it is that from the same model in float32.
        precision_difference: the largest absolute difference that computing
            in float32 makes to a model of half precision; `None` for other
            models, and if the file was not run.
        states: the names of the states of a streaming file, a tuple.
        float_ops: the operations of an `"int8"` or `"int16x8"` file that
            compute in floats, a tuple of strings with the names of their
            layers; `None` for other files, and if the file was not run.
        kept: the layers whose weights stay floats although a rule of
            `quantization` says otherwise, with the reasons, a tuple of
            strings.
        top1_agreement: the share of predictions (argmaxes over the last axis)
            in which file and model agree; `None` for outputs without classes,
            and if the file was not run.
        micro: for `target="micro"` what a microcontroller needs to know, a
            `MicroFile`; else `None`.
    """

    path: str
    quantization: str | dict | None
    bytes: int
    gzip_bytes: int
    latency_us: dict
    sample_shape: tuple | dict | None
    max_difference: float | None
    precision_difference: float | None
    top1_agreement: float | None
    states: tuple = ()
    float_ops: tuple | None = None
    micro: MicroFile | None = None
    kept: tuple = ()

    def __str__(self):
        lines = [
            f"{self.path}: {self.bytes:,} bytes, {self.gzip_bytes:,} after "
            f"gzip, {label_of(self.quantization)}"
        ]
        for threads, microseconds in self.latency_us.items():
            lines.append(
                f"  {microseconds:.1f} us for one example of shape "
                f"{self.sample_shape} on {threads} "
                f"thread{'s' if threads > 1 else ''}"
            )
        if self.max_difference is not None:
            lines.append(
                f"  largest difference from the model {self.max_difference:.2g}"
            )
        if self.precision_difference is not None:
            lines.append(
                "  computes in float32 where the model has half precision, "
                "which changes its outputs by up to "
                f"{self.precision_difference:.2g}"
            )
        if self.float_ops:
            lines.append(f"  computes in floats: {', '.join(self.float_ops)}")
        for one in self.kept:
            lines.append(f"  stays in floats: {one}")
        if self.states:
            lines.append(f"  makes one step, with {', '.join(self.states)}")
        if self.micro is not None:
            lines.append(str(self.micro))
        if self.top1_agreement is not None:
            lines.append(
                f"  same prediction as the model for "
                f"{100 * self.top1_agreement:.2f} % of the examples"
            )
        return "\n".join(lines)
