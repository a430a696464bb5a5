"""Property tests draw the same examples in every run, and no test is held to the clock."""

from hypothesis import settings

settings.register_profile("ra3sim", deadline=None, derandomize=True, database=None)
settings.load_profile("ra3sim")
