"""Promises of deployments/: what its files name is there, and they name each other; nothing of it is started."""

import json
import re
import tomllib
from importlib import metadata

import prefect.settings
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name

from config.settings import Settings, environment_name
from tests.deployed import FOLDER, PAGE
from tests.reference_vtn import ROOT

FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
OURS = {environment_name(field) for field in Settings.model_fields}
PAST_ITS_SETTINGS = {"PREFECT_SERVER_ENCRYPTION_KEY", "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"}  # read by Prefect
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
COMPOSE = yaml.safe_load((FOLDER / "docker" / "compose.yaml").read_text())
TEMPLATE = json.loads((FOLDER / "kubernetes" / "job-template.json").read_text())


@pytest.mark.parametrize("file", [*FILES, "../docs/production.md"])
def test_every_setting_that_is_named_is_one(file: str) -> None:
    text = (FOLDER / file).read_text()
    assert set(re.findall(r"\b(?:BULK_UPLOAD|VTN|OAUTH[A-Z]*)_[A-Z_]+\b", text)) <= OURS
    told = set(re.findall(r"\bPREFECT_[A-Z_]+\b", text)) - {"PREFECT_AUTH"}  # of compose.env.example
    prefects = {name for name in told - PAST_ITS_SETTINGS if not name.startswith("PREFECT_INTEGRATIONS_")}
    assert not [name for name in prefects if not hasattr(prefect.settings, name)]


@pytest.mark.parametrize("file", FILES)
def test_the_index_says_how_each_file_was_checked(file: str) -> None:
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    checked = {name: how for name, _, how in rows}
    assert file == "README.md" or re.match(r"run|verified|not run|tests", checked[file]), file


def test_images_have_the_version_of_the_project() -> None:
    texts = [(FOLDER / file).read_text() for file in FILES]
    versions = {
        version
        for text in texts
        for version in re.findall(r"\bbulk-upload(?:-kubernetes-worker)?:(\d+\.\d+\.\d+)", text)
    }
    assert versions == {PROJECT["version"]}


def test_the_runtime_lock_has_what_runs_and_installs_the_project_as_the_other_pins_it() -> None:
    runtime, everything = (set(_pins(lock)) for lock in ("requirements-runtime.lock", "requirements.lock"))
    assert runtime < everything
    names = {canonicalize_name(_name(pin)) for pin in runtime}
    assert names == _needed([*PROJECT["dependencies"], *PYPROJECT["build-system"]["requires"]])


# Docker


def test_the_image_is_made_of_files_that_are_there_and_of_the_lock() -> None:
    steps = _steps()
    ignored = (FOLDER / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    taken = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert not [name for name in taken if not (ROOT / name).exists()]
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert taken >= {*wheel["only-include"], "pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]}
    sources = [words[0] for name, words in steps if name == "COPY" and not words[0].startswith("--from")]
    assert all(source == "." or source in taken for source in sources)
    installs = [" ".join(words) for name, words in steps if name == "RUN" and "install" in words]
    locks = re.findall(r"--require-hashes -r (\S+)", " ".join(installs))
    assert locks == ["requirements-runtime.lock", "deployments/kubernetes/requirements.lock"]
    for lock in locks:
        assert all("--hash=sha256:" in pin for pin in _pins(lock))


def test_the_image_has_a_python_of_the_project_and_no_root() -> None:
    froms = {words[0] for name, words in _steps() if name == "FROM"}
    (version,) = {re.fullmatch(r"python:(\d+\.\d+)-slim", image)[1] for image in froms if ":" in image}  # type: ignore[index]
    assert f"{version}.99" in SpecifierSet(PROJECT["requires-python"])
    users = [words[0] for name, words in _steps() if name == "USER"]
    assert users[-1] == "10001"
    assert TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["securityContext"][
        "runAsUser"
    ] == int(users[-1])


def test_the_kubernetes_worker_adds_only_what_the_lock_does_not_have() -> None:
    added = [_name(pin) for pin in _pins("deployments/kubernetes/requirements.lock")]
    assert "prefect-kubernetes" in added
    assert not set(added) & {_name(pin) for pin in _pins("requirements-runtime.lock")}


def test_the_services_of_the_compose_file_wait_for_and_read_what_is_there() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        for name, needed in service.get("depends_on", {}).items():
            healthy = needed["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in services[name]
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (FOLDER / "docker" / source).is_file()
    assert services["deploy"]["command"][-1].endswith("prefect --no-prompt deploy --all")
    for build in (service["build"] for service in services.values() if "build" in service):
        assert (FOLDER / "docker" / build["context"] / build["dockerfile"]).samefile(FOLDER / "docker" / "Dockerfile")
        assert build["target"] in {words[-1] for name, words in _steps() if name == "FROM"}


def test_the_compose_file_asks_for_what_its_example_names_and_gives_each_secret_only_where_it_is_needed() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (FOLDER / "docker" / "compose.yaml").read_text()))
    named = re.findall(r"^(\w+)=", (FOLDER / "docker" / "compose.env.example").read_text(), re.MULTILINE)
    assert asked == set(named)
    with_secret = {name for name, each in COMPOSE["services"].items() if "OAUTH_CLIENT_SECRET" in each["environment"]}
    assert with_secret == {"worker"}


# Kubernetes


def test_the_job_template_names_only_variables_that_it_has_and_leaves_time_to_stop() -> None:
    placeholders = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert placeholders == set(TEMPLATE["variables"]["properties"])
    pod = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 30
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "{{ secret_name }}"}}]
    secret = TEMPLATE["variables"]["properties"]["secret_name"]["default"]
    assert f"create secret generic {secret} " in PAGE


