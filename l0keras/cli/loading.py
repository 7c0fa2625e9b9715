"""Models in .keras files, with classes that are not those of Keras."""

import contextlib
import importlib
import importlib.util
import os
import re
import sys
import warnings
import zipfile

import keras


def load(path, values, name="MODEL"):
    """Loads a .keras file.

    Args:
        path: the path of the file.
        values: the flags, of which `custom_objects` and `unsafe` are read.
        name: the argument that the path came from, for the texts of errors.

    Returns:
        A `keras.Model`, compiled if the file has the settings.

    Raises:
        ValueError: the file is damaged, names classes that nobody has
            defined, or brings code along.
    """
    objects = custom_objects(values.custom_objects)
    try:
        with warnings.catch_warnings():
            # The optimizer's state, which a new training begins without.
            warnings.filterwarnings("ignore", "Skipping variable loading")
            return keras.saving.load_model(
                path, custom_objects=objects, safe_mode=not values.unsafe
            )
    except Exception as error:
        # What a damaged archive raises depends on where it is damaged.
        raise ValueError(_explained(error, path, name)) from error


def custom_objects(modules):
    """Imports modules and lists what a file may name.

    Args:
        modules: a list of names of modules or paths of .py files. Modules
            are also looked for in the current folder.

    Returns:
        A dictionary of the classes and functions of the modules. Importing
        them also registers what they register.

    Raises:
        ValueError: a module cannot be imported.
    """
    found = {}
    for name in modules:
        try:
            module = _import(name)
        except Exception as error:
            # It is code of the user's, which may raise anything.
            raise ValueError(
                "Argument `custom_objects` must be a module that can be "
                f"imported, or a .py file. Received: custom_objects={name} "
                f"({type(error).__name__}: {error})"
            ) from error
        found.update(
            {
                key: value
                for key, value in vars(module).items()
                if not key.startswith("__") and callable(value)
            }
        )
    return found


def _import(name):
    if not name.endswith(".py"):
        with _current_folder_first():
            return importlib.import_module(name)
    path = os.path.abspath(name)
    module_name = os.path.splitext(os.path.basename(path))[0]
    known = sys.modules.get(module_name)
    if known is not None and getattr(known, "__file__", None) == path:
        return known
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    with _current_folder_first(os.path.dirname(path)):
        spec.loader.exec_module(module)
    # Registering a class twice under one name would be an error.
    sys.modules.setdefault(module_name, module)
    return module


@contextlib.contextmanager
def _current_folder_first(folder=None):
    sys.path.insert(0, folder or os.getcwd())
    try:
        yield
    finally:
        sys.path.remove(folder or os.getcwd())


def _explained(error, path, name):
    text = str(error)
    # Keras says of it that there is no file.
    if path.endswith(".keras") and not zipfile.is_zipfile(path):
        return (
            f"Argument `{name}` must be a model that Keras can load, a whole "
            f"zip archive. Received: {name}={path}, which is none"
        )
    unknown = re.search(r"Could not locate (\w+) '([^']+)'", text)
    if unknown:
        return (
            f"Argument `{name}` must be a file whose classes are known. "
            f"Received: {name}={path}, with {unknown[1]} '{unknown[2]}'. "
            "--custom_objects=MODULE names the module that defines it."
        )
    if "safe_mode" in text or "unsafe" in text:
        return (
            f"Argument `{name}` must be a file without code of its own, such "
            f"as that of a Lambda layer. Received: {name}={path}. If you trust "
            "the file, --unsafe runs its code."
        )
    return (
        f"Argument `{name}` must be a model that Keras can load. "
        f"Received: {name}={path} ({type(error).__name__}: {text[:500]})"
    )
