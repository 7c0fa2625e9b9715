import dataclasses


@dataclasses.dataclass(frozen=True)
class MicroFile:
    """What a microcontroller needs to know of a LiteRT file.

    Attributes:
        ops: the functions of a `MicroMutableOpResolver` that add the file's
            operations, such as `"AddConv2D"`, a tuple.
        arena_bytes: the smallest arena, in bytes, in which the file loads and
            runs on the machine that wrote it, whose pointers have 64 bits;
            those of most microcontrollers have 32. Kernels other than the
            reference kernels may ask for more.
        max_steps: the largest difference from LiteRT of an output of
            integers, in steps of its scale; `None` without such outputs, and
            if the file was not run.
        max_difference: the same of outputs of floats.
    """

    ops: tuple
    arena_bytes: int
    max_steps: int | None = None
    max_difference: float | None = None

    def __str__(self):
        lines = [
            f"  arena of {self.arena_bytes:,} bytes, {len(self.ops)} "
            f"operations: {', '.join(self.ops)}"
        ]
        if self.max_steps is not None:
            lines.append(
                f"  largest difference from LiteRT {self.max_steps} "
                f"step{'' if self.max_steps == 1 else 's'}"
            )
        if self.max_difference is not None:
            lines.append(
                f"  largest difference from LiteRT {self.max_difference:.2g}"
            )
        return "\n".join(lines)
