"""Connections of DEEP R: where they are, how they start and how they move.

A connection is an entry of a sparse variable that may be other than 0.

- `arguments`: the checks of arguments.
- `sparse_variables`: which variables are sparse, with how many connections.
- `positions`: indices of connections in a flattened array, and their signs.
- `seeds`: seeds of random numbers that depend on the step alone.
- `initial_connections`: the connections before the first step.
- `segments`: a vector of segments that lie one behind the other.
- `rewire`: new positions in the place of dead connections.
- `pool`: the variables that are rewired together; `masked_pool` for arrays
  with zeros in them, `storage_pool` for values in sparse storage.
"""
