import base64
import logging
import re
import zlib

import keras
import numpy as np
from keras import ops

from l0keras.connections.arguments import check_regex
from l0keras.connections.initial_connections import values_of
from l0keras.connections.sparse_variables import is_kernel
from l0keras.optimizers.penalized_groups import find_variable
from l0keras.optimizers.wrapped_optimizer import WrappedOptimizer
from l0keras.regularizers.weight_groups import is_same_path

_log = logging.getLogger(__name__)


@keras.saving.register_keras_serializable("l0keras")
class HoldZeros(WrappedOptimizer):
    """Trains a model that was pruned: weights that are 0 stay 0.

    Wraps any optimizer and works on any Keras model, whoever made its zeros.
    One step:

    1. The inner optimizer gets gradients that are 0 for the held weights, so
       its moments of them stay as they are before the first step (but those
       of `Adafactor`, which are of rows and columns). Norms that it clips by
       are those of the other weights.
    2. Held weights are set to 0 again: constraints and optimizers that mix
       the gradients of a matrix, such as `Muon`, would move them. So their
       averages are 0, too.

    The masks are part of the optimizer's state: they are saved with it, and a
    loaded model goes on with the same ones. They are drawn up when the
    optimizer is built, and not looked at again; weights that become 0 later
    are free to move. The model itself stays as it is.

    Args:
        inner: a `keras.optimizers.Optimizer` that is not yet built. It brings
            its momenta, schedule, weight decay, clipping and gradient
            accumulation.
        rules: a dictionary from regular expressions to booleans: whether the
            zeros of a trainable variable are held. The first expression that
            is found in a variable's `path` (by `re.search`) applies; without
            one, kernels are held and other variables are not. Kernels have
            `kernel` in their name and at least two axes.
        masks: a dictionary from the paths of trainable variables, with or
            without the name of the model, to boolean arrays of their shapes:
            `True` where a weight is trained. Weights at `False` become 0. Only
            these variables are held then, instead of those of `rules`. `None`
            to take the masks from the zeros.
        name: a string, or `None`.
        use_ema, ema_momentum: as in every Keras optimizer.

    Raises:
        ValueError: an argument is not as above. On build: a rule or a path
            finds no variable, a mask has another shape, or no weight is held.

    Example:

    >>> model.compile(HoldZeros(keras.optimizers.Adam(1e-4)), loss="mse")
    >>> model.fit(images, labels)
    >>> model.optimizer.held_shares()
    """

    def __init__(
        self,
        inner,
        rules=None,
        masks=None,
        name=None,
        use_ema=False,
        ema_momentum=0.99,
    ):
        rules = _checked_rules(rules)
        masks = _checked_masks(masks)
        if rules and masks is not None:
            raise ValueError(
                "Argument `rules` must be None where `masks` say what is "
                f"held. Received: rules={rules}"
            )
        super().__init__(inner, name, use_ema, ema_momentum)
        self.rules = rules
        self._given = masks
        # Whether the zeros of the model may come later, from a file.
        self._restored = False
        self._masks = []

    # === State ===

    def _build_sparse(self, variables):
        masks = {}
        if self._given is None:
            for variable in _chosen(variables, self.rules):
                masks[id(variable)] = values_of(variable) != 0
        else:
            for path, mask in self._given.items():
                variable = find_variable("masks", path, variables)
                _check_fits(variable, mask)
                masks[id(variable)] = mask
        if all(map(np.all, masks.values())) and not self._restored:
            raise ValueError(
                "The model must have weights that are 0, in a variable whose "
                "zeros are held: prune it before it is trained, or give "
                "`masks`. Received: no zeros in "
                f"{[v.path for v in variables if id(v) in masks]}"
            )
        # One entry for each variable, as the lists of other optimizers have.
        self._masks = [
            self._mask(variable, masks[id(variable)])
            if id(variable) in masks
            else None
            for variable in variables
        ]
        held = sum(np.size(m) - np.count_nonzero(m) for m in masks.values())
        total = sum(map(np.size, masks.values()))
        _log.info("%d of %d weights are held at 0.", held, total)

    def _mask(self, variable, mask):
        own = self.add_variable(
            variable.shape,
            "zeros",
            "bool",
            name=f"{variable.path.replace('/', '_')}_mask",
        )
        own.assign(mask)
        if self._given is not None:
            variable.assign(np.where(mask, values_of(variable), 0))
        return own

    def for_parts(self, parts):
        """A new optimizer like this one, for what is left of the variables.

        Args:
            parts: see `WeightGroups.of_parts`.
        """
        config = self.get_config()
        if self._given is not None:
            masks = {}
            for path, mask in self._given.items():
                [(_, left)] = [
                    part
                    for own, part in parts.items()
                    if is_same_path(path, own)
                ]
                masks[path] = mask if left is None else mask.reshape(-1)[left]
            config["masks"] = pack_masks(
                {p: m for p, m in masks.items() if m.size}
            )
        return type(self).from_config(config)

    # === Steps ===

    def _prepared(self, grads, variables):
        masks = dict(
            zip(map(self._var_key, self._trainable_variables), self._masks)
        )
        return [
            _masked(g, mask)
            if (mask := masks[self._var_key(v)]) is not None
            else g
            for g, v in zip(grads, variables)
        ]

    def _correct(self, learning_rate, is_step):
        for variable, mask in zip(self._trainable_variables, self._masks):
            if mask is not None:
                variable.assign(_masked(variable, mask))

    # === Reading the masks ===

    def masks(self):
        """Which weights are trained.

        Returns:
            A dictionary from the path of each variable whose zeros are held
            to a boolean array of its shape, `False` where it is held at 0.

        Raises:
            ValueError: the optimizer is not built.
        """
        self._check_built()
        return {
            variable.path: np.array(ops.convert_to_numpy(mask))
            for variable, mask in zip(self._trainable_variables, self._masks)
            if mask is not None
        }

    def zeros_for_good(self):
        return {path: ~mask for path, mask in self.masks().items()}

    def held_shares(self):
        """The share of weights held at 0, by path, see `masks`."""
        return {
            path: 1 - float(np.mean(mask))
            for path, mask in self.masks().items()
        }

    def get_config(self):
        return {
            **super().get_config(),
            "rules": self.rules,
            "masks": pack_masks(self._given),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = {**config, "masks": unpack_masks(config["masks"])}
        optimizer = super().from_config(config, custom_objects)
        optimizer._restored = True
        return optimizer


def _masked(tensor, mask):
    tensor = ops.convert_to_tensor(tensor)
    zero = ops.zeros((), tensor.dtype)
    return ops.where(ops.convert_to_tensor(mask), tensor, zero)


def _chosen(variables, rules):
    found, used = [], set()
    for variable in variables:
        regex = next(
            (r for r in rules or () if re.search(r, variable.path)), None
        )
        used.add(regex)
        if is_kernel(variable) if regex is None else rules[regex]:
            found.append(variable)
    unused = [regex for regex in rules or () if regex not in used]
    if unused:
        raise ValueError(
            "Argument `rules` must have a trainable variable for each of its "
            f"regular expressions. Received: {unused} match none of "
            f"{[variable.path for variable in variables]}, or only variables "
            "that an earlier one takes"
        )
    return found


def _checked_rules(rules):
    if rules is None:
        return None
    if not isinstance(rules, dict) or not all(
        isinstance(choice, bool) for choice in rules.values()
    ):
        raise ValueError(
            "Argument `rules` must be a dictionary from regular expressions "
            f"to booleans. Received: rules={rules!r}"
        )
    for regex in rules:
        check_regex("rules", regex)
    return dict(rules)


def _checked_masks(masks):
    if masks is None:
        return None
    if not isinstance(masks, dict):
        raise ValueError(
            "Argument `masks` must be a dictionary from paths of variables to "
            f"boolean arrays. Received: {type(masks).__name__}"
        )
    found = {path: np.array(mask) for path, mask in masks.items()}
    for path, mask in found.items():
        if mask.dtype != bool:
            raise ValueError(
                "Argument `masks` must have boolean arrays, `True` where a "
                f"weight is trained. Received: {mask.dtype} for {path!r}"
            )
    return found


def _check_fits(variable, mask):
    if mask.shape != tuple(variable.shape):
        raise ValueError(
            "Argument `masks` must have the shapes of the variables. "
            f"Received: a mask of shape {mask.shape} for {variable.path!r} of "
            f"shape {tuple(variable.shape)}"
        )


def pack_masks(masks):
    """Masks as a configuration can have them, eight weights a byte."""
    if masks is None:
        return None
    return {
        path: [
            list(mask.shape),
            base64.b64encode(zlib.compress(np.packbits(mask))).decode("ascii"),
        ]
        for path, mask in masks.items()
    }


def unpack_masks(masks):
    """What `pack_masks` was given."""
    if masks is None:
        return None
    found = {}
    for path, (shape, text) in masks.items():
        packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), "uint8")
        bits = np.unpackbits(packed, count=int(np.prod(shape)))
        found[path] = bits.astype(bool).reshape(shape)
    return found