def test_the_objects_of_the_kubernetes_worker_name_each_other() -> None:
    objects = list(yaml.safe_load_all((FOLDER / "kubernetes" / "worker.yaml").read_text()))
    by_kind = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    pod = by_kind["Deployment", "bulk-upload-worker"]["spec"]["template"]["spec"]
    binding = by_kind["RoleBinding", "bulk-upload-worker"]
    assert ("ServiceAccount", pod["serviceAccountName"]) in by_kind
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in by_kind
    variables = TEMPLATE["variables"]["properties"]
    assert ("ServiceAccount", variables["service_account_name"]["default"]) in by_kind
    assert ("Namespace", variables["namespace"]["default"]) in by_kind


def test_the_values_of_prefects_charts_name_this_prefect_the_secret_the_claims_and_the_pool() -> None:
    folder = FOLDER / "kubernetes"
    server, worker = (
        yaml.safe_load((folder / f"prefect-{each}-values.yaml").read_text()) for each in ("server", "worker")
    )
    (prefect,) = (
        pin.split()[0].partition("==")[2] for pin in _pins("requirements-runtime.lock") if _name(pin) == "prefect"
    )
    python = next(words[0] for name, words in _steps() if name == "FROM").removesuffix("-slim").replace(":", "")
    assert server["global"]["prefect"]["image"]["prefectTag"] == f"{prefect}-{python}"
    assert worker["worker"]["image"]["prefectTag"] == f"{prefect}-{python}-kubernetes"
    api, deploy = worker["worker"]["selfHostedServerApiConfig"], worker["worker"]["initContainer"]["extraContainers"][0]
    environment = {variable["name"]: variable for variable in deploy["env"]}
    assert environment["PREFECT_API_URL"]["value"] == api["apiUrl"]
    secret = environment["PREFECT_API_AUTH_STRING"]["valueFrom"]["secretKeyRef"]["name"]
    assert {
        server["server"]["basicAuth"]["existingSecret"],
        server["secret"]["name"],
        api["basicAuth"]["existingSecret"],
    } == {secret}
    assert re.search(f"create secret generic {secret} .*auth-string.*\n.*connection-string", PAGE)
    pool = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["work_pools"]["uploads"]["name"]
    assert worker["worker"]["config"]["workPool"] == pool
    assert (ROOT / re.findall(r"--base-job-template (\S+);", deploy["command"][-1])[0]).samefile(
        folder / "job-template.json"
    )
    claims = list(yaml.safe_load_all((folder / "claims.yaml").read_text()))
    variables = TEMPLATE["variables"]["properties"]
    (volume,) = server["server"]["extraVolumes"]
    assert {(claim["kind"], claim["metadata"]["namespace"], claim["metadata"]["name"]) for claim in claims} == {
        ("PersistentVolumeClaim", variables["namespace"]["default"], name)
        for name in (variables["data_claim"]["default"], volume["persistentVolumeClaim"]["claimName"])
    }


def _steps() -> list[tuple[str, list[str]]]:
    """The Dockerfile's instructions and their words."""
    text = (FOLDER / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split()[1:]) for line in lines]


def _pins(lock: str) -> list[str]:
    text = re.sub(r"^#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return [pin.strip() for pin in re.split(r"^(?=\w)", text, flags=re.MULTILINE) if pin.strip()]


def _needed(requirements: list[str]) -> set[NormalizedName]:
    """The names of these, and of all that they need on the oldest Python there is, by the metadata of what is here."""
    python = _steps()[0][1][0].removeprefix("python:").removesuffix("-slim")
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    pending = [Requirement(text) for text in requirements]
    found: dict[NormalizedName, set[str]] = {}  # and their extras
    while pending:
        wanted = pending.pop()
        name = canonicalize_name(wanted.name)
        if name in found and wanted.extras <= found[name]:
            continue
        extras = found.setdefault(name, set())
        extras |= wanted.extras
        pending += [
            needed
            for needed in map(Requirement, metadata.requires(name) or ())
            if needed.marker is None
            or any(needed.marker.evaluate(environment | {"extra": extra}) for extra in ("", *extras))
        ]
    return set(found)


def _name(pin: str) -> str:
    name: str = Requirement(pin.split()[0]).name
    return name
