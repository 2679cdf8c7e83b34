"""The GraphQL operations of the loopback W&B server, by name: sync runs, read them back, sweep, save views."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from support.wandb_run import EXPORT, StoredRun

if TYPE_CHECKING:
    from support.wandb_server import WandbServer


def operation_of(query: str) -> str:
    match = re.search(r"(?:query|mutation)\s+(\w+)", query)
    return match.group(1) if match else "anonymous"


def graphql(server: WandbServer, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Answer one operation; an unknown one is an error that names it."""
    operation = operation_of(query)
    server.operations.append(operation)
    if operation not in _OPERATIONS:
        return {"errors": [{"message": f"the test server does not know {operation}"}]}
    return {"data": _OPERATIONS[operation](server, variables)}


def _viewer(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    del server, variables
    user = {"id": "u", "entity": "team", "username": "tester", "email": "", "flags": "{}", "admin": False}
    return {"viewer": {**user, "teams": {"edges": []}, "apiKeys": {"edges": []}}}


def _features(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    del server, variables
    return {"serverInfo": {"features": []}}


def _upsert(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    name, project = variables["name"], variables["project"]
    inserted = (project, name) not in server.runs
    run = server.runs.setdefault((project, name), StoredRun(name, project, variables["entity"] or "team"))
    run.state = "running"
    run.touch()
    run.config |= json.loads(variables["config"] or "{}")
    run.group = variables["groupName"] or run.group
    run.job_type, run.notes = variables.get("jobType") or run.job_type, variables.get("notes") or run.notes
    run.display_name = variables["displayName"] or run.display_name
    run.tags = variables["tags"] or run.tags
    owner = {"id": "p", "name": run.project, "entity": {"id": "e", "name": run.entity}}
    bucket = {"id": name, "name": name, "displayName": run.display_name, "description": None, "config": None}
    bucket |= {"sweepName": None, "project": owner, "historyLineCount": len(run.history)}
    return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}


def _resume_status(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """What a client asks before it opens a run with resume=allow: the run as it stands, null if there is none."""
    run, bucket = server.runs.get((variables["project"], variables["name"])), None
    if run is not None:
        bucket = {"id": run.name, "name": run.name, "displayName": run.display_name, "tags": run.tags}
        bucket |= {"logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(run.history), "eventsTail": "[]"}
        bucket |= {"historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]])}
        bucket |= {"wandbConfig": json.dumps(run.config.get("_wandb", {}).get("value", {}))}
        bucket |= {"summaryMetrics": json.dumps(run.summary), "config": json.dumps(run.config)}
    project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": variables["entity"] or "team"}}
    return {"model": project | {"bucket": bucket}}


def _artifact(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """Say that the artifact is there already: a table's copy as an artifact is not what is read back."""
    run = server.runs.get((variables.get("projectName"), variables.get("runName")))
    if run is not None:
        run.artifacts.append(variables)
    return {
        "createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}}
    }


def _upload(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    name = variables["run"]
    folder = f"{server.url}/storage/{server.runs[variables['project'], name].address}"
    urls = [{"name": path, "uploadUrl": f"{folder}/{quote(path)}"} for path in variables["files"]]
    return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": urls}}


def _node(run: StoredRun) -> dict[str, Any]:
    last = max((row["_step"] for row in run.history), default=-1)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.heartbeat))
    return {
        "id": run.name,
        "projectId": "1",
        "name": run.name,
        "displayName": run.display_name,
        "tags": run.tags,
        "state": run.state,
        "group": run.group,
        "config": json.dumps(run.config),
        "summaryMetrics": json.dumps(run.summary) if run.summary else None,
        "systemMetrics": "{}",
        "createdAt": when,
        "heartbeatAt": when,
        "historyLineCount": len(run.history),
        "historyKeys": {"lastStep": last},
        "user": {"name": "tester", "username": "tester"},
        **dict.fromkeys(["sweepName", "jobType", "commit", "description", "notes"]),
        "readOnly": False,
    }


def _connection(nodes: list[dict[str, Any]], first: int, after: str | None = None) -> dict[str, Any]:
    """A page: `first` nodes after the one whose cursor is `after`."""
    start = int(after) + 1 if after else 0
    edges = [{"node": node, "cursor": str(start + i)} for i, node in enumerate(nodes[start : start + first])]
    more = start + first < len(nodes)
    return {"edges": edges, "pageInfo": {"endCursor": edges[-1]["cursor"] if edges else None, "hasNextPage": more}}


def _list_runs(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    place = (variables["entity"], variables["project"])
    there = [run for run in server.runs.values() if (run.entity, run.project) == place]
    if not there:
        return {"project": None}
    wanted = json.loads(variables.get("filters") or "{}")
    nodes = [_node(run) for run in there if all(_has(run, *each) for each in wanted.items())]
    page = _connection(nodes, variables["perPage"], variables.get("cursor"))
    return {"project": {"internalId": "1", "runCount": len(nodes), "readOnly": False, "runs": page}}


def _has(run: StoredRun, key: str, value: Any) -> bool:
    """A filter of the API: {"group": NAME} or {"config.KEY...": VALUE}; a config is {key: {"value": ...}}."""
    if key == "group":
        return run.group == value
    section, first, *rest = key.split(".")
    assert section == "config", f"the test server does not know the filter {key}"
    found: Any = run.config.get(first, {}).get("value")
    for part in rest:
        found = found[part]
    return bool(found == value)


def _find(server: WandbServer, variables: dict[str, Any], key: str = "name") -> StoredRun | None:
    return server.runs.get((variables["project"], variables[key]))


def _one_run(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    run = _find(server, variables)
    return {"project": {"run": _node(run) if run else None}}


def _parquet(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """Where the exported history lies, and which rows are not in it: the client asks for pages of those."""
    run = _find(server, variables, "runName")
    if run is None:
        return {"project": {"run": None}}
    urls = [f"{server.url}/storage/{run.address}/{EXPORT}"] if run.exported else []
    live = [{"_step": row["_step"]} for row in run.history[run.exported :]]
    return {"project": {"run": {"parquetHistory": {"parquetUrls": urls, "liveData": live}}}}


def _history_page(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    low, high = variables["minStep"], variables["maxStep"]
    run = _find(server, variables, "run")
    if run is None:
        return {"project": {"run": None}}
    rows = [row for row in run.history if low <= row["_step"] < high]
    return {"project": {"run": {"history": [json.dumps(row) for row in rows[: variables["pageSize"]]]}}}


def _list_files(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    run = _find(server, variables)
    if run is None:
        return {"project": {"internalId": "1", "run": None}}
    names = variables.get("fileNames") or list(run.files)
    nodes = [_file(server, run, path) for path in names if path in run.files]
    page = _connection(nodes, variables["fileLimit"], variables.get("fileCursor"))
    return {"project": {"internalId": "1", "run": {"fileCount": len(nodes), "files": page}}}


def _file(server: WandbServer, run: StoredRun, path: str) -> dict[str, Any]:
    url = f"{server.url}/storage/{run.address}/{quote(path)}"
    times = {"updatedAt": "2026-01-01T00:00:00Z", "mimetype": "application/json", "md5": ""}
    return {
        "id": path,
        "name": path,
        "url": url,
        "directUrl": url,
        "sizeBytes": len(run.files[path]),
        **times,
    }


def _save_view(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    server.views.append(variables)
    return {"upsertView": {"view": {"id": "v", "name": variables["name"]}, "inserted": True}}


def _sweep(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    empty = dict.fromkeys(
        ("description", "heartbeatAt", "updatedAt", "bestLoss", "controller", "scheduler", "displayName")
    )
    found = {"id": "s", "name": variables["sweep"], "method": "bayes", "state": "RUNNING", "config": server.sweep}
    found |= {"createdAt": "2026-01-01T00:00:00", "earlyStopJobRunning": False, "runs": {"edges": []}}
    return {"project": {"sweep": empty | found | {"runCount": 0, "priorRuns": None}}}


def _agent(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    del server, variables
    return {"createAgent": {"agent": {"id": "agent"}}}


def _heartbeat(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """The next command for an agent: a run while there are settings left, then the end."""
    idle = not any(json.loads(variables["runState"] or "{}").values())
    commands: list[dict[str, Any]] = []
    if idle and server.proposals:
        name, settings = f"sweep-run-{len(server.proposals)}", server.proposals.pop(0)
        arguments = {key: {"value": value} for key, value in settings.items()}
        commands = [{"type": "run", "id": name, "run_id": name, "program": "harness", "args": arguments}]
    elif idle:
        commands = [{"type": "exit", "id": "exit"}]
    return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}


def _save_report(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    server.views.append(variables)
    names = {"name": variables["projectName"], "entityName": variables["entityName"], "id": "p"}
    kept = {key: variables[key] for key in ("name", "displayName", "description", "spec", "type")}
    return {"upsertView": {"view": {"id": "v", "project": names, **kept}, "inserted": True}}


def _project_id(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    known = (variables["entityName"], variables["projectName"]) in server.projects
    return {"project": {"id": "p", "internalId": "1"} if known else None}


def _projects(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """Of an entity, one page."""
    when = "2026-01-01T00:00:00Z"
    nodes = [
        {"__typename": "Project", "id": name, "name": name, "entityName": entity, "createdAt": when}
        | {"isBenchmark": False, "user": None}
        for entity, name in server.projects
        if entity == variables["entity"]
    ]
    page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    return {"models": {"pageInfo": page, "edges": [{"node": node} for node in nodes]}}


_OPERATIONS = {
    "SweepWithRuns": _sweep,
    "CreateAgent": _agent,
    "Heartbeat": _heartbeat,
    "GetProjects": _projects,
    "ProjectInternalId": _project_id,
    "upsertView": _save_report,
    "UpsertView2": _save_view,
    "RunFiles": _list_files,
    "HistoryPage": _history_page,
    "RunParquetHistory": _parquet,
    "Runs": _list_runs,
    "Run": _one_run,
    "RunHistoryKeys": _one_run,
    "Viewer": _viewer,
    "GetDefaultEntity": _viewer,
    "CreateRunFiles": _upload,
    "ServerFeaturesQuery": _features,
    "UpsertBucket": _upsert,
    "RunResumeStatus": _resume_status,
    "CreateArtifact": _artifact,
}
