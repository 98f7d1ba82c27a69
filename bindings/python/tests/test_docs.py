"""Docstrings: their examples run, and none is missing."""

import doctest
import inspect

import pytest
import saymask


@pytest.mark.parametrize("module", [saymask.mask, saymask.datasets])
def test_examples_run(module):
    failed, tried = doctest.testmod(module)
    assert tried > 2 and failed == 0


@pytest.mark.skipif(not hasattr(saymask, "load"), reason="built without models")
def test_the_models_example_runs():
    (example,) = doctest.DocTestFinder(recurse=False).find(saymask.Model, "Model", module=False)
    assert len(example.examples) == 5 and doctest.DocTestRunner().run(example).failed == 0


def test_everything_public_is_described():
    for module in (saymask, saymask.mask, saymask.datasets):
        for name in module.__all__:
            thing = getattr(module, name)
            assert name == "__version__" or inspect.getdoc(thing), f"{module.__name__}.{name}"
            if inspect.isclass(thing):
                members = {key: value for key, value in vars(thing).items() if not key.startswith("_")}
                assert all(inspect.getdoc(value) for value in members.values()), f"{module.__name__}.{name}"
            elif inspect.isbuiltin(thing):
                assert "Parameters" in thing.__doc__, f"{module.__name__}.{name}"
