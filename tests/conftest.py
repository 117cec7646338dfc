"""Settings of the tests of ``helpers``."""

from hypothesis import settings

settings.register_profile("course", deadline=None)  # the machine may be busy
settings.load_profile("course")
