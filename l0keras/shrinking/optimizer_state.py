"""What an optimizer knows of the variables that it has trained so far."""

import keras

from l0keras.shrinking.rebuild import part_of

# Lists of a Keras optimizer that are not about one thing of each variable.
_OTHER_LISTS = ("_variables", "_trainable_variables")


def averages_of(optimizer):
    """The averages of trained variables, by the ids of these.

    Args:
        optimizer: a `keras.optimizers.Optimizer` or `None`.

    Returns:
        A dictionary, empty for an optimizer that keeps none.
    """
    if optimizer is None or not optimizer.built:
        return {}
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not optimizer.use_ema:
        return {}
    pairs = zip(
        optimizer._trainable_variables,
        optimizer._model_variables_moving_average,
        strict=True,
    )
    return {id(v): average for v, average in pairs if average is not None}


def check_optimizer(optimizer):
    """Refuses an optimizer whose state cannot be taken over in part.

    Args:
        optimizer: a `keras.optimizers.Optimizer` that is built.

    Raises:
        NotImplementedError: a variable of the optimizer is neither a number
            nor of the shape of the variable that it is about.
    """
    for one in _all_optimizers(optimizer):
        slots = _slots(one)
        for name, own in slots.items():
            for variable, slot in zip(one._trainable_variables, own):
                if slot is not None and slot.shape != variable.shape:
                    _refuse(one, slot, f"'{name}' of '{variable.path}'")
        for variable in _others(one, slots):
            if variable.shape != () and not _is_count(one, variable):
                _refuse(one, variable, "state of its own")


def _refuse(optimizer, variable, role):
    raise NotImplementedError(
        f"Optimizer '{optimizer.name}' ({type(optimizer).__name__}) cannot go "
        f"on with a smaller model: its variable '{variable.path}', {role}, "
        f"has the shape {tuple(variable.shape)}. Only numbers and variables "
        "of the shapes of those that are trained can be cut with these."
    )


def take_over_state(new, old, origins):
    """Gives a new optimizer the state of another one, as far as it is left.

    Args:
        new: an optimizer like `old`, built for parts of its variables.
        old: an optimizer that `check_optimizer` allows.
        origins: see `Shrinker`.
    """
    pairs = zip(_all_optimizers(new), _all_optimizers(old), strict=True)
    for one, other in pairs:
        places = {id(v): i for i, v in enumerate(other._trainable_variables)}
        slots, old_slots = _slots(one), _slots(other)
        for name, own in slots.items():
            for variable, slot in zip(one._trainable_variables, own):
                if slot is None:
                    continue
                original, index = origins[id(variable)]
                source = old_slots[name][places[id(original)]]
                slot.assign(part_of(source, index))
        rest, old_rest = _others(one, slots), _others(other, old_slots)
        for variable, source in zip(rest, old_rest, strict=True):
            variable.assign(part_of(source, None))


def _all_optimizers(optimizer):
    """An optimizer and all those inside of it, from outside in."""
    inside = list(getattr(optimizer, "optimizers", ()))
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        inside = [optimizer.inner_optimizer]
    found = [optimizer]
    for one in inside:
        found.extend(_all_optimizers(one))
    return found


def _slots(optimizer):
    """Lists of an optimizer with one variable for each that it trains."""
    count = len(optimizer._trainable_variables)
    own = {id(variable) for variable in optimizer._variables}
    found = {}
    for name, value in vars(optimizer).items():
        if name in _OTHER_LISTS or not isinstance(value, (list, tuple)):
            continue
        known = [id(x) in own for x in value if x is not None]
        if len(value) == count and known and all(known):
            found[name] = list(value)
    return found


def _others(optimizer, slots):
    """The variables of an optimizer itself that are in no such list."""
    known = {id(x) for own in slots.values() for x in own}
    for one in _all_optimizers(optimizer)[1:]:
        known.update(id(variable) for variable in one._variables)
    return [v for v in optimizer._variables if id(v) not in known]


def _is_count(optimizer, variable):
    """Whether a variable has counts of groups, which stay what they are."""
    counts = getattr(optimizer, "counts", ())
    return any(variable is one for one in counts)


def copy_exclusions(new, old, origins):
    """Spares the variables of weight decay that another optimizer spares."""
    for one, other in zip(_all_optimizers(new), _all_optimizers(old)):
        if not hasattr(other, "_exclude_from_weight_decay"):
            continue
        one._exclude_from_weight_decay = {
            one._var_key(variable)
            for variable in one._trainable_variables
            if other._var_key(origins[id(variable)][0])
            in other._exclude_from_weight_decay
        }
        one._exclude_from_weight_decay_pattern = (
            other._exclude_from_weight_decay_pattern
        )
        one._exclude_from_weight_decay_cache = {}
