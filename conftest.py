"""Hypothesis profiles, named as those of dlcheck; fixtures that every test here may use."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", deadline=None, max_examples=20)
settings.register_profile("default", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.register_profile("nightly", deadline=None, max_examples=4000)
settings.load_profile("ci" if os.environ.get("CI") else "default")

pytest_plugins = ["pytester"]
