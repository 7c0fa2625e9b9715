"""The flags of `l0keras`, without any import that takes long.

`argparse`: absl has no subcommands with flags of their own.
"""

import argparse
import fractions
import math
import os

from l0keras.version import __version__

PROGRAM = "l0keras"
QUANTIZATIONS = ("float32", "float16", "dynamic", "int8", "int16x8")
# In the order of the table at the end.
TARGETS = {
    "params": "weights",
    "macs": "multiply-accumulates of one example",
    "units": "channels that can be cut",
    "bytes": "bytes of the LiteRT file",
    "latency": "microseconds of one example, with the LiteRT file",
}
_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


class _Parser(argparse.ArgumentParser):
    """A parser whose help has that of its subcommands."""

    commands = None

    def format_help(self):
        texts = [super().format_help()]
        if self.commands is not None:
            texts += [
                f"\n{parser.format_help()}"
                for parser in self.commands.choices.values()
            ]
        return "".join(texts)


def parse(argv=None):
    """Parses the words of a command line.

    Args:
        argv: a list of strings; those of this process if `None`.

    Returns:
        An object with a value for each flag, and the name of the subcommand
        as `command`.

    Raises:
        SystemExit: they are no command line (code 2), or ask for help or for
            the version (code 0).
    """
    parser = make_parser()
    values = parser.parse_args(argv)
    if values.command is None:
        parser.error(f"give a command: {', '.join(parser.commands.choices)}")
    return values


def make_parser():
    """The parser of the command line, an `argparse.ArgumentParser`."""
    parser = _parser(
        prog=PROGRAM,
        description="Makes Keras models smaller, and shows what came of it.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"{PROGRAM} {__version__}",
        help="Prints the version and ends.",
    )
    parser.commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", parser_class=_parser
    )
    _add_compress(parser.commands)
    _add_strip(parser.commands)
    _add_report(parser.commands)
    _add_export(parser.commands)
    return parser


def _parser(**kwargs):
    kwargs.setdefault("formatter_class", _Formatter)
    # A flag that is added later must not change what a shorter name means.
    return _Parser(allow_abbrev=False, **kwargs)


class _Formatter(argparse.HelpFormatter):
    """Flags as `--name=VALUE`, with their defaults."""

    def __init__(self, prog):
        super().__init__(prog, max_help_position=28, width=80)

    def _format_action_invocation(self, action):
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, action.dest.upper())
        return ", ".join(f"{name}={value}" for name in action.option_strings)

    def _get_help_string(self, action):
        default = action.default
        if default in (None, argparse.SUPPRESS, []) or default is False:
            return action.help
        return f"{action.help} Default: {action.default}."


def _add_command(commands, name, description):
    parser = commands.add_parser(
        name, help=description, description=description
    )
    parser.add_argument(
        "model", type=_path, metavar="MODEL", help="The .keras file."
    )
    return parser


def _add_compress(commands):
    parser = _add_command(
        commands,
        "compress",
        "Trains a model to the size that is asked for, and writes it.",
    )
    group = parser.add_argument_group(
        "size (at least one)",
        "A share of the model's size, such as 0.25 or 25%, or a size above 1, "
        "such as 50000 or 50k.",
    )
    for name, what in TARGETS.items():
        group.add_argument(
            f"--target_{name}",
            type=size,
            metavar="SIZE",
            help=f"Largest number of {what}.",
        )
    _add_output(parser, ".keras or .tflite", several=True)
    _add_tflite(parser)
    _add_data(parser)
    group = parser.add_argument_group("training")
    group.add_argument(
        "--epochs",
        type=_whole(2),
        default=20,
        metavar="N",
        help="Epochs of training in all: half of them for the gates, half for "
        "the small model.",
    )
    group.add_argument(
        "--teacher",
        choices=("none", "self"),
        default="none",
        help="self: the small model also learns from the outputs of MODEL.",
    )
    group.add_argument(
        "--loss",
        metavar="NAME",
        help="Loss of Keras, in the place of the one that MODEL was compiled "
        "with.",
    )
    group.add_argument(
        "--optimizer", metavar="NAME", help="Optimizer of Keras, likewise."
    )
    group.add_argument(
        "--learning_rate",
        type=_above(0),
        metavar="RATE",
        help="Learning rate of the optimizer, likewise.",
    )
    group.add_argument(
        "--backup_dir",
        type=_path,
        metavar="FOLDER",
        help="Where the state of the training is kept: the same command goes "
        "on after a stop. It is removed at the end.",
    )
    group.add_argument(
        "--seed",
        type=_whole(0),
        default=0,
        metavar="N",
        help="Seed of the training and of the share that is held out.",
    )
    _add_model(parser)


def _add_strip(commands):
    parser = _add_command(
        commands, "strip", "Cuts what closed gates and zeros leave idle."
    )
    _add_output(parser, ".keras")
    parser.add_argument(
        "--min_units",
        type=_whole(1),
        default=1,
        metavar="N",
        help="Least number of units that a layer keeps.",
    )
    parser.add_argument(
        "--round_to",
        type=_whole(1),
        metavar="N",
        help="Widths are rounded up to multiples of this.",
    )
    _add_model(parser)


def _add_report(commands):
    parser = _add_command(
        commands,
        "report",
        "Lists sizes layer by layer, what was cut, and why the rest stays.",
    )
    parser.add_argument(
        "other",
        nargs="?",
        type=_path,
        metavar="OTHER",
        help="The .keras file of the stripped model. Without it, the report "
        "is of what strip would cut now.",
    )
    _add_report_file(parser)
    _add_model(parser)


