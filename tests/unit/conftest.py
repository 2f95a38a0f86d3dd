from hypothesis import HealthCheck, settings

# A busy machine is no finding: pytest-timeout looks after what hangs.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")
