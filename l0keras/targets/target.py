import dataclasses
import math
import numbers
import re

import keras

OF = ("params", "macs", "units", "bytes", "latency")
# Those that are measured on a LiteRT file.
OF_FILES = ("bytes", "latency")


@keras.saving.register_keras_serializable("l0keras")
@dataclasses.dataclass(frozen=True)
class Target:
    """A size that a model is asked to have at most.

    | of | what it counts |
    | --- | --- |
    | `"params"` | weights, as `count_params` does |
    | `"macs"` | multiply-accumulates of one example, see `count_macs` |
    | `"units"` | channels that can be cut, see `channel_groups` |
    | `"bytes"` | the size of the LiteRT file, see `export_tflite` |
    | `"latency"` | microseconds of one example with that file, one thread |

    Args:
        of: a row of the table above.
        share: the part of the dense model's size, a number in (0, 1].
        at_most: the size itself, a number above 0. Exactly one of `share` and
            `at_most` is given.
        where: a regular expression, searched for in the names of layers: the
            target is about the layers that it finds alone. `None` for all.
            Files are weighed and timed as a whole.
        each: whether each of these layers has to reach the target by itself,
            instead of all of them together; not for files.
        quantization: for `"bytes"` and `"latency"`, the way that the file's
            numbers are written, see `export_tflite`.

    Raises:
        ValueError: an argument is not as above.

    Example:

    >>> Target("macs", 0.25)
    Target('macs', share=0.25)
    >>> Target("bytes", at_most=50_000, quantization="int8")
    Target('bytes', at_most=50000, quantization='int8')
    """

    of: str
    share: float | None = None
    at_most: float | None = None
    _: dataclasses.KW_ONLY
    where: str | None = None
    each: bool = False
    quantization: str | None = None

    def __post_init__(self):
        if not isinstance(self.of, str) or self.of not in OF:
            raise ValueError(
                f"Argument `of` must be one of {OF}. Received: of={self.of!r}"
            )
        if (self.share is None) == (self.at_most is None):
            raise ValueError(
                "Exactly one of the arguments `share` and `at_most` must be "
                f"given. Received: share={self.share!r}, "
                f"at_most={self.at_most!r}"
            )
        if self.share is not None:
            self._set("share", _share(self.share))
        if self.at_most is not None:
            self._set("at_most", _at_most(self.at_most))
        _check_where(self.where)
        if not isinstance(self.each, bool):
            raise ValueError(
                "Argument `each` must be True or False. "
                f"Received: each={self.each!r}"
            )
        self._check_file()

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def _check_file(self):
        if self.of in OF_FILES:
            if self.where is not None or self.each:
                raise ValueError(
                    "Arguments `where` and `each` must be None and False for "
                    f"of={self.of!r}: a file is weighed and timed as a whole. "
                    f"Received: where={self.where!r}, each={self.each}"
                )
            if isinstance(self.quantization, dict):
                raise ValueError(
                    "Argument `quantization` must be a name or None: sizes "
                    "under rules for layers are not known before there is a "
                    f"file. Received: quantization={self.quantization!r}"
                )
            # Training needs targets, but no files.
            from l0keras.export import check_quantization

            check_quantization(self.quantization, sparse_encoding=False)
        elif self.quantization is not None:
            raise ValueError(
                f"Argument `quantization` must be None for of={self.of!r}: "
                f"only {' and '.join(map(repr, OF_FILES))} are sizes of a "
                f"file. Received: quantization={self.quantization!r}"
            )

    @property
    def about(self):
        """All but the number: two targets about the same contradict."""
        return self.of, self.where, self.each, self.quantization

    @property
    def needs_ranges(self) -> bool:
        """Whether the file chooses ranges of tensors by examples."""
        if self.of not in OF_FILES:
            return False
        # Training needs targets, but no files.
        from l0keras.export import QUANTIZATIONS

        return QUANTIZATIONS[self.quantization].needs_data

    def limit(self, dense: float) -> float:
        """The largest size that reaches the target.

        Args:
            dense: the size of the dense model, or of the layer.

        Returns:
            A number in the unit of `dense`.
        """
        return self.at_most if self.share is None else self.share * dense

    def absolute(self, dense: float | dict[str, float]) -> list[tuple]:
        """The target with numbers in the place of shares.

        Args:
            dense: the size of the dense model, or for `each` those of its
                layers, as `size_of` gives them.

        Returns:
            A list of pairs of a target with `at_most` and the size of the
            dense model that it is about; with `each` one for each layer.
        """
        sizes = {self.where: dense}
        if self.each:
            sizes = {f"^{re.escape(name)}$": n for name, n in dense.items()}
        return [
            (
                dataclasses.replace(
                    self,
                    share=None,
                    at_most=self.limit(size),
                    where=where,
                    each=False,
                ),
                size,
            )
            for where, size in sizes.items()
        ]

    def __repr__(self):
        given = [repr(self.of)]
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                given.append(f"{field.name}={value!r}")
        return f"Target({', '.join(given)})"

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def size_text(of, size) -> str:
    """A size with its unit, such as "1.13 us".

    Args:
        of: as of `Target`.
        size: a number.
    """
    digits = 0 if size == int(size) or size >= 100 else 2
    return f"{size:,.{digits}f} {'us' if of == 'latency' else of}"


def as_targets(target) -> list[Target]:
    """Makes a list of one target or several.

    Args:
        target: a `Target`, or a list of them.

    Returns:
        A list of `Target`s in the given order.

    Raises:
        ValueError: something else, an empty list, or two targets about the
            same.
    """
    several = isinstance(target, (list, tuple))
    targets = list(target) if several else [target]
    if not targets or not all(isinstance(one, Target) for one in targets):
        raise ValueError(
            "Argument `target` must be an l0keras.targets.Target or a list of "
            f"at least one. Received: target={target!r}"
        )
    first = {}
    for one in targets:
        if one.about in first:
            other = first[one.about]
            raise ValueError(
                "Argument `target` must have one target at most for the same "
                "size of the same layers; others contradict or repeat it. "
                f"Received: {other!r} and {one!r}"
            )
        first[one.about] = one
    return targets


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _share(share):
    if not _is_number(share) or not 0 < share <= 1:
        raise ValueError(
            "Argument `share` must be a number in (0, 1]. "
            f"Received: share={share!r}"
        )
    return float(share)


def _at_most(number):
    if not _is_number(number) or not 0 < number < math.inf:
        raise ValueError(
            "Argument `at_most` must be a finite number above 0. "
            f"Received: at_most={number!r}"
        )
    whole = isinstance(number, numbers.Integral)
    return int(number) if whole else float(number)


def _check_where(where):
    if where is None:
        return
    try:
        if not isinstance(where, str):
            raise TypeError("not a string")
        re.compile(where)
    except (re.error, TypeError) as error:
        raise ValueError(
            "Argument `where` must be a regular expression or None. "
            f"Received: where={where!r}, {error}"
        ) from None
