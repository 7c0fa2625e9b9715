"""Loops over time in a form that LiteRT has for any number of examples."""

import keras


def inner_loop(layer):
    """A loop for a recurrent layer in the place of its own `inner_loop`.

    Keras collects steps in lists, for which the converter needs to know the
    number of examples. This loop reads each step from the sequence, and
    writes the output into a tensor.

    Args:
        layer: a `keras.layers.RNN`.

    Returns:
        A function like `keras.layers.RNN.inner_loop`, for test time.
    """

    def run(sequences, initial_state, mask, training=False):
        import tensorflow as tf

        def step(time, states):
            packed = keras.tree.pack_sequence_as(initial_state, states)
            output, new = layer.cell(tf.gather(frames, time), packed)
            return output, keras.tree.flatten(new)

        def body(count, states, last, outputs):
            time = steps - 1 - count if layer.go_backwards else count
            output, new = step(time, states)
            if masks is not None:
                is_open = tf.gather(masks, time)
                new = [where(is_open, n, s) for n, s in zip(new, states)]
                skipped = last
                if layer.zero_output_for_mask:
                    skipped = tf.zeros_like(last)
                output = where(is_open, output, skipped)
            outputs = [
                tf.tensor_scatter_nd_update(
                    old, tf.reshape(count, (1, 1)), output[None]
                )
                for old in outputs
            ]
            return count + 1, new, output, outputs

        frames = _time_first(tf.convert_to_tensor(sequences))
        masks = None if mask is None else _time_first(tf.cast(mask, tf.bool))
        steps = sequences.shape[1] or tf.shape(sequences)[1]
        examples = sequences.shape[0] or tf.shape(sequences)[0]
        states = keras.tree.flatten(initial_state)
        # Only its shape and its type stay in the file.
        first, _ = step(0, states)
        last = tf.zeros((examples, *first.shape[1:]), first.dtype)
        outputs = []
        if layer.return_sequences:
            shape = (steps, examples, *first.shape[1:])
            outputs = [tf.zeros(shape, first.dtype)]
        variables = (tf.constant(0), states, last, outputs)
        _, states, last, outputs = tf.while_loop(
            lambda count, *_: count < steps,
            body,
            variables,
            shape_invariants=keras.tree.map_structure(
                lambda x: x.shape, variables
            ),
        )
        outputs = _time_first(outputs[0]) if outputs else last[:, None]
        states = keras.tree.pack_sequence_as(initial_state, states)
        return last, outputs, states

    return run


def _time_first(x):
    """Swaps the axes of examples and of steps."""
    import tensorflow as tf

    return tf.transpose(x, (1, 0, *range(2, len(x.shape))))


def where(is_open, new, old):
    """New numbers for the examples that a mask leaves open, else the old."""
    import tensorflow as tf

    while len(is_open.shape) < len(new.shape):
        is_open = tf.expand_dims(is_open, -1)
    return tf.where(is_open, new, old)
