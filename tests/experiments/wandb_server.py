"""A stand-in for W&B's server on loopback: just enough for `wandb sweep`, `wandb agent` and logging."""

import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROJECT = {
    "id": "p",
    "name": "lightning-trackers",
    "internalId": "1",
    "readOnly": False,
    "entity": {"id": "e", "name": "someone"},
}
VIEWER = {
    "id": "v",
    "entity": "someone",
    "username": "someone",
    "name": "someone",
    "email": "someone@example.org",
    "admin": False,
    "flags": "{}",
    "teams": {"edges": []},
    "apiKeys": {"edges": []},
}


class Server:
    """What the client said to the server.

    Args:
        proposals: Parameters of the runs that the sweep's agent is asked to make, one dict each.
    """

    def __init__(self, proposals=()):
        self.proposals = list(proposals)
        self.operations = []
        self.sweep_config = None
        self.buckets = []  # variables of each UpsertBucket: name, group, config
        self.history = []
        self.summaries = []
        self.exit_codes = []

    def answer(self, query, variables):
        name = query.split("(")[0].split("{")[0].split()[-1]
        self.operations.append(name)
        if name == "UpsertSweep":
            self.sweep_config = variables["config"]
            sweep = {"id": "s", "name": "sweep1", "project": PROJECT}
            return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}
        if name == "SweepWithRuns":
            sweep = {"id": "s", "name": "sweep1", "config": self.sweep_config, "state": "RUNNING"}
            return {"project": {"sweep": {**sweep, "runs": {"edges": []}}}}
        if name == "GetSweepState":
            return {"project": {"sweep": {"state": "RUNNING"}}}
        if name == "CreateAgent":
            return {"createAgent": {"agent": {"id": "a"}}}
        if name == "Heartbeat":
            commands = []
            if self.proposals and variables.get("runState") == "{}":
                args = {key: {"value": v} for key, v in self.proposals.pop(0).items()}
                commands = [{"type": "run", "run_id": f"run{len(self.buckets)}", "args": args,
                             "program": "unused"}]  # fmt: skip
            return {"agentHeartbeat": {"agent": {"id": "a"}, "commands": json.dumps(commands)}}
        if name == "UpsertBucket":
            self.buckets.append(variables)
            run = variables.get("name") or "run"
            bucket = {"id": run, "name": run, "displayName": variables.get("displayName") or run,
                      "description": "", "config": variables.get("config"), "sweepName": None,
                      "project": PROJECT, "historyLineCount": 0}  # fmt: skip
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if name == "CreateArtifact":  # tables of scores: said to be there already
            sequence = {"id": "q", "latestArtifact": None}
            artifact = {"id": "t", "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        if name == "CreateRunFiles":
            return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": []}}
        # What the client asks of the server's version it can do without.
        return {"viewer": VIEWER, "serverInfo": None, "project": None, "entity": None,
                "model": None, "QueryType": None, "MutationType": None}  # fmt: skip

    def stream(self, content):
        files = content.get("files") or {}
        for line in files.get("wandb-history.jsonl", {}).get("content", []):
            self.history.append(json.loads(line))
        for line in files.get("wandb-summary.json", {}).get("content", []):
            self.summaries.append(json.loads(line))
        if content.get("complete"):
            self.exit_codes.append(content.get("exitcode"))


@contextmanager
def wandb_server(proposals=()):
    """Serve on a free port of loopback; yield the server and its address."""
    state = Server(proposals)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            try:
                content = json.loads(body or b"{}")
            except ValueError:  # the client's reports of its own errors
                content = {}
            if self.path.endswith("/graphql"):
                self._send({"data": state.answer(content["query"], content.get("variables") or {})})
            else:
                state.stream(content)
                self._send({"limits": {}})

        def do_GET(self):
            self._send({})

        do_PUT = do_GET  # noqa: N815

        def _send(self, content):
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
