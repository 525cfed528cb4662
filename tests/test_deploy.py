"""What ships for Kubernetes: it asks for no rights, and says to sleepwake only what it understands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness.cli.application import app

DEPLOY = Path(__file__).parents[1] / "deploy" / "kubernetes"
ENDPOINT = "http://vllm.example:8000"


def documents(name: str) -> Iterator[dict[str, Any]]:
    """Every document of the manifests in one folder, the kustomization itself left out."""
    for path in sorted((DEPLOY / name).glob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from YAML(typ="safe").load_all(path.read_text(encoding="utf-8"))


def pods() -> list[Any]:
    """What each manifest that makes pods says of them."""
    return [
        pytest.param(each["spec"]["template"]["spec"], id=name)
        for name in ("watch", "sidecar", "run")
        for each in documents(name)
        if "template" in each["spec"]
    ]


@pytest.mark.parametrize("pod", pods())
def test_nothing_is_allowed_that_is_not_needed(pod: Mapping[str, Any]) -> None:
    """Nobody is root, nothing is written but to volumes, and no account of the cluster is used."""
    (container,) = pod["containers"]
    allowed = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert allowed["runAsNonRoot"]
    assert allowed["runAsUser"] > 0
    assert allowed["readOnlyRootFilesystem"]
    assert not allowed["allowPrivilegeEscalation"]
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert allowed["seccompProfile"] == {"type": "RuntimeDefault"}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    assert set(mounted.values()) == {"/reports", "/tmp"}  # noqa: S108 - inside the container
    assert container["resources"]["limits"].keys() == {"memory"}


@pytest.mark.parametrize("pod", pods())
def test_the_command_is_understood(pod: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options exist, and the server is named by the environment."""
    (container,) = pod["containers"]
    monkeypatch.setenv("SLEEPWAKE_ENDPOINT", ENDPOINT)
    _, bound, ignored = app.parse_args(container["args"], exit_on_error=False, print_error=False)
    assert (
        bound.arguments.get("endpoint", getattr(bound.arguments.get("options"), "endpoint", None)) == ENDPOINT
    )
    assert not ignored


@pytest.mark.parametrize("pod", pods())
def test_probes_ask_what_a_watch_answers(pod: Mapping[str, Any]) -> None:
    """At the port at which it listens."""
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    probes = [container[name]["httpGet"] for name in ("readinessProbe", "livenessProbe") if name in container]
    assert {probe["path"] for probe in probes} <= {"/ready", "/live"}
    for probe in probes:
        assert f"0.0.0.0:{ports[probe['port']]}" in container["args"]


@pytest.mark.parametrize("name", ["watch", "sidecar", "run"])
def test_a_kustomization_names_the_files_beside_it(name: str) -> None:
    """No more, and no fewer."""
    told = YAML(typ="safe").load((DEPLOY / name / "kustomization.yaml").read_text(encoding="utf-8"))
    named = {*told.get("resources", []), *(patch["path"] for patch in told.get("patches", []))}
    assert named == {path.name for path in (DEPLOY / name).iterdir()} - {"kustomization.yaml"}


def test_no_rights_are_asked_of_the_cluster() -> None:
    """A watch needs no API of Kubernetes, and its pods hold no token."""
    everything = [each for name in ("watch", "sidecar", "run") for each in documents(name)]
    assert not [each for each in everything if "Role" in each["kind"] or each["kind"] == "ServiceAccount"]
    own = [pod for pod in pods() if pod.id != "sidecar"]
    assert all(pod.values[0]["automountServiceAccountToken"] is False for pod in own)
