import gc

from hypothesis import HealthCheck, settings

# A busy machine is no finding: pytest-timeout looks after what hangs. `make unit` asks for few examples
# (--hypothesis-profile=quick), `make test` for all; a test that wants more or fewer says so as their share.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", parent=calm, max_examples=20)
settings.register_profile("unit", parent=calm, max_examples=100)
settings.load_profile("unit")


def pytest_collection_finish() -> None:
    """What was imported stays to the end: each full collection would look through all of it again."""
    gc.collect()
    gc.freeze()
