"""Products with a sparse kernel, forwards and backwards in O(connections)."""

import keras
from keras import ops

# How many products one piece of the kernel's gradient has: both factors stay
# in a core's cache.
_PIECE = 1 << 18


def sparse_matmul(inputs, values, positions, shape):
    """`inputs @ kernel` for a kernel that is 0 except at some positions.

    On TensorFlow by compressed sparse rows, which is several times faster
    than what can be said with `keras.ops`; on other backends by gathering
    inputs and adding up what belongs to an output.

    Args:
        inputs: `(batch, rows)`, float.
        values: `(connections,)` of the same dtype.
        positions: int32 `(connections,)`, ascending: row * columns + column.
        shape: `(rows, columns)` of the kernel.

    Returns:
        `(batch, columns)` of the same dtype. Neither it nor its gradients
        make an array of the kernel's shape.
    """
    if keras.backend.backend() != "tensorflow":
        rows, columns = positions // shape[1], positions % shape[1]
        products = ops.take(ops.transpose(inputs), rows, axis=0)
        products = products * ops.expand_dims(values, 1)
        return ops.transpose(ops.segment_sum(products, columns, shape[1]))
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    if dtype in ("float32", "float64"):
        return _csr_matmul(inputs, values, positions, shape)
    # There are no sparse rows of half precision.
    inputs, values = ops.cast(inputs, "float32"), ops.cast(values, "float32")
    return ops.cast(_csr_matmul(inputs, values, positions, shape), dtype)


def _csr_matmul(inputs, values, positions, shape):
    import tensorflow as tf
    from tensorflow.python.ops.linalg.sparse import sparse_csr_matrix_ops

    def kernel_times(values, factor, transposed):
        wide = tf.cast(positions, "int64")
        indices = tf.stack([wide // shape[1], wide % shape[1]], axis=1)
        kernel = sparse_csr_matrix_ops.sparse_tensor_to_csr_sparse_matrix(
            indices, values, shape
        )
        product = sparse_csr_matrix_ops.sparse_matrix_mat_mul(
            kernel, tf.transpose(factor), transpose_a=transposed
        )
        return tf.transpose(product)

    @tf.custom_gradient
    def product(inputs, values):
        def grad(upstream):
            d_inputs = kernel_times(values, upstream, transposed=False)
            d_inputs = tf.ensure_shape(d_inputs, inputs.shape)
            return d_inputs, _d_values(inputs, upstream, positions, shape)

        return kernel_times(values, inputs, transposed=True), grad

    # A custom gradient may not read a variable itself.
    outputs = product(inputs, tf.convert_to_tensor(values))
    return tf.ensure_shape(outputs, (inputs.shape[0], shape[1]))


def _d_values(inputs, upstream, positions, shape):
    """For each connection, its input times its output's gradient, summed."""
    import tensorflow as tf

    inputs, upstream = tf.transpose(inputs), tf.transpose(upstream)
    count = positions.shape[0]
    # Gathering all at once would take a row of the batch per connection.
    length = tf.maximum(_PIECE // tf.maximum(tf.shape(inputs)[1], 1), 1)
    pieces = (count + length - 1) // length

    def piece(index, found):
        start = index * length
        own = positions[start : start + length]
        left = tf.gather(inputs, own // shape[1])
        right = tf.gather(upstream, own % shape[1])
        sums = tf.reduce_sum(left * right, axis=1)
        return index + 1, found.write(index, sums)

    found = tf.TensorArray(
        inputs.dtype, pieces, infer_shape=False, element_shape=(None,)
    )
    _, found = tf.while_loop(
        lambda index, _: index < pieces, piece, (tf.constant(0), found)
    )
    return tf.ensure_shape(found.concat(), (count,))
