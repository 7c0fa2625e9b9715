from trainers.benchmarks import measure
from trainers.benchmarks import sparse_memory


def test_a_step_needs_memory_for_its_connections_alone():
    found = measure.in_a_process(sparse_memory.measure, 1)
    assert found["connections"] == round(1e-4 * 32_768**2)
    # The full kernel alone has 4.3 GB; a backend needs some for a first step.
    assert 0 < found["after"] - found["before"] < 200e6
