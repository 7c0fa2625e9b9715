import dataclasses
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import l0keras
from l0keras.export import MicroFile
from l0keras.export import TFLiteFile
from l0keras.export import write_c_array

DECLARATIONS = (
    pathlib.Path(__file__).parents[2] / "integration" / "declarations" / "cpp"
)
CONTENT = bytes(range(256)) + b"\x00end"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(CONTENT)
    return TFLiteFile(
        path=str(path),
        quantization="int8",
        bytes=len(CONTENT),
        gzip_bytes=1,
        latency_us={},
        sample_shape=None,
        max_difference=None,
        precision_difference=None,
        top1_agreement=None,
        micro=MicroFile(("AddConv2D", "AddReshape"), 1234, 1),
    )


MAIN = """
#include <cstdint>
#include <cstdio>

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

// Of the library, which is not here.
template <>
TfLiteStatus tflite::MicroMutableOpResolver<2>::AddConv2D() {
  return kTfLiteOk;
}
template <>
TfLiteStatus tflite::MicroMutableOpResolver<2>::AddReshape() {
  return RESHAPE;
}

#include "9-digits.h"

int main() {
  using namespace NAME;
  Ops ops;
  bool aligned = reinterpret_cast<std::uintptr_t>(kFile) % 16 == 0;
  std::printf("%zu %d %d\\n", kArenaBytes, aligned, AddOps(ops));
  for (std::size_t i = 0; i < kFileBytes; ++i) std::printf("%d ", kFile[i]);
}
"""


@pytest.mark.parametrize("status", ["kTfLiteOk", "kTfLiteError"])
def test_what_is_compiled_has_the_file(status, file, tmp_path):
    if not shutil.which("g++"):
        pytest.skip("there is no g++")
    source, header = write_c_array(file, tmp_path / "d-9.digits.cc")
    assert header == str(tmp_path / "d-9.digits.h")
    main = MAIN.replace("9-digits.h", "d-9.digits.h")
    main = main.replace("NAME", "d_9_digits_model").replace("RESHAPE", status)
    (tmp_path / "main.cc").write_text(main)
    program = str(tmp_path / "program")
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{DECLARATIONS}"]
    subprocess.run(
        ["g++", *flags, source, tmp_path / "main.cc", "-o", program], check=True
    )
    first, numbers = subprocess.check_output(program, text=True).split("\n")
    assert first == f"1234 1 {int(status != 'kTfLiteOk')}"
    assert bytes(map(int, numbers.split())) == CONTENT
    assert re.search(r"alignas\(16\)", pathlib.Path(source).read_text())


@pytest.mark.parametrize("name", ["d.c", "no/d.cc", "9.cc", ".cc", "folder.cc"])
def test_bad_paths(name, file, tmp_path):
    (tmp_path / "folder.cc").mkdir()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ValueError, match="must end in '.cc'"):
        write_c_array(file, tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before


def test_files_of_other_targets(file, tmp_path):
    other = dataclasses.replace(file, micro=None)
    with pytest.raises(ValueError, match="`target='micro'`"):
        l0keras.export.write_c_array(other, tmp_path / "d.cc")
    os.remove(file.path)
    with pytest.raises(ValueError, match="still there"):
        write_c_array(file, tmp_path / "d.cc")
