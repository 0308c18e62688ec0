"""The alert rules and the dashboard, held to what the service measures."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.api.problems import ALL_PROBLEM_TYPES
from tests.helpers.paths import ROOT

DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "jobstate.rules.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "jobstate.json").read_text())
#: What Prometheus adds to every series when it scrapes, and the one that it makes itself.
SCRAPED = {"job", "instance"}
OWN = {"up"}


def expressions() -> list[tuple[str, str]]:
    shown = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [(rule["alert"], rule["expr"]) for rule in RULES] + shown


def selectors(node: Any) -> Iterator[Any]:
    """Every selection of series in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vs", "vector_selector"):
        if (child := getattr(node, name, None)) is not None:
            yield from selectors(child)
    for argument in getattr(node, "args", None) or []:
        yield from selectors(argument)


def parsed(expression: str) -> Any:
    return promql_parser.parse(expression.replace("$__rate_interval", "5m").replace("$instance", ".*"))


@pytest.fixture
def measured(api: httpx.Client) -> dict[str, dict[str, set[str]]]:
    """The series of the service by name, each with its labels and their values."""
    api.post("/v1/jobs", json={"job_id": "j", "input_params": 1}).raise_for_status()
    api.get("/v1/jobs/none")
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(api.get("/metrics").text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


@pytest.mark.parametrize(("name", "expression"), expressions(), ids=lambda text: text[:40])
def test_an_expression_asks_for_series_that_there_are(
    measured: dict[str, dict[str, set[str]]], name: str, expression: str
) -> None:
    found = list(selectors(parsed(expression)))
    assert found, f"{name} selects nothing"
    for selector in found:
        if selector.name in OWN:
            continue
        assert selector.name in measured, f"{name}: there is no {selector.name}"
        for matcher in selector.matchers.matchers:
            assert matcher.name in {*measured[selector.name], *SCRAPED}, (
                f"{name}: {selector.name} has no {matcher.name}"
            )
            if matcher.name in {"change", "lease"} or (selector.name, matcher.name) == ("jobstate_jobs", "status"):
                known = measured[selector.name][matcher.name]
                assert set(matcher.value.split("|")) <= known, f"{name}: no {matcher.name} is {matcher.value}"


@pytest.mark.parametrize(("name", "expression"), expressions(), ids=lambda text: text[:40])
def test_an_expression_names_problems_that_there_are(name: str, expression: str) -> None:

    names = re.findall(r'problem=~?"([^"]*)"', expression)
    assert {one for group in names for one in group.split("|")} <= {kind.name for kind in ALL_PROBLEM_TYPES}


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_alert_is_tried() -> None:
    tried = (DEPLOY / "prometheus" / "jobstate.rules.test.yaml").read_text()
    assert [rule["alert"] for rule in RULES if f'alertname="{rule["alert"]}"' not in tried] == []


def test_a_panel_has_a_place_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
