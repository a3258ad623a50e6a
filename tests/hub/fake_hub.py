"""A hub on 127.0.0.1 that speaks the protocols of Hugging Face and ModelScope, and misbehaves on request."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BRANCHES = {"main", "master"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class FakeHub:
    """Repositories by name, a log of all requests, and faults.

    | fault | effect |
    |---|---|
    | `cuts[path] = [n, …]` | the next answers with this file close the connection after n bytes of it |
    | `flips[path] = n` | the next n answers with this file have one wrong byte |
    | `lengthen` | every file is sent with 100 bytes too many |
    | `statuses[text] = [503, …]` | the next requests whose path contains `text` get these statuses, with `headers` |
    | `redirect` | files are redirected to this address + path |
    | `listing` | changes the entries of every listing |
    | `ranges = False` | Range is ignored |
    | `shift` | an answer to a Range begins this many bytes too early, as its Content-Range says |
    | `page` | listings come in pages of this many entries |
    | `cut_json = n` | the next n answers in JSON break off before their end |
    | `renamed[old] = new` | requests for the data set `old` are redirected to `new` |
    | `large = n` | files of n bytes and more are uploaded apart from the commit, as large ones |

    `commits` holds the header of every commit, with the paths that it deleted and added.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.sent = 0
        self.cuts: dict[str, list[int]] = {}
        self.flips: dict[str, int] = {}
        self.statuses: dict[str, list[int]] = {}
        self.headers: dict[str, str] = {}
        self.redirect: str | None = None
        self.listing: Any = None
        self.ranges = True
        self.shift = 0
        self.lengthen = False
        self.page = 1000
        self.cut_json = 0
        self.renamed: dict[str, str] = {}
        self.large = 1 << 30
        self.branches = set(BRANCHES)
        self.commits: list[dict[str, Any]] = []
        self.blobs: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body go out in two writes

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET
            do_POST = do_GET
            do_PUT = do_GET

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that was killed, or that hung up

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}{prefix}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, name: str, files: Mapping[str, bytes], *, kind: str = "model", branch: str = "") -> str:
        """Store a repository, or a branch of one beside its main branch; its commit."""
        repository = f"{kind}s/{name}" + (f"@{branch}" if branch else "")
        self.repositories[repository] = dict(files)
        return self.commit(repository)

    def at(self, repository: str, revision: str) -> str:
        """The branch of a repository that a revision names, or the repository itself."""
        branches = [each for each in self.repositories if each.startswith(f"{repository}@")]
        found = [each for each in branches if revision in (each.partition("@")[2], self.commit(each))]
        return found[0] if found else repository

    def commit(self, repository: str) -> str:
        content = sorted((path, sha256(data)) for path, data in self.repositories[repository].items())
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.log]

    # the server's side

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.log.append((request.command, request.path, {key.lower(): value for key, value in request.headers.items()}))
        for text, statuses in self.statuses.items():
            if text in request.path and statuses:
                return self.reply(request, statuses.pop(0), b"{}", self.headers)
        parts = urlsplit(request.path)
        path = parts.path.removeprefix(self.prefix)
        for old, new in self.renamed.items():
            if f"/datasets/{old}/" in path:
                target = request.path.replace(f"/datasets/{old}/", f"/datasets/{new}/", 1)
                return self.reply(request, 307, b"", {"Location": self.address + target})
        if path == "/proxied" or parts.netloc:
            return self.reply(request, 418, b"{}", {})
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if request.command in ("POST", "PUT"):
            return self.written(request, path, query)
        if path.startswith("/api/v1/"):
            return self.modelscope(request, path.removeprefix("/api/v1/"), query)
        if path.startswith("/api/"):
            return self.huggingface(request, path.removeprefix("/api/"), query)
        kind = "datasets" if path.startswith("/datasets/") else "models"
        head, _, tail = path.removeprefix("/datasets").strip("/").partition("/resolve/")
        commit, _, file = tail.partition("/")
        return self.file(request, self.at(f"{kind}/{head}", unquote(commit)), unquote(file), unquote(commit))

    def huggingface(self, request: BaseHTTPRequestHandler, path: str, query: Mapping[str, str]) -> None:
        for verb in ("/revision/", "/tree/"):
            repository, found, revision = path.partition(verb)
            if found:
                break
        else:
            repository, verb, revision = path, "/revision/", "main"
        if repository not in self.repositories:
            return self.reply(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        repository = self.at(repository, unquote(revision))
        commit = self.commit(repository)
        if unquote(revision) not in self.branches | {commit, repository.partition("@")[2]}:
            return self.reply(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if verb == "/revision/":
            answer: dict[str, Any] = {"id": repository.partition("/")[2], "sha": commit}
            if "blobs" in query:
                files = self.repositories[repository].items()
                answer["siblings"] = [{"rfilename": name, "size": len(data)} for name, data in files]
            return self.json(request, answer)
        entries: list[dict[str, Any]] = [{"type": "directory", "path": "folder", "oid": "0" * 40, "size": 0}]
        for name, data in self.repositories[repository].items():
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": git_sha1(data)}
            if len(data) > 100:
                entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        if self.listing:
            entries = self.listing(entries)
        start = int(query.get("cursor", "0"))
        headers = {}
        if start + self.page < len(entries):
            following = f"{self.address}/api/{path}?recursive=true&expand=false&cursor={start + self.page}"
            headers["Link"] = f'<{following}>; rel="next"'
        return self.json(request, entries[start : start + self.page], headers)

    def written(self, request: BaseHTTPRequestHandler, path: str, query: Mapping[str, str]) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if path.startswith("/blobs/"):
            self.blobs[path.removeprefix("/blobs/")] = body
            return self.json(request, {})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.address}/blobs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            return self.json(request, {"transfer": "basic", "objects": objects})
        if path == "/api/validate-yaml":
            return self.json(request, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.repositories.setdefault(f"{asked['type']}s/{name}", {})
            private = asked.get("private") or asked.get("visibility") == "private"  # by the age of the client
            self.commits.append({"created": name, "private": private})
            return self.json(request, {"url": f"{self.address}/{asked['type']}s/{name}"})
        repository, _, rest = path.removeprefix("/api/").partition("/preupload/")
        if rest:
            files = json.loads(body)["files"]
            modes = [
                {"path": each["path"], "uploadMode": "lfs" if each["size"] >= self.large else "regular"}
                for each in files
            ]
            return self.json(request, {"files": [{**each, "shouldIgnore": False} for each in modes]})
        repository, _, rest = path.removeprefix("/api/").partition("/branch/")
        if rest:
            self.branches.add(unquote(rest))
            return self.json(request, {})
        repository, _, rest = path.removeprefix("/api/").partition("/commit/")
        return self.committed(request, repository, [json.loads(line) for line in body.splitlines() if line], query)

    def committed(
        self, request: BaseHTTPRequestHandler, repository: str, lines: list[Any], query: Mapping[str, str]
    ) -> None:
        files = self.repositories[repository]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, self.commit(repository)):
            return self.reply(request, 412, b'{"error": "A commit has happened since"}', {})
        record = {**header, "added": [], "deleted": [], "create_pr": query.get("create_pr")}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                large = line["key"] == "lfsFile"
                files[value["path"]] = self.blobs[value["oid"]] if large else base64.b64decode(value["content"])
            record["deleted" if line["key"] == "deletedFile" else "added"].append(value["path"])
        self.commits.append(record)
        made = {"commitUrl": f"{self.address}/{repository}/commit/x", "commitOid": self.commit(repository)}
        if query.get("create_pr"):
            made["pullRequestUrl"] = f"{self.address}/{repository}/discussions/1"
        return self.json(request, made)

    def modelscope(self, request: BaseHTTPRequestHandler, path: str, query: Mapping[str, str]) -> None:
        repository, _, verb = path.partition("/repo")
        if repository not in self.repositories or query.get("Revision") not in BRANCHES:
            return self.reply(request, 404, json.dumps({"Code": 404, "Message": "not found"}).encode(), {})
        if verb == "":
            return self.file(request, repository, query["FilePath"], query["Revision"])
        entries: list[dict[str, Any]] = []
        for name, data in self.repositories[repository].items():
            entries.append({"Type": "blob", "Path": name, "Size": len(data), "Sha256": sha256(data)})
        folders = {name.rpartition("/")[0] for name in self.repositories[repository]} - {""}
        entries += [{"Type": "tree", "Path": name, "Size": 0, "Sha256": ""} for name in sorted(folders)]
        if root := query.get("Root"):
            entries = [entry for entry in entries if entry["Path"].startswith(f"{root}/")]
        if query.get("Recursive") == "False":
            depth = root.count("/") + 1 if root else 0
            entries = [entry for entry in entries if entry["Path"].count("/") == depth]
        if self.listing:
            entries = self.listing(entries)
        if verb == "/tree":
            size = int(query["PageSize"])
            entries = entries[(int(query["PageNumber"]) - 1) * size :][:size]
        return self.json(request, {"Code": 200, "Success": True, "Data": {"Files": entries[: self.page]}})

    def file(self, request: BaseHTTPRequestHandler, repository: str, name: str, revision: str) -> None:
        if self.redirect:
            return self.reply(request, 302, b"", {"Location": self.redirect + request.path})
        data = self.repositories.get(repository, {}).get(name)
        if data is None:
            return self.reply(request, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": self.commit(repository), "Accept-Ranges": "bytes"}
        headers["ETag"] = f'"{sha256(data) if len(data) > 100 else git_sha1(data)}"'
        if self.flips.get(name, 0) > 0:
            self.flips[name] -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        if self.lengthen:
            data += b"x" * 100
        start, status = 0, 200
        asked = request.headers.get("Range", "")
        if asked and self.ranges:
            start, status = int(asked.removeprefix("bytes=").partition("-")[0]) - self.shift, 206
            if start >= len(data):
                return self.reply(request, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = self.cuts[name].pop(0) if self.cuts.get(name) else None
        return self.reply(request, status, data[start:], headers, cut=cut)

    def json(self, request: BaseHTTPRequestHandler, value: Any, headers: Mapping[str, str] | None = None) -> None:
        body, cut = json.dumps(value).encode(), None
        if self.cut_json:
            self.cut_json, cut = self.cut_json - 1, len(body) // 2
        self.reply(request, 200, body, {"Content-Type": "application/json", **(headers or {})}, cut=cut)

    def reply(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: Mapping[str, str],
        *,
        cut: int | None = None,
    ) -> None:
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "HEAD":
            return
        if cut is not None:
            body = body[:cut]
            request.close_connection = True
        self.sent += len(body)
        request.wfile.write(body)
        request.wfile.flush()
