import os
import pathlib
import re
import tempfile

_LINE = 12


def write_c_array(file, path: str | os.PathLike) -> tuple[str, str]:
    """Writes a LiteRT file as a C++ array, with its header.

    The header, of the same name with `.h`, declares a namespace of that name
    and `_model`: `kFile`, the array, aligned to 16 bytes; `kFileBytes`, its
    size; `kArenaBytes`, that of the arena; `Ops`, the type of a resolver for
    the file's operations; and `AddOps`, which adds them.

    Args:
        file: a `TFLiteFile` of `export_tflite(..., target="micro")`.
        path: the path of the array, ending in `.cc`, in a directory that
            exists.

    Returns:
        The paths of the array and of the header.

    Raises:
        ValueError: `file` is of another target or not there any more, or
            `path` is not as above.

    Example:

    >>> file = export_tflite(model, "m.tflite", "int8", x, target="micro")
    >>> write_c_array(file, "digits.cc")
    """
    if getattr(file, "micro", None) is None:
        raise ValueError(
            "Argument `file` must be what `export_tflite` returns with "
            f"`target='micro'`. Received: file={file!r}"
        )
    if not os.path.isfile(file.path):
        raise ValueError(
            "Argument `file` must be of a LiteRT file that is still there. "
            f"Received: file.path={file.path!r}"
        )
    check_c_path(path)
    path = pathlib.Path(path)
    content = pathlib.Path(file.path).read_bytes()
    space = re.sub(r"\W", "_", path.stem, flags=re.ASCII) + "_model"
    header = path.with_suffix(".h")
    _write(header, _header(space, len(content), file.micro))
    _write(path, _array(space, header.name, content))
    return str(path), str(header)


def check_c_path(path):
    """Checks the path of an array before any work.

    Raises:
        ValueError: it does not end in `.cc`, has no name that can be one of
            C++, or lies in no directory.
    """
    path = pathlib.Path(path)
    if (
        path.suffix != ".cc"
        or not re.match("[A-Za-z]", path.stem)
        or not path.parent.is_dir()
        or path.is_dir()
    ):
        raise ValueError(
            "Argument `path` of a C++ array must end in '.cc', have a name "
            "that begins with a letter and lie in a directory that exists. "
            f"Received: {str(path)!r}"
        )


def _header(space, size, micro):
    adds = " ||\n      ".join(
        f"ops.{name}() != kTfLiteOk" for name in micro.ops
    )
    return f"""#pragma once

#include <cstddef>

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace {space} {{

inline constexpr std::size_t kFileBytes = {size};
extern const unsigned char kFile[kFileBytes];

// As measured with the reference kernels and pointers of 64 bits.
inline constexpr std::size_t kArenaBytes = {micro.arena_bytes};

using Ops = tflite::MicroMutableOpResolver<{len(micro.ops)}>;

inline TfLiteStatus AddOps(Ops& ops) {{
  if ({adds}) {{
    return kTfLiteError;
  }}
  return kTfLiteOk;
}}

}}  // namespace {space}
"""


def _array(space, header, content):
    lines = []
    for start in range(0, len(content), _LINE):
        line = content[start : start + _LINE]
        lines.append("    " + " ".join(f"0x{byte:02x}," for byte in line))
    numbers = "\n".join(lines)
    return f"""#include "{header}"

namespace {space} {{

alignas(16) const unsigned char kFile[kFileBytes] = {{
{numbers}
}};

}}  // namespace {space}
"""


def _write(path, text):
    """Writes a file in one go, so that nothing half-written stays."""
    with tempfile.TemporaryDirectory(prefix=".c-", dir=path.parent) as folder:
        draft = pathlib.Path(folder, path.name)
        draft.write_text(text)
        os.replace(draft, path)
