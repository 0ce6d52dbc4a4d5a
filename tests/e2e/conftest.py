"""One local mode for all end-to-end tests of the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.local_mode import PLACEHOLDER, LocalMode, start_local_mode, stop_local_mode


@pytest.fixture(scope="session")
def local_mode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMode]:
    """A local mode whose adapter placeholder is mapped to the demo adapter, for the whole session."""
    from kaito_presets.demo import adapter_oci_path

    root = tmp_path_factory.mktemp("local") / ".kaito"
    mode = start_local_mode(root, f"--image={PLACEHOLDER}=oci:{adapter_oci_path()}")
    yield mode
    stop_local_mode(mode)
    assert mode.process.returncode == 0, mode.output.read_text()
