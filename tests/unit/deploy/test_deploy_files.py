"""The files in deploy/ against the settings, routes and versions of the service, without any tool."""

import json
import re
from typing import Any, get_args

import msgspec
import pytest
import yaml

from service import __version__
from service.embedded.stale_server import STOP_TIMEOUT
from service.settings import VARIABLES, Settings
from service.settings.variables import Variable
from tests.helpers.deploy_tools import CHART, UNIT
from tests.helpers.paths import ROOT

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SETTINGS: dict[str, Any] = SCHEMA["properties"]["settings"]["properties"]
#: Variables that the chart sets itself, by other values.
BY_OTHER_VALUES = {"REDIS_URL", "API_KEYS", "ALLOW_ANONYMOUS", "SHUTDOWN_DRAIN_SECONDS"}
#: Variables that the chart does not offer: `REDIS_URL` and a Secret say the same, and the image sets the port.
NOT_OFFERED = {"REDIS_HOST", "REDIS_PORT", "API_KEYS_FILE", "JOBSTATE_DATA", "JOBSTATE_PORT"}
BY_NAME = {variable.name: variable for variable in VARIABLES}
FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def bounds(variable: Variable) -> tuple[int | None, int | None]:
    """The least and the greatest integer that a setting allows."""
    hint = FIELDS[variable.field].type
    info = msgspec.inspect.type_info(hint)
    if isinstance(info, msgspec.inspect.UnionType):
        info = msgspec.inspect.type_info(get_args(hint)[0])
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    return (info.ge, info.le) if isinstance(info, msgspec.inspect.IntType) else (None, None)


INTEGERS = [name for name in SETTINGS if name in BY_NAME and bounds(BY_NAME[name]) != (None, None)]


def described(schema: Any, value: Any, path: str = "") -> list[str]:
    """The values of the chart that its schema does not describe."""
    if not schema:
        return [path]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    return [one for name, inner in value.items() for one in described(schema["properties"].get(name), inner, name)]


def test_the_chart_offers_every_setting_once() -> None:
    assert set(SETTINGS) == set(BY_NAME) - BY_OTHER_VALUES - NOT_OFFERED


@pytest.mark.parametrize("name", INTEGERS)
def test_the_chart_allows_the_integers_that_the_service_allows(name: str) -> None:
    assert (SETTINGS[name]["minimum"], SETTINGS[name]["maximum"]) == bounds(BY_NAME[name])


@pytest.mark.parametrize("name", [name for name, schema in SETTINGS.items() if "enum" in schema])
def test_the_service_accepts_each_word_of_the_chart(name: str) -> None:
    for word in SETTINGS[name]["enum"]:
        BY_NAME[name].parse(str(word))


def test_the_chart_limits_the_drain_as_the_service_does() -> None:
    schema = SCHEMA["properties"]["shutdownDrainSeconds"]

    assert (schema["minimum"], schema["maximum"]) == bounds(BY_NAME["SHUTDOWN_DRAIN_SECONDS"])
    assert str(VALUES["shutdownDrainSeconds"]) == BY_NAME["SHUTDOWN_DRAIN_SECONDS"].default


def test_the_schema_describes_every_value_of_the_chart() -> None:
    assert described(SCHEMA, VALUES) == []


def test_the_chart_has_the_version_of_the_service() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_unit_sets_variables_that_there_are() -> None:
    names = re.findall(r"^Environment=(\w+)=", UNIT.read_text(), re.MULTILINE)

    assert names == ["JOBSTATE_DATA"]
    assert set(names) <= set(BY_NAME)


def test_the_unit_stops_after_the_drain_and_the_stop_of_the_embedded_server() -> None:
    stop = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert stop is not None
    assert int(stop[1]) > int(BY_NAME["SHUTDOWN_DRAIN_SECONDS"].default) + STOP_TIMEOUT


def test_the_unit_keeps_its_data_where_systemd_makes_a_directory() -> None:
    lines = UNIT.read_text().splitlines()

    assert {"StateDirectory=jobstate", "StateDirectoryMode=0700"} <= set(lines)
    assert "Environment=JOBSTATE_DATA=/var/lib/jobstate" in lines


def test_the_document_names_each_file() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text()

    for path in ("helm/jobstate", "keda/scaledobject.yaml", "systemd/jobstate.service"):
        assert f"../deploy/{path}" in text
