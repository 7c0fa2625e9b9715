"""Products with a sparse kernel, forwards and backwards in O(connections)."""

import functools

import keras
from keras import ops

from l0keras.connections.positions import gather

# How many products one piece of the kernel's gradient has: both factors stay
# in a core's cache.
_PIECE = 1 << 18


def sparse_matmul(inputs, values, positions, shape):
    """`inputs @ kernel` for a kernel that is 0 except at some positions.

    On TensorFlow by compressed sparse rows, which is several times faster
    than what can be said with `keras.ops`; on other backends example by
    example, so that a step has no array of batch * connections numbers.

    Args:
        inputs: `(batch, rows)`, float.
        values: `(connections,)` of the same dtype.
        positions: int32 `(connections,)`, ascending: row * columns + column.
        shape: `(rows, columns)` of the kernel.

    Returns:
        `(batch, columns)` of the same dtype. Neither it nor its gradients
        make an array of the kernel's shape.
    """
    product = _matmul_by_example
    if keras.backend.backend() == "tensorflow":
        product = _csr_matmul
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    if dtype in ("float32", "float64"):
        return product(inputs, values, positions, shape)
    # Half precision would add up too many roundings, and has no sparse rows.
    inputs, values = ops.cast(inputs, "float32"), ops.cast(values, "float32")
    return ops.cast(product(inputs, values, positions, shape), dtype)


def _matmul_by_example(inputs, values, positions, shape):
    rows, columns = positions // shape[1], positions % shape[1]

    def product(values, factors, read, write, size):
        constants = values, read, write
        return ops.scan(_products_of_size(size), constants, factors)[1]

    # The gradient by hand makes no array of batch * connections either.
    @ops.custom_gradient
    def matmul(inputs, values):
        def grad(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            d_inputs = product(values, upstream, columns, rows, shape[0])
            start = ops.zeros(values.shape, values.dtype), rows, columns
            (d_values, _, _), _ = ops.scan(
                _add_gradient, start, (inputs, upstream)
            )
            return d_inputs, d_values

        return product(values, inputs, rows, columns, shape[1]), grad

    # A custom gradient may not read a variable itself.
    return matmul(inputs, ops.convert_to_tensor(values))


# The same functions in all calls: JAX compiles a loop anew for another one.
@functools.lru_cache
def _products_of_size(size):
    def products(constants, factor):
        values, read, write = constants
        products = gather(factor, read) * values
        return constants, ops.segment_sum(products, write, size)

    return products


def _add_gradient(state, example):
    total, rows, columns = state
    inputs, upstream = example
    total = total + gather(inputs, rows) * gather(upstream, columns)
    return (total, rows, columns), None


def _csr_matmul(inputs, values, positions, shape):
    import tensorflow as tf
    from tensorflow.python.ops.linalg.sparse import sparse_csr_matrix_ops

    rows, columns = positions // shape[1], positions % shape[1]

    def kernel_times(values, factor, transposed):
        indices = tf.cast(tf.stack([rows, columns], axis=1), "int64")
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
            return d_inputs, _d_values(inputs, upstream, rows, columns)

        return kernel_times(values, inputs, transposed=True), grad

    # A custom gradient may not read a variable itself.
    outputs = product(inputs, tf.convert_to_tensor(values))
    return tf.ensure_shape(outputs, (inputs.shape[0], shape[1]))


def _d_values(inputs, upstream, rows, columns):
    """For each connection, its input times its output's gradient, summed."""
    import tensorflow as tf

    inputs, upstream = tf.transpose(inputs), tf.transpose(upstream)
    count = rows.shape[0]
    # Gathering all at once would take a row of the batch per connection.
    length = tf.maximum(_PIECE // tf.maximum(tf.shape(inputs)[1], 1), 1)
    pieces = (count + length - 1) // length

    def piece(index, found):
        start = index * length
        left = tf.gather(inputs, rows[start : start + length])
        right = tf.gather(upstream, columns[start : start + length])
        sums = tf.reduce_sum(left * right, axis=1)
        return index + 1, found.write(index, sums)

    found = tf.TensorArray(
        inputs.dtype, pieces, infer_shape=False, element_shape=(None,)
    )
    _, found = tf.while_loop(
        lambda index, _: index < pieces, piece, (tf.constant(0), found)
    )
    return tf.ensure_shape(found.concat(), (count,))
