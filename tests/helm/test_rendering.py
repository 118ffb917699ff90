"""The chart over a matrix of values, by helm 3 and helm 4: every document fits its schema and keeps its promises."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from serving.runtimes.open import RUNTIMES
from tests.helm.chart import MONITORING, Document, container, helm, one, pod_templates, render, serve_config

CLUSTER_VERSIONS = ("1.33", "1.37")
RAY_SERVICE = json.loads(Path(__file__).with_name("rayservice.schema.json").read_text())
PEER = {"namespaceSelector": {"matchLabels": {"team": "vision"}}}
VALUES: dict[str, Document] = {
    "defaults": {},
    "one": {"replicas": 1, "fullnameOverride": "scores"},
    "claim": {
        "models": {"existingClaim": "bundles", "path": "/srv/models"},
        "image": {"repository": "a/b", "tag": "7"},
    },
    "gpu": {
        "provider": "tensorrt",
        "gpuRuntimeClassName": "nvidia",
        "resources": {"limits": {"cpu": 4, "memory": "8Gi"}},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "certserve", "effect": "NoSchedule"}],
        "startupSeconds": 3601,
    },
    "exposed": {
        "service": {"type": "LoadBalancer", "annotations": {"example.org/internal": "true"}},
        "networkPolicy": {"clients": [PEER]},
        "ray": {"operatorNamespace": "kuberay"},
        "serviceMonitor": {"labels": {"release": "prometheus"}},
    },
    "signed": {"signingKey": {"name": "seal", "key": "seed"}},
    "bare": {
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "serviceMonitor": {"enabled": False},
    },
    "placed": {
        "imagePullSecrets": [{"name": "registry"}],
        "podAnnotations": {"example.org/owner": "vision"},
        "priorityClassName": "high",
        "nodeSelector": {"disk": "ssd"},
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "limits": {"maxDeadlineMs": 90_500},
        "preStopSeconds": 7,
    },
}
SHAPES = ("local", "ray")

Rendered = dict[tuple[str, str], list[Document]]

FITTING: set[tuple[str, str]] = set()
"""Documents that are known to fit a version of Kubernetes: many values and both versions of helm give the same ones."""


@pytest.fixture(scope="module")
def rendered(helm_binary: Path) -> Rendered:
    return {
        (shape, case): render(helm_binary, {"shape": shape, **values}, *MONITORING)
        for shape in SHAPES
        for case, values in VALUES.items()
    }


def test_every_document_fits_the_schema_of_its_kind(rendered: Rendered) -> None:
    for (shape, case), documents in rendered.items():
        for document in documents:
            for version in CLUSTER_VERSIONS:
                _check(document, version, f"{shape} {case}")


def _check(document: Document, version: str, where: str) -> None:
    """Core kinds strictly, a RayService by its trimmed definition with its pods as pods; monitors have no schema here."""
    if (looked_at := (repr(document), version)) in FITTING:
        return
    try:
        if document["kind"] == "RayService":
            jsonschema.validate(document, RAY_SERVICE)
            for template in pod_templates([document]).values():
                pod = {"apiVersion": "v1", "kind": "Pod", **template}
                kubernetes_validate.validate(pod, version, strict=True)
        elif document["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(document, version, strict=True)
    except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
        pytest.fail(f"{where}, {document['kind']}, Kubernetes {version}: {error}")
    FITTING.add(looked_at)


def test_both_versions_of_helm_lint_it_without_a_warning(helm_binary: Path) -> None:
    done = helm(helm_binary, "lint", {"noiseSecret": {"name": "noise"}})
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    assert "ERROR" not in done.stdout


def test_what_is_made_in_each_shape(rendered: Rendered) -> None:
    common = {"Service", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor"}
    assert {d["kind"] for d in rendered["local", "defaults"]} == common | {"Deployment"}
    assert {d["kind"] for d in rendered["ray", "defaults"]} == common | {"RayService"}
    assert {d["kind"] for d in rendered["local", "bare"]} == {"Service", "Deployment"}
    assert {d["kind"] for d in rendered["ray", "bare"]} == {"Service", "RayService"}
    for shape in SHAPES:  # with one server a budget would only stand in the way of a drain
        assert "PodDisruptionBudget" not in {d["kind"] for d in rendered[shape, "one"]}


def test_a_service_monitor_is_made_only_where_its_kind_exists(helm4: Path) -> None:
    assert "ServiceMonitor" not in {d["kind"] for d in render(helm4, {})}


def test_every_pod_is_confined(rendered: Rendered) -> None:
    for documents in rendered.values():
        for template in pod_templates(documents).values():
            spec = template["spec"]
            assert spec["automountServiceAccountToken"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert container(template)["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"name": "ORT_DISABLE_TELEMETRY", "value": "1"} in container(template)["env"]
            mounts = {m["name"]: m for m in container(template)["volumeMounts"]}
            assert mounts["tmp"]["mountPath"] == "/tmp"
            assert {v["name"] for v in spec["volumes"]} == set(mounts)
            assert all(m.get("readOnly") for name, m in mounts.items() if name not in ("tmp", "shm"))


def test_the_secret_is_a_file_of_the_servers_alone(rendered: Rendered) -> None:
    for documents in rendered.values():
        templates = pod_templates(documents)
        (volume,) = [v for v in templates["server"]["spec"]["volumes"] if v["name"] == "noise-secret"]
        assert volume["secret"]["secretName"] == "noise"
        if "head" in templates:
            assert "noise-secret" not in {v["name"] for v in templates["head"]["spec"]["volumes"]}


def test_the_signing_key_is_a_file_where_one_is_named(rendered: Rendered) -> None:
    for shape in SHAPES:
        assert "signing-key" not in json.dumps(rendered[shape, "defaults"])
        spec = pod_templates(rendered[shape, "signed"])["server"]["spec"]
        (volume,) = [v for v in spec["volumes"] if v["name"] == "signing-key"]
        assert volume["secret"]["secretName"] == "seal"
        assert volume["secret"]["items"] == [{"key": "seed", "path": "signing-key"}]
        assert "/etc/certserve-signing/signing-key" in json.dumps(rendered[shape, "signed"])


@pytest.mark.parametrize("shape", ["local", "ray"])
def test_certificate_keys_and_public_keys_are_files_of_the_servers_where_the_settings_look(
    helm4: Path, shape: str
) -> None:
    jwt = {"name": "issuer", "issuer": "i", "audience": "a"}
    closed = {"tls": {"secretName": "pair"}, "callers": {"keys": {"name": "known"}, "jwt": jwt}}
    documents = render(helm4, {"shape": shape, **closed}, *MONITORING)
    templates = pod_templates(documents)
    server = templates["server"]
    secrets = {each["name"]: each["secret"]["secretName"] for each in server["spec"]["volumes"] if "secret" in each}
    mounts = {each["name"]: each["mountPath"] for each in container(server)["volumeMounts"]}
    assert {name: secrets[name] for name in ("tls", "keys", "jwt")} == {"tls": "pair", "keys": "known", "jwt": "issuer"}
    said = str(container(server).get("args") or serve_config(documents))
    for name, file in (("tls", "tls.crt"), ("tls", "tls.key"), ("keys", "keys.json"), ("jwt", "jwks.json")):
        assert f"{mounts[name]}/{file}" in said
    for name, template in templates.items():
        probe = container(template)["readinessProbe"]["httpGet"]
        assert probe.get("scheme", "HTTP") == ("HTTPS" if name == "server" else "HTTP")
    if "head" in templates:
        assert "pair" not in str(templates["head"])
    (endpoint,) = one(documents, "ServiceMonitor")["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]["ca"]["secret"]["name"]) == ("https", "pair")


@pytest.mark.parametrize("shape", ["local", "ray"])
def test_cert_manager_is_asked_for_the_names_of_the_service_and_others(helm4: Path, shape: str) -> None:
    tls = {"issuerRef": {"name": "letters", "kind": "ClusterIssuer"}, "dnsNames": ["certserve.example.org"]}
    documents = render(helm4, {"shape": shape, "tls": tls})
    found = one(documents, "Certificate")["spec"]
    service = "demo-certserve" + ("-serve-svc" if shape == "ray" else "")
    assert {service, f"{service}.place.svc", "certserve.example.org"} <= set(found["dnsNames"])
    assert found["issuerRef"] == {"name": "letters", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    volumes = pod_templates(documents)["server"]["spec"]["volumes"]
    assert found["secretName"] in [each["secret"]["secretName"] for each in volumes if "secret" in each]


def test_port_443_is_open_outwards_only_for_an_issuers_keys(helm4: Path) -> None:
    jwt = {"url": "https://issuer.example.org/jwks", "issuer": "i", "audience": "a"}
    for callers, expected in (({}, False), ({"jwt": jwt}, True)):
        policy = one(render(helm4, {"callers": callers}), "NetworkPolicy")["spec"]
        assert any({"port": 443} in each.get("ports", []) for each in policy["egress"]) == expected
        assert not any({"port": 443} in each.get("ports", []) for each in policy["ingress"])


def test_a_claim_is_mounted_where_the_server_looks(rendered: Rendered) -> None:
    for shape in SHAPES:
        spec = container(pod_templates(rendered[shape, "claim"])["server"])
        assert {"name": "models", "mountPath": "/srv/models", "readOnly": True} in spec["volumeMounts"]
        assert spec["image"] == "a/b:7"
    assert container(pod_templates(rendered["local", "claim"])["server"])["args"][0] == "/srv/models"
    assert serve_config(rendered["ray", "claim"])["applications"][0]["args"]["models"] == "/srv/models"


def test_a_pod_that_stops_is_given_the_time_of_the_longest_request(rendered: Rendered) -> None:
    for (shape, case), documents in rendered.items():
        longest = 91 if case == "placed" else 60
        spec = pod_templates(documents)["server"]["spec"]
        pause = container({"spec": spec})["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pause == VALUES[case].get("preStopSeconds", 10)
        assert spec["terminationGracePeriodSeconds"] > longest + pause, (shape, case)
        if shape == "ray":
            environment = {e["name"]: e["value"] for e in container({"spec": spec})["env"]}
            assert int(environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]) >= longest
            (application,) = serve_config(documents)["applications"]
            assert all(d["graceful_shutdown_timeout_s"] > longest for d in application["deployments"])


@pytest.mark.parametrize("provider", RUNTIMES)
def test_every_provider_that_is_served_by_can_be_chosen_and_a_gpu_is_asked_for_by_all_but_the_processor(
    provider: str, helm4: Path
) -> None:
    for shape in SHAPES:
        documents = render(helm4, {"shape": shape, "provider": provider})
        server = container(pod_templates(documents)["server"])
        limits = server["resources"].get("limits", {})
        assert limits.get("nvidia.com/gpu") == (None if provider == "cpu" else 1)
        if shape == "local":
            assert f"--provider={provider}" in server["args"]
        else:
            (application,) = serve_config(documents)["applications"]
            assert application["args"]["provider"] == provider
            (engine,) = [each for each in application["deployments"] if each["name"] == "engine"]
            wanted = {name: number for name, number in engine["ray_actor_options"].items() if name.startswith("num_")}
            assert wanted == ({"num_cpus": 1} if provider == "cpu" else {"num_gpus": 1})


def test_a_gpu_is_asked_for_by_the_servers_alone(rendered: Rendered) -> None:
    for shape in SHAPES:
        templates = pod_templates(rendered[shape, "gpu"])
        limits = container(templates["server"])["resources"]["limits"]
        assert limits == {"cpu": 4, "memory": "8Gi", "nvidia.com/gpu": 1}
        assert [t["key"] for t in templates["server"]["spec"]["tolerations"]] == ["dedicated", "nvidia.com/gpu"]
        assert templates["server"]["spec"]["runtimeClassName"] == "nvidia"
        probe = container(templates["server"])["startupProbe"]
        assert probe["failureThreshold"] * probe["periodSeconds"] >= 3601
        if "head" in templates:
            assert "nvidia.com/gpu" not in container(templates["head"])["resources"]["limits"]
            assert "runtimeClassName" not in templates["head"]["spec"]
    assert rendered["local", "gpu"] != rendered["local", "defaults"]
    assert "nvidia.com/gpu" not in json.dumps(rendered["local", "defaults"] + rendered["ray", "defaults"])


def test_the_ports_of_ray_are_open_to_the_cluster_and_the_operator_only(rendered: Rendered) -> None:
    for case in ("defaults", "exposed"):
        policy = one(rendered["ray", case], "NetworkPolicy")["spec"]
        public, inside, operator = policy["ingress"]
        assert [p["port"] for p in public["ports"]] == [8000, 8001, 8002]
        (own,) = inside["from"]
        assert own == {"podSelector": policy["podSelector"]}
        assert {p["port"] for p in operator["ports"]} == {8265}
        (peer,) = operator["from"]
        assert peer["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}
        for template in pod_templates(rendered["ray", case]).values():
            assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert "from" not in one(rendered["ray", "defaults"], "NetworkPolicy")["spec"]["ingress"][0]
    assert one(rendered["ray", "exposed"], "NetworkPolicy")["spec"]["ingress"][0]["from"] == [PEER]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kuberay"}
    local = one(rendered["local", "defaults"], "NetworkPolicy")["spec"]
    assert [[p["port"] for p in rule["ports"]] for rule in local["ingress"]] == [[8000, 8001, 8002]]


def test_ray_asks_for_a_token_and_places_nothing_on_the_head(rendered: Rendered) -> None:
    for (shape, case), documents in rendered.items():
        if shape == "ray":
            spec = one(documents, "RayService")["spec"]
            assert spec["rayClusterConfig"]["authOptions"] == {"mode": "token"}
            assert spec["excludeHeadPodFromServeSvc"] is True
            assert spec["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
            for deployment in serve_config(documents)["applications"][0]["deployments"]:
                wanted = deployment["ray_actor_options"]
                assert wanted.get("num_cpus", 0) + wanted.get("num_gpus", 0) > 0, case
                assert deployment["max_replicas_per_node"] == 1


def test_the_ports_that_kuberay_takes_for_its_service_are_named_so(rendered: Rendered) -> None:
    for template in pod_templates(rendered["ray", "defaults"]).values():
        ports = {p["name"]: p["containerPort"] for p in container(template)["ports"]}
        assert {n: p for n, p in ports.items() if n.startswith("serve")} == {"serve": 8000, "serve-grpc": 8001}
    # KubeRay's head service selects by its own value of this label, and takes a pod's for it in one of two places.
    head = pod_templates(rendered["ray", "defaults"])["head"]
    assert "app.kubernetes.io/name" not in head["metadata"]["labels"]


def test_services_and_budgets_select_the_servers_alone(rendered: Rendered) -> None:
    for documents in rendered.values():
        for document in documents:
            if document["kind"] == "Service":
                selector = document["spec"]["selector"]
            elif document["kind"] in ("PodDisruptionBudget", "Deployment"):
                selector = document["spec"]["selector"]["matchLabels"]
            else:
                continue
            for component, template in pod_templates(documents).items():
                assert (selector.items() <= template["metadata"]["labels"].items()) == (component == "server")


def test_the_monitor_selects_the_metrics_service(rendered: Rendered) -> None:
    for shape in SHAPES:
        monitor = one(rendered[shape, "exposed"], "ServiceMonitor")
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        wanted = monitor["spec"]["selector"]["matchLabels"]
        found = [
            d["spec"]["ports"]
            for d in rendered[shape, "exposed"]
            if d["kind"] == "Service" and wanted.items() <= d["metadata"]["labels"].items()
        ]
        assert [[p["name"] for p in ports] for ports in found] == [[monitor["spec"]["endpoints"][0]["port"]]]


def test_the_service_is_of_the_type_asked_for(rendered: Rendered) -> None:
    wanted = VALUES["exposed"]["service"]
    local = one(rendered["local", "exposed"], "Service", "demo-certserve")
    ray = one(rendered["ray", "exposed"], "RayService")["spec"]["serveService"]
    for service in (local, ray):
        assert service["spec"]["type"] == wanted["type"]
        assert service["metadata"]["annotations"] == wanted["annotations"]
    assert "serveService" not in one(rendered["ray", "defaults"], "RayService")["spec"]


def test_a_long_release_name_is_cut_to_what_kuberay_takes(helm4: Path) -> None:
    documents = render(helm4, {"shape": "ray"}, release="a" * 40 + "-" + "b" * 12)
    jsonschema.validate(one(documents, "RayService"), RAY_SERVICE)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_notes_say_the_next_step(helm4: Path, shape: str) -> None:
    done = helm(helm4, "install", {"noiseSecret": {"name": "noise"}, "shape": shape}, "--dry-run=client")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.split("NOTES:")[1]
    service = {"local": "service/demo-certserve ", "ray": "service/demo-certserve-serve-svc "}[shape]
    for wanted in ("--namespace place", service, "curl -s http://127.0.0.1:8000/v2/models", ":predict?certify=target"):
        assert wanted in notes
