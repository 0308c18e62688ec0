"""Helm, `systemd-analyze` and the schemas of Kubernetes, with which the files in deploy/ are tested."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from tests.helpers.paths import ROOT

CHART: Final = ROOT / "deploy" / "helm" / "jobstate"
KEDA: Final = ROOT / "deploy" / "keda" / "scaledobject.yaml"
UNIT: Final = ROOT / "deploy" / "systemd" / "jobstate.service"
#: The oldest version that the chart allows, and the newest whose schemas the package has.
KUBERNETES: Final = ("1.27", "1.37")

Manifest = dict[str, Any]


def missing_chart_tools() -> list[str]:
    """Return what the tests of the chart need and cannot find."""
    missing = [] if shutil.which("helm") else ["helm"]
    if importlib.util.find_spec("kubernetes_validate") is None:  # the dependency group `deploy`
        missing.append("kubernetes-validate")
    return missing


def systemd_analyze() -> str | None:
    return shutil.which("systemd-analyze")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False)


def rendered(folder: Path, values: Manifest, release: str = "jobs") -> subprocess.CompletedProcess[str]:
    """Return what `helm template` does with `values`."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return helm("template", release, str(CHART), "--namespace", "apps", "--values", str(file))


def manifests(text: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(text) if document is not None]


def validate(manifest: Manifest) -> None:
    """Raise an error that says what Kubernetes would reject, unknown fields included. Custom resources are left out."""
    if "." in manifest["apiVersion"].partition("/")[0].removesuffix(".k8s.io"):
        return
    import kubernetes_validate

    for version in KUBERNETES:
        kubernetes_validate.validate(manifest, version, strict=True)
