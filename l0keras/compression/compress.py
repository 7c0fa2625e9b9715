import os
import warnings

import keras

from l0keras.callbacks import WarnOpenGates
from l0keras.callbacks import refresh_batch_norm
from l0keras.compile_settings import CompileSettings
from l0keras.compression.backup import GATES
from l0keras.compression.backup import TUNING
from l0keras.compression.backup import Backup
from l0keras.compression.compressed import Compressed
from l0keras.compression.compressed import History
from l0keras.compression.distill import check_teacher
from l0keras.compression.distill import distilled
from l0keras.compression.progress import Progress
from l0keras.compression.sizes import Sizes
from l0keras.compression.sizes import compared
from l0keras.compression.sizes import examples_for
from l0keras.compression.training_data import TrainingData
from l0keras.cutting.cut import check_reachable
from l0keras.cutting.cut import cut_to
from l0keras.cutting.cut import kept_gates
from l0keras.graph.builder import functional_copy
from l0keras.placement.sparsify import sparsify
from l0keras.reporting.report import report
from l0keras.shrinking.shrinking import Shrinking
from l0keras.stripping.plan import check_widths
from l0keras.targets import Target
from l0keras.targets import as_targets

# The share of the epochs in which the gates are trained; in the others what
# is left is trained further.
_GATES_SHARE = 0.5


