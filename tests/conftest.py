import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run; longer searches are started by hand with another profile.
settings.register_profile("openkpu", derandomize=True, deadline=None)
settings.load_profile("openkpu")


@pytest.fixture(scope="session")
def vendor() -> Path:
    """The folder of vendor files; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("OPENKPU_VENDOR", Path(__file__).parents[2] / "shared" / "vendor"))
    if not path.is_dir():
        pytest.skip(f"no vendor files at {path} (set OPENKPU_VENDOR)")
    return path
