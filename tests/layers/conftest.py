import keras


def pytest_generate_tests(metafunc):
    if metafunc.cls is None:
        return
    if "variant" in metafunc.fixturenames:
        variants = metafunc.cls.variants
        if keras.backend.backend() == "jax":
            # It compiles every operation anew for each shape.
            variants = variants[::2]
        ids = [
            ",".join(f"{k}={v}" for k, v in arguments.items()) or "plain"
            for arguments, _ in variants
        ]
        metafunc.parametrize("variant", variants, ids=ids)
    if "granularity" in metafunc.fixturenames:
        metafunc.parametrize("granularity", metafunc.cls.granularities)
    if "per_example" in metafunc.fixturenames:
        metafunc.parametrize("per_example", metafunc.cls.per_example)