def compress(
    model: keras.Model,
    x,
    y=None,
    *,
    target: Target | list[Target],
    epochs: int,
    batch_size: int | None = None,
    validation_data=None,
    validation_split: float = 0.0,
    teacher: keras.Model | str | None = None,
    teacher_share: float = 0.5,
    temperature: float = 4.0,
    sample_weight=None,
    class_weight: dict | None = None,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int = 1,
    shuffle: bool = True,
    callbacks: list | None = None,
    rules: dict | None = None,
    round_to: int | None = None,
    min_units: int = 1,
    shrink: bool = True,
    seed: int | None = None,
    backup_dir: str | os.PathLike | None = None,
    verbose: int | str = "auto",
) -> Compressed:
    """Makes a model of the size that is asked for, from a model and data.

    Half of the epochs train gates, `l0keras.sparsify(model, target=...)`. What
    they leave is cut to the size, `l0keras.cut`, the statistics of batch
    normalization are measured anew, `callbacks.refresh_batch_norm`, and the
    other half of the epochs trains the small model further.

    Both trainings have the compile settings of `model`: its optimizer made
    anew from its configuration, its loss, metrics and precision. A learning
    rate that is a plain number stays so while the gates are trained, and then
    falls to 0 along half a cosine; a schedule is taken as it is, from its
    start in both.

    Args:
        model: a compiled `keras.Model`, trained or not, as `l0keras.sparsify`
            takes it. Neither it nor its weights and its optimizer are changed.
        x, y, batch_size, validation_data, validation_split, sample_weight,
        class_weight, steps_per_epoch, validation_steps,
        validation_batch_size, validation_freq, shuffle: as in `fit`: arrays,
            tensors, a `tf.data.Dataset`, a `keras.utils.PyDataset` or a
            generator. A split is made once, for both trainings.
        target: the size, an `l0keras.targets.Target` or a list of several
            that all have to be reached.
        epochs: the number of epochs of both trainings together, at least 2.
        teacher: a model whose outputs are learned too, with the inputs and
            output shapes of `model`; `"self"` for `model` as it is; `None`
            for labels alone. See `teacher_share`.
        teacher_share: the part of the loss that is the difference from the
            teacher's outputs, in (0, 1]: for classifiers the divergence of
            softened probabilities, for other outputs the mean squared
            difference.
        temperature: what logits are divided by to soften the probabilities,
            above 0.
        callbacks: a list of `keras.callbacks.Callback` for both trainings.
            Their `model` is the one with gates first, which may be replaced by
            smaller ones, and then the small one; epochs are counted through.
        rules: which layers get gates, as in `l0keras.sparsify`.
        round_to, min_units: as in `l0keras.cut`.
        shrink: whether the model with gates is cut while it trains, where that
            saves time, see `l0keras.Shrinking`.
        seed: an integer that fixes the gates. `keras.utils.set_random_seed`
            fixes the rest.
        backup_dir: a folder for this call alone. A call that was stopped goes
            on after its last whole epoch when it is made again, with the state
            of the optimizer, the gates and all seeds of layers. A dataset with
            `steps_per_epoch` goes on where it was; other data, and what
            `callbacks` know, begin anew. At the end the folder is removed.
        verbose: 0, 1, 2 or `"auto"`, as in `fit`: a bar with the stage, the
            time left and the size; a line for each epoch; or nothing.

    Returns:
        A `Compressed` with the small model, plain and compiled as `model` is,
        and what it costs and does beside `model`. Printing it shows a table.

    Raises:
        ValueError: before any training: an argument is not as above; `model`
            is not compiled; data do not fit it, have labels out of range or
            no end; a target cannot be reached, and the message has the
            smallest size; `backup_dir` belongs to another model or to other
            arguments; or see `l0keras.sparsify`.
        callbacks.NonFiniteError: with `backup_dir`, if weights are not finite
            at the end of an epoch.
        RuntimeError: a copy differs from `model`, see `l0keras.sparsify`.

    Source: the order of the stages is that of gate-based pruning at large, as
    in CoFi (arXiv:2204.00408); distillation of Hinton, Vinyals and Dean
    (arXiv:1503.02531), section 2.

    Example:

    >>> result = l0keras.compress(
    ...     model,
    ...     images,
    ...     labels,
    ...     target=l0keras.targets.Target("macs", 0.25),
    ...     epochs=20,
    ...     validation_split=0.1,
    ... )
    >>> print(result)
    >>> result.model.save("small.keras")
    """
    targets = as_targets(target)
    _check_numbers(epochs, teacher_share, temperature, verbose)
    check_widths(min_units, round_to)
    callbacks = _checked_callbacks(callbacks)
    dense = _copy(model)
    settings = CompileSettings(model)
    data = TrainingData(
        x,
        y,
        batch_size=batch_size,
        sample_weight=sample_weight,
        class_weight=class_weight,
        steps_per_epoch=steps_per_epoch,
        validation_data=validation_data,
        validation_split=validation_split,
        validation_steps=validation_steps,
        validation_batch_size=validation_batch_size,
        validation_freq=validation_freq,
        shuffle=shuffle,
    )
    data.check(dense, settings)
    if teacher is not None:
        teacher = dense if teacher == "self" else teacher
        check_teacher(dense, teacher)
    first = min(max(1, round(_GATES_SHARE * epochs)), epochs - 1)
    arguments = {} if seed is None else {"seed": seed}
    examples = examples_for(targets, data)
    gated = sparsify(
        *(model, 0.0, rules),
        target=targets,
        steps=first * data.steps,
        representative_data=examples,
        **arguments,
    )
    sizes = Sizes(targets, dense, gated, examples)
    widths = {"min_units": min_units, "round_to": round_to}
    check_reachable(gated, examples, yardsticks=sizes.yardsticks, **widths)
    taught = {"share": teacher_share, "temperature": temperature}
    backup = Backup(
        backup_dir,
        model=dense,
        target=targets,
        epochs=epochs,
        steps_per_epoch=data.steps,
        optimizer=model.optimizer,
        loss=model.loss,
        class_weight=class_weight,
        teacher=teacher,
        teacher_share=teacher_share,
        temperature=temperature,
        rules=rules,
        seed=seed,
        shrink=shrink,
        **widths,
    )
    shrinking = Shrinking(data.steps, data.batch_size, **widths)
    progress = Progress(epochs, data.steps, verbose)
    history = History()

    def train(trained, stage, size, begin, end, more):
        progress.stage(stage, size)
        cuts = stage == GATES and shrink
        fit = shrinking.fit if cuts else _fit
        record = backup.record(stage, shrinking if cuts else None)
        trained, done = record.resume(trained)
        if not backup.is_over(stage):
            # Also after the last epoch: averages may take the place of
            # weights at the end.
            trained = fit(
                trained,
                lambda epoch: {
                    **data.fit_arguments(epoch - begin if epoch < end else 0),
                    "verbose": 0,
                },
                epochs=end,
                initial_epoch=begin + done,
                callbacks=[*callbacks, *more, progress, record],
                around=lambda one: distilled(one, teacher, settings, **taught),
            )
        history.add(stage, record.logs)
        return trained

    progress.say("Measuring the dense model")
    settings.compile(dense)
    dense_scores = data.evaluate(dense)
    settings.compile(gated)
    warn = WarnOpenGates("`epochs`", "`epochs`")
    whole = gated
    gated = train(gated, GATES, sizes.expected_now, 0, first, [warn])
    progress.say("Cutting")
    kept = backup.load_cut(gated)
    if kept is None:
        kept = kept_gates(
            *(gated, None, examples), yardsticks=sizes.yardsticks, **widths
        )
        backup.save_cut(gated, kept)
    expected = sizes.expected(gated)
    small = cut_to(gated, kept, check=True, **widths)
    refresh_batch_norm(small, data.batches())
    reached = sizes.reached(small)
    settings.compile(small, decay_steps=(epochs - first) * data.steps)
    train(small, TUNING, lambda _: sizes.text(reached), first, epochs, [])
    progress.say("Measuring the small model")
    small_scores = data.evaluate(small)
    # The learning rate is 0 now, and whoever trains on wants another one.
    settings.compile(small)
    costs = compared(dense, small)
    progress.end()
    if gated is not whole:
        # What is told of layers and gates begins with the first model.
        shrinking.fill(whole, gated)
    result = Compressed(
        model=small,
        report=report(whole, small),
        history=history,
        table={
            "targets": sizes.rows(expected, reached),
            "data": data.name,
            "dense": {**costs[0], "metrics": dense_scores},
            "small": {**costs[1], "metrics": small_scores},
        },
    )
    backup.remove()
    return result


