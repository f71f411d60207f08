"""Profiles of trainers: which contract each of their functions implements, and how it is called.

Each profile is a module of this package. It calls the trainer's own functions and contains none of their code. A
trainer is imported when its profile is run.
"""

from grape_verified.conformance.profiles.profile import PROFILES, Entry, NotInstalled, Profile, profile_named
from grape_verified.conformance.profiles.recorded import NotARun, Row, Run, read, run

__all__ = ["PROFILES", "Entry", "NotARun", "NotInstalled", "Profile", "Row", "Run", "profile_named", "read", "run"]
