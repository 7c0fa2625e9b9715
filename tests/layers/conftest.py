import keras

from tests import covering

POLICIES = ("mixed_float16", "mixed_bfloat16", "bfloat16", "float64")


def variants_of(cls):
    """Those of the class, on JAX half of them.

    It compiles every operation anew for each shape.
    """
    if keras.backend.backend() == "jax":
        return cls.variants[::2]
    return cls.variants


def named(variant):
    arguments, _ = variant
    return ",".join(f"{k}={v}" for k, v in arguments.items()) or "plain"


def precisions(cls):
    """Any two of policies, granularities and who shares a sample."""
    rows = covering.pairs(
        POLICIES, list(cls.granularities), ["batch", "example"]
    )
    possible = []
    for policy, granularity, sample_per in rows:
        if granularity not in cls.per_example:
            sample_per = "batch"
        # JAX computes in float32 unless its process is told not to.
        if keras.backend.backend() != "jax" or policy != "float64":
            possible.append((policy, granularity, sample_per))
    return possible


def pytest_generate_tests(metafunc):
    cls = metafunc.cls
    if cls is None:
        return
    names = set(metafunc.fixturenames)
    if metafunc.definition.get_closest_marker("singles"):
        rows = covering.singles(variants_of(cls), cls.granularities)
        metafunc.parametrize(
            "variant, granularity",
            rows,
            ids=[f"{named(variant)}-{name}" for variant, name in rows],
        )
    elif {"policy", "granularity", "sample_per"} <= names:
        metafunc.parametrize("policy, granularity, sample_per", precisions(cls))
    else:
        if "variant" in names:
            metafunc.parametrize("variant", variants_of(cls), ids=named)
        if "granularity" in names:
            metafunc.parametrize("granularity", cls.granularities)
        if "per_example" in names:
            metafunc.parametrize("per_example", cls.per_example)
