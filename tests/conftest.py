"What several test files use; the helpers in tools/ can be imported too (pyproject.toml)."
import gc
from pathlib import Path

import pytest

import tree
from selective_unlearning.core.errors import show_messages


def pytest_collection_finish():
    "What was imported stays: each training collects garbage, and would look through all of it."
    gc.freeze()


@pytest.fixture(autouse=True)
def shown():
    "What is logged reaches standard error, as in the command."
    show_messages()


@pytest.fixture(scope="session")
def root() -> Path:
    "The folder of the checkout."
    return tree.ROOT


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    "A copy of the project's files, to build from without leaving anything in the tree."
    return tree.copy(tmp_path_factory.mktemp("checkout"))