def _fit(model, arguments, *, initial_epoch, around, **kwargs):
    """As `Shrinking.fit`, without cuts."""
    with around(model):
        model.fit(
            **arguments(initial_epoch), initial_epoch=initial_epoch, **kwargs
        )
    return model


def _check_numbers(epochs, teacher_share, temperature, verbose):
    if not isinstance(epochs, int) or epochs < 2:
        raise ValueError(
            "Argument `epochs` must be an integer of at least 2: some for the "
            "gates, and some for what they leave. "
            f"Received: epochs={epochs!r}"
        )
    if not 0 < teacher_share <= 1:
        raise ValueError(
            "Argument `teacher_share` must lie in (0, 1]. "
            f"Received: teacher_share={teacher_share}"
        )
    if not temperature > 0:
        raise ValueError(
            "Argument `temperature` must be above 0. "
            f"Received: temperature={temperature}"
        )
    if verbose not in (0, 1, 2, "auto"):
        raise ValueError(
            "Argument `verbose` must be 0, 1, 2 or 'auto'. "
            f"Received: verbose={verbose!r}"
        )


def _checked_callbacks(callbacks):
    callbacks = callbacks or []
    if isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks]
    if not isinstance(callbacks, (list, tuple)) or not all(
        isinstance(one, keras.callbacks.Callback) for one in callbacks
    ):
        raise ValueError(
            "Argument `callbacks` must be a list of keras.callbacks.Callback. "
            f"Received: callbacks={callbacks!r}"
        )
    return list(callbacks)


def _copy(model):
    """A functional copy, which may be compiled and evaluated."""
    with warnings.catch_warnings():
        # `sparsify` will say the same of its own copy.
        warnings.simplefilter("ignore")
        return functional_copy(model)
