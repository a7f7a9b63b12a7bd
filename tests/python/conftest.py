"""Fixtures that cost time and are therefore made once: the multi-rank checkpoints, a larger one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli


@pytest.fixture(scope="session", autouse=True)
def program() -> Path:
    """The program under test; without it every test fails here, with the way to build it."""
    if not cli.RESHARD.is_file():
        pytest.exit(f"{cli.RESHARD} does not exist: run `scripts/test.sh python`", returncode=1)
    return cli.RESHARD


def pytest_collect_file(file_path: Path) -> None:
    """The package's tests import what pip has installed, or say how it gets there."""
    if file_path.name.startswith("test_package"):
        try:
            import reshard  # noqa: F401
        except ImportError as error:
            pytest.exit(f"the package is not installed ({error}): run `scripts/test.sh python`", 1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Logits are compared bit by bit, so sums must be made in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the checkpoints that `checkpoints.make_all` makes. Read only."""
    root = tmp_path_factory.mktemp("trained")
    checkpoints.make_all(root)
    return root


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 200 MB, large enough to be interrupted. Read only."""
    directory = tmp_path_factory.mktemp("large") / "checkpoint"
    generator = torch.Generator().manual_seed(3)
    block = torch.randn(1024, 512, generator=generator)
    state = {f"model.model.layers.{i}.weight": block + i for i in range(100)}
    checkpoints.save_single(state, directory, thread_count=2)
    return directory


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A destination that does not exist yet, in a directory of its own."""
    return tmp_path / "out"
