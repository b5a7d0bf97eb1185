from hypothesis import HealthCheck, settings

# The same examples each time, so that a red test is red again; and no clock, because the machine is shared.
settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
