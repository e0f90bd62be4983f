"""Artifacts of a flow run, as a real Prefect server keeps them."""

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey


def text_of(prefect: SyncPrefectClient, run_id: object, key: str) -> str:
    """The text of the artifact of this key, without its escapes; empty while there is none."""
    found = prefect.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(str(run_id))]), key=ArtifactFilterKey(any_=[key])
        )
    )
    return str(found[0].data).replace("\\", "") if found else ""
