"""Pictures of results on the pages, from where the programs write them."""

import pathlib

from mkdocs.structure.files import File

RESULTS = pathlib.Path(__file__).parents[1] / "saved_models"


def on_files(files, config):
    """Adds `saved_models/NAME/*.png` as `pictures/NAME/*.png`."""
    for path in sorted(RESULTS.glob("*/*.png")):
        place = f"pictures/{path.parent.name}/{path.name}"
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files