def _add_export(commands):
    parser = _add_command(
        commands, "export", "Writes a LiteRT file and checks it by running it."
    )
    # Data are read as those to train with, but nothing is trained.
    parser.set_defaults(seed=0, loss=None)
    _add_output(parser, ".tflite")
    _add_tflite(parser)
    parser.add_argument(
        "--sparse_encoding",
        action="store_true",
        help="Leaves out zero weights, for float32 files of models with "
        "single zeros that strip cannot cut.",
    )
    parser.add_argument(
        "--fixed_batch_size",
        type=_whole(1),
        metavar="N",
        help="Batch size of the file; any if unset. Microcontrollers need 1.",
    )
    parser.add_argument(
        "--integer_only",
        action="store_true",
        help="Refuses an int8 or int16x8 file with operations in floats.",
    )
    parser.add_argument(
        "--target",
        choices=["micro"],
        help="micro: a file for TensorFlow Lite for Microcontrollers, run with "
        "it; prints the operations to register and the arena.",
    )
    parser.add_argument(
        "--c_array",
        type=_path,
        metavar="FILE",
        help="C++ array of the file for --target=micro, .cc, with a header.",
    )
    _add_data(parser)
    _add_model(parser)


def _add_output(parser, endings, several=False):
    group = parser.add_argument_group("files that are written")
    more = "; may be given twice, once for each" if several else ""
    group.add_argument(
        "--output",
        action="append",
        type=_path,
        metavar="FILE",
        help=f"File to write, {endings}{more}.",
    )
    _add_report_file(group)


def _add_report_file(parser):
    parser.add_argument(
        "--report",
        type=_path,
        metavar="FILE",
        help="JSON file for all numbers.",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="Replaces files of these names.",
    )


def _add_tflite(parser):
    parser.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        default="float32",
        help="How the numbers of a .tflite file are written. int8 and int16x8 "
        "need data.",
    )


def _add_data(parser):
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=_path,
        metavar="DATA",
        help="A folder with a folder of images for each class; an .npz file "
        "with x and y (or x_train and y_train), and x_test and y_test if it "
        "has them; or a name of tensorflow_datasets.",
    )
    group.add_argument(
        "--validation_data",
        type=_path,
        metavar="DATA",
        help="Folder or .npz file with the examples that accuracy is measured "
        "on.",
    )
    group.add_argument(
        "--validation_split",
        type=_share,
        metavar="SHARE",
        help="Share of --data that is held out for that if there is none. "
        "Default: 0.2.",
    )
    group.add_argument(
        "--data_dir",
        type=_path,
        metavar="FOLDER",
        help="Where tensorflow_datasets keeps its data.",
    )
    group.add_argument(
        "--rescale",
        type=number,
        metavar="FACTOR",
        help="Factor for all inputs, such as 1/255; 1 leaves them as they are "
        "in the data.",
    )
    group.add_argument(
        "--offset",
        type=number,
        default=0.0,
        metavar="NUMBER",
        help="Number that is added then.",
    )
    group.add_argument(
        "--image_size",
        type=_whole(1),
        metavar="N",
        help="Height and width of images, for models that take any.",
    )
    group.add_argument(
        "--classes",
        type=lambda text: text.split(","),
        metavar="A,B,...",
        help="Names of the folders in the order of the model's outputs. The "
        "order of the alphabet if unset.",
    )
    group.add_argument(
        "--batch_size",
        type=_whole(1),
        default=32,
        metavar="N",
        help="Examples in a batch.",
    )


def _add_model(parser):
    group = parser.add_argument_group("the model's file")
    group.add_argument(
        "--custom_objects",
        action="append",
        default=[],
        type=_path,
        metavar="MODULE",
        help="Module, or .py file, with layers, losses and functions that the "
        "file names; may be given several times.",
    )
    group.add_argument(
        "--unsafe",
        action="store_true",
        help="Runs code that the file brings along, such as that of Lambda "
        "layers. For files that you trust.",
    )
    group.add_argument(
        "--debug", action="store_true", help="Shows where errors come from."
    )


# Shells leave `--data=~/images` as it is.
_path = os.path.expanduser


def number(text):
    """A number such as `0.5`, `-1` or `1/255`."""
    top, slash, bottom = text.partition("/")
    try:
        value = float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(
            f"must be a number such as 0.5 or 1/255. Received: {text!r}"
        )
    return value


def size(text):
    """A share, such as `0.25` or `25%`, or a number above 1, such as `50k`.

    Returns:
        A float; shares are those up to 1.
    """
    factor = _UNITS.get(text[-1:], 1)
    if text.endswith("%"):
        factor = fractions.Fraction(1, 100)
    digits = text if factor == 1 else text[:-1]
    try:
        value = float(fractions.Fraction(digits) * fractions.Fraction(factor))
    except (ValueError, ZeroDivisionError, OverflowError):
        value = math.nan
    if not 0 < value < math.inf or (text.endswith("%") and value > 1):
        raise argparse.ArgumentTypeError(
            "must be a share in (0, 1], such as 0.25 or 25%, or a number above "
            f"1, such as 50000 or 50k. Received: {text!r}"
        )
    return value


def _above(least):
    def parse(text):
        value = number(text)
        if value <= least:
            raise argparse.ArgumentTypeError(
                f"must be above {least}. Received: {text!r}"
            )
        return value

    return parse


def _share(text):
    value = number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(
            f"must be between 0 and 1. Received: {text!r}"
        )
    return value


def _whole(least):
    def parse(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"must be an integer of at least {least}. Received: {text!r}"
            )
        return int(text)

    return parse


def quantization_of(values):
    """The quantization as `export_tflite` names it."""
    mode = values.quantization
    return None if mode == "float32" else mode
