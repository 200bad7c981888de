"""Fault tests: the long ones run with --faults (`make faults`), the others with the rest of the tests."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--faults", action="store_true", help="all fault tests: some of them take many minutes")


def pytest_configure(config):
    config.addinivalue_line("markers", "faults: runs with --faults only")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--faults"):
        for item in items:
            if item.get_closest_marker("faults"):
                item.add_marker(pytest.mark.skip(reason="long; --faults runs it"))
