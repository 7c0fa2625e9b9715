"""The command `l0keras`, for models and data in files."""
