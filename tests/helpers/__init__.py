"""Holds the models, callers and attackers that several test folders import; holds no test and no fixture."""

import pkgutil

import pytest

# A helper's assertion then shows its values when it fails, as a test's own assertions do.
pytest.register_assert_rewrite(*(module.name for module in pkgutil.iter_modules(__path__, f"{__name__}.")))
