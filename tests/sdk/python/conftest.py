"""One stage for the whole run, and one gateway for each test that looks at records."""

import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

pytest.register_assert_rewrite("checks", "stage")

from stage import GATEWAYS, Stage  # noqa: E402  (importable by the line above)
import sdks  # noqa: E402

_numbers = itertools.count()


@pytest.fixture(scope="session")
def stage():
    stage = Stage()
    try:
        stage.__enter__()
    except Exception as error:  # one message instead of the same for every test
        pytest.exit(f"the stage did not start: {error}", returncode=1)
    yield stage
    stage.stop()


@pytest.fixture(autouse=True)
def reset(stage):
    stage.reset()


@pytest.fixture
def gateway():
    """A gateway that no other test uses, so that its records are this test's."""
    number = next(_numbers)
    assert number < GATEWAYS["py"], "raise the number of gateways in stage.py"
    return f"py-{number}"


@pytest.fixture(params=sdks.ALL, ids=lambda kind: kind.name)
def sdk(request, stage, gateway):
    """Each SDK, pointed at this test's gateway."""
    return request.param(stage.url(request.param.provider, gateway), "sk-callers-own")


def pytest_collection_modifyitems(config, items):
    """Leaves out what only a gateway can do, when there is none."""
    if Stage.is_direct():
        beside = [item for item in items if item.get_closest_marker("gateway_only")]
        config.hook.pytest_deselected(items=beside)
        items[:] = [item for item in items if item not in beside]


def pytest_configure(config):
    config.addinivalue_line("markers", "gateway_only: has no meaning without tidegate")
