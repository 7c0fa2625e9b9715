"""What docs/guides/deploy.md says of a file is what is in the file."""

import json
import pathlib
import re
import shutil
import subprocess

import keras
import numpy as np
import pytest
import tree_sitter
import tree_sitter_kotlin
import tree_sitter_swift

import l0keras
from l0keras.export.litert.run_tflite import open_tflite
from l0keras.export.litert.unsupported import tflite_ops
from tests.integration import readme_test

if keras.backend.backend() != "tensorflow":
    pytest.skip("the file is of TensorFlow", allow_module_level=True)

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "deploy.md").read_text()
FOLDER = ROOT / "saved_models" / "mnist_lenet5_l0_sep"
FILE = FOLDER / "int8.tflite"
# Of what the code uses of libraries that no registry has; see the page.
DECLARATIONS = pathlib.Path(__file__).with_name("declarations")


@pytest.fixture(scope="module")
def signature():
    return l0keras.export.signature(FILE)


def block(language):
    (code,) = (code for _, code in readme_test.blocks(PAGE, language))
    return code


def test_the_table_of_tensors(signature):
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if line.startswith(("| input |", "| output |"))
    ]
    wanted = []
    for kind in ("input", "output"):
        for name, tensor in signature[f"{kind}s"].items():
            shape = ", ".join(map(str, tensor["shape"]))
            numbers = f"{tensor['scale']:.7g}", str(tensor["zero_point"])
            wanted.append([kind, name, tensor["dtype"], shape, *numbers])
    assert rows == wanted


def test_grey_values_become_integers_as_it_says(signature):
    image = signature["inputs"]["image"]
    grey = np.arange(256)
    integers = np.round(grey / 255 / image["scale"]) + image["zero_point"]
    np.testing.assert_array_equal(integers, grey - 128)


def test_files_of_the_same_network_have_the_same_names(signature):
    path = FOLDER / "model.tflite"
    assert open_tflite(path).get_signature_list()
    assert set(l0keras.export.signature(path)["inputs"]) == {"image"}
    assert set(signature["outputs"]) == {"fc2"}


@pytest.mark.parametrize("language", ["kotlin", "swift", "cpp"])
def test_snippets_name_the_tensors(language, signature):
    code = block(language)
    image, logits = signature["inputs"]["image"], signature["outputs"]["fc2"]
    scale = f"image: scale 1/{round(1 / image['scale'])}"
    assert f"{scale}, zero point {image['zero_point']}" in code
    assert "fc2: " in code and "int8" in code.lower()
    assert str(np.prod(image["shape"])) in code
    assert " - 128" in code and image["zero_point"] == -128
    assert logits["shape"] == (1, 10)


def mistakes(grammar, code):
    """What a grammar does not understand of code, as texts of the places."""
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    nodes, found = [parser.parse(code.encode()).root_node], []
    while nodes:
        node = nodes.pop()
        if node.is_error or node.is_missing:
            found.append(node.text.decode() or f"no {node.type}")
        nodes += node.children
    return found


@pytest.mark.parametrize(
    "language, grammar",
    [("kotlin", tree_sitter_kotlin), ("swift", tree_sitter_swift)],
)
def test_snippets_parse(language, grammar):
    code = block(language)
    assert mistakes(grammar, code) == []
    # A parser that takes everything shows nothing.
    assert mistakes(grammar, code.replace("class Digits", "class {", 1))
    assert mistakes(grammar, code.rstrip().removesuffix("}"))


def run_compiler(*command):
    """Runs a compiler; fails with what it says."""
    if not shutil.which(command[0]):
        pytest.skip(f"there is no {command[0]}")
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_code_for_microcontrollers_compiles(tmp_path):
    path = tmp_path / "digits.cc"
    path.write_text(block("cpp"))
    flags = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    run_compiler("g++", *flags, f"-I{DECLARATIONS / 'cpp'}", str(path))


@pytest.mark.slow
def test_the_code_for_android_compiles(tmp_path):
    path = tmp_path / "Digits.kt"
    path.write_text(block("kotlin"))
    declared = map(str, (DECLARATIONS / "kotlin").glob("*.kt"))
    output = ["-d", str(tmp_path / "classes")]
    run_compiler("kotlinc", "-Werror", str(path), *declared, *output)


def test_the_microcontroller_links_what_the_file_has():
    added = re.findall(r"resolver\.Add(\w+)\(\)", block("cpp"))
    ops = {
        op.replace("_", "").lower() for op, _ in tflite_ops(open_tflite(FILE))
    }
    assert {name.lower() for name in added} == ops
    assert f"MicroMutableOpResolver<{len(ops)}>" in block("cpp")


def test_the_arena_has_room_for_the_tensors():
    interpreter = open_tflite(FILE)
    interpreter.allocate_tensors()
    sizes = {
        tensor["index"]: int(np.prod(tensor["shape"]))
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.int8
    }
    weights = set()
    largest = 0
    made = {tensor["index"] for tensor in interpreter.get_input_details()}
    for op in interpreter._get_ops_details():
        made.update(op["outputs"])
    for op in interpreter._get_ops_details():
        live = set(op["inputs"]) | set(op["outputs"])
        weights |= live - made
        largest = max(
            largest, sum(sizes.get(index, 0) for index in live & made)
        )
    (said,) = re.findall(r"take ([\d,]+) bytes here", PAGE)
    assert int(said.replace(",", "")) == largest
    (arena,) = re.findall(r"kArenaBytes = (\d+) \* 1024", block("cpp"))
    assert int(arena) * 1024 > 2 * largest


def test_python_code_runs(tmp_path, monkeypatch, capsys):
    shutil.copy(FILE, tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    for info, code in readme_test.blocks(PAGE, "python"):
        assert not info
        exec(compile(code, "deploy.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "image" in printed and "fc2" in printed
    rng = np.random.default_rng(0)
    model = keras.saving.load_model(FOLDER / "stripped.keras")
    images = rng.integers(0, 256, (50, 28, 28)).astype("uint8")
    expected = model.predict(images[..., None] / 255.0, verbose=0)
    got = [names["classify"](image) for image in images]
    assert np.mean(got == expected.argmax(-1)) > 0.9


def test_commands_name_what_exists():
    for words in readme_test.commands(PAGE):
        readme_test.check_command(words)
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGE):
        if "://" not in target:
            assert (ROOT / "docs" / "guides" / target).resolve().exists(), (
                target
            )


def test_the_card_has_the_size():
    report = json.loads((FOLDER / "report.json").read_text())
    assert FILE.stat().st_size < report["bytes"]["tflite"] / 2
