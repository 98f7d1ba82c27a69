"""A generated data set, and a trained run where check.py has made one."""

import os

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


@pytest.fixture(scope="session")
def run():
    folder = os.environ.get("SAYMASK_TEST_RUN")
    if not folder:
        pytest.skip("needs a trained run: check.py --all")
    return folder
