from hypothesis import settings

# A busy machine is no finding: pytest-timeout looks after what hangs.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
