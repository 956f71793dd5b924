"""Earlier runs in Prefect's database."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed


def close_dead_run(run: str) -> bool:
    """Close a run whose process has died; return whether Prefect still listed it as unfinished."""
    try:
        run_id = UUID(run)
    except ValueError:
        return False
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(run_id).state
        except ObjectNotFound:
            return False
        if state is None or state.is_final():
            return False
        client.set_flow_run_state(run_id, Crashed(message="its process died; closed by the next run"), force=True)
    return True
