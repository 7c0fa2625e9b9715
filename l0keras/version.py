"""The version, said once: `setup.cfg` and `l0keras.__version__` read it."""

__version__ = "0.2.0"
