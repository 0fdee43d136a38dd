"""What holds for every unit test."""

from hypothesis import settings

# No test is a timed one: a busy machine, or the first call of a function, would make it fail.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
