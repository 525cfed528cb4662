"""What the tests of the selftest need of those of the driver."""

from tests.drive.conftest import anyio_backend, driver

__all__ = ["anyio_backend", "driver"]
