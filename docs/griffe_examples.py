"""Examples of docstrings as code on the pages of the API."""

import re

import griffe

# Keras, and so this library, writes an example last and does not indent it.
EXAMPLE = re.compile(r"\nExample:\n(.*)\Z", re.DOTALL)


class Examples(griffe.Extension):
    """Reads the section "Example:" as griffe's own section "Examples:"."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(_section, obj.docstring.value)


def _section(match):
    lines = match[1].splitlines()
    indented = [f"    {line}".rstrip() for line in lines]
    return "\nExamples:\n" + "\n".join(indented).replace("\n", "", 1)
