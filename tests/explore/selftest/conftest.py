"""What the tests of the selftest need of those of the driver."""

from tests.drive.conftest import driver

__all__ = ["driver"]
