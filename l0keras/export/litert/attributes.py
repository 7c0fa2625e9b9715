import contextlib


@contextlib.contextmanager
def attributes(changes):
    """Gives objects other attributes, in a block.

    Args:
        changes: a list of triples of an object, the name of an attribute and
            its value. Keras tracks none of these values.
    """
    saved = []
    try:
        for thing, name, value in changes:
            saved.append((vars(thing), name, name in vars(thing)))
            saved[-1] += (vars(thing).get(name),)
            vars(thing)[name] = value
        yield
    finally:
        for own, name, known, old in reversed(saved):
            if known:
                own[name] = old
            else:
                del own[name]
