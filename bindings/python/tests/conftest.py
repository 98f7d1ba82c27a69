"""A generated data set, and whether this build has models."""

import pytest
import saymask


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    saymask.datasets.generate(folder, images=16, size=64)
    return folder


@pytest.fixture(scope="session")
def val(root):
    return saymask.datasets.open(root, "refcoco", split_by="unc", split="val")
