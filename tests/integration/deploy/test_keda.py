"""The ScaledObject, against a running service."""

from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.helpers.deploy_tools import KEDA, manifests

AUTHENTICATION, SCALED_OBJECT = manifests(KEDA.read_text())
(TRIGGER,) = SCALED_OBJECT["spec"]["triggers"]
#: What the scaler `metrics-api` of KEDA 2.20 reads.
METADATA = {
    "url",
    "valueLocation",
    "targetValue",
    "activationTargetValue",
    "authMode",
    "format",
    "timeout",
    "unsafeSsl",
    "aggregateFromKubeServiceEndpoints",
    "aggregationType",
}


@pytest.fixture
def queue_path() -> str:
    url: str = TRIGGER["metadata"]["url"]
    return urlsplit(url).path


def create(api: httpx.Client, queue_path: str) -> None:
    queue = queue_path.rpartition("/")[2]
    api.post("/v1/jobs", json={"queue": queue, "input_params": {}}).raise_for_status()


def value(api: httpx.Client, queue_path: str) -> Any:
    """What the trigger reads."""
    return api.get(queue_path).raise_for_status().json()[TRIGGER["metadata"]["valueLocation"]]


def test_the_trigger_has_only_fields_of_its_scaler() -> None:
    assert TRIGGER["type"] == "metrics-api"
    assert set(TRIGGER["metadata"]) <= METADATA
    assert all(isinstance(text, str) for text in TRIGGER["metadata"].values())


def test_the_trigger_sends_an_api_key_as_bearer_token() -> None:
    (reference,) = AUTHENTICATION["spec"]["secretTargetRef"]

    assert TRIGGER["metadata"]["authMode"] == "bearer"
    assert TRIGGER["authenticationRef"]["name"] == AUTHENTICATION["metadata"]["name"]
    assert reference["parameter"] == "token"


def test_the_trigger_is_inactive_without_jobs(api: httpx.Client, queue_path: str) -> None:
    assert value(api, queue_path) == float(TRIGGER["metadata"]["activationTargetValue"]) == 0


def test_the_trigger_counts_due_and_running_jobs(api: httpx.Client, queue_path: str) -> None:
    create(api, queue_path)
    create(api, queue_path)
    api.post("/v1/claims", json={"queues": [queue_path.rpartition("/")[2]], "worker": "w"}).raise_for_status()

    assert value(api, queue_path) == 2


def test_of_a_paused_queue_the_trigger_counts_running_jobs_only(api: httpx.Client, queue_path: str) -> None:
    create(api, queue_path)
    create(api, queue_path)
    api.post("/v1/claims", json={"queues": [queue_path.rpartition("/")[2]], "worker": "w"}).raise_for_status()
    api.put(queue_path, json={"paused": True}).raise_for_status()

    assert value(api, queue_path) == 1
