"""A server on this machine that speaks the Hugging Face hub's API, for the real clients (HF_ENDPOINT)."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

SMALL = 1024  # larger files lie behind a redirect, as LFS files do
TOKEN = "hf_let_me_in"


@dataclass
class Repository:
    """Files by revision; ``gated``: for a token alone; ``faults``: path -> what the next requests for it get.

    A fault is a status, or "cut": half of the bytes, and the connection ends.
    """

    revisions: dict[str, dict[str, bytes]]
    gated: bool = False
    faults: dict[str, list[int | str]] = field(default_factory=dict)

    def commit(self, revision: str) -> str:
        names = sorted(self.revisions[revision].items())
        return hashlib.sha1(b"".join(n.encode() + hashlib.sha256(d).digest() for n, d in names)).hexdigest()

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        name = next((r for r in self.revisions if revision in (r, self.commit(r))), None)
        return None if name is None else (self.commit(name), self.revisions[name])


@dataclass
class Hub:
    """What the server holds, (kind, name) -> repository, and what it was asked: (method, path, range)."""

    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path).strip("/")
            hub.asked.append((self.command, path, self.headers.get("Range")))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if path.startswith("cdn/"):
                self.data(path, bytes.fromhex(path.split("/")[1]))
            elif found := re.fullmatch(r"(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.resolve("datasets" if found[1] else "models", *found.groups()[1:])
            elif found := re.fullmatch(
                r"api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/(.+))?", path
            ):
                self.api(found[1], found[2], found[3] or "revision", found[4] or "main", parse_qs(parts.query), body)
            else:
                self.send(404, {})

        do_GET = do_HEAD = do_POST = answer  # noqa: N815  # http.server calls them so

        def send(self, status: int, value: object, **headers: str) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), text)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def repository(self, kind: str, name: str) -> Repository | None:
            found = hub.repositories.get((kind, name))
            if found is None:
                self.send(
                    401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound", X_Error_Message="not found"
                )
            elif found.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                message = f"Access to {kind} {name} is restricted. You must have access to it and be authenticated."
                self.send(401, {"error": message}, X_Error_Code="GatedRepo", X_Error_Message=message)
                return None
            return found

        def api(self, kind: str, name: str, what: str, where: str, query: dict[str, list[str]], body: bytes) -> None:
            repository = self.repository(kind, name)
            if repository is None:
                return
            revision, _, under = where.partition("/")
            found = repository.files(revision)
            if found is None:
                self.send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
                return
            commit, files = found
            if what == "revision":
                siblings = [{"rfilename": n} for n in files]
                self.send(200, {"id": name, "sha": commit, "private": False, "gated": False, "siblings": siblings})
                return
            wanted = files
            if what == "paths-info":
                given = parse_qs(body.decode()) if body[:1] != b"{" else json.loads(body)
                asked = given.get("paths", [])
                wanted = {n: d for n, d in files.items() if n in asked}
            entries = {n: self.entry(n, d) for n, d in wanted.items() if n.startswith(under)}
            if what == "tree" and query.get("recursive", ["False"])[0].lower() != "true":
                tops = {n.removeprefix(under).strip("/").partition("/") for n in entries}
                folders = {f"{under}/{a}".strip("/") for a, slash, _ in tops if slash}
                entries = {n: e for n, e in entries.items() if "/" not in n.removeprefix(under).strip("/")}
                entries |= {f: {"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in folders}
            elif what == "paths-info":
                for name_ in {"/".join(n.split("/")[:i]) for n in files for i in range(1, n.count("/") + 1)}:
                    if name_ in asked:
                        entries[name_] = {"type": "directory", "path": name_, "oid": "0" * 40, "size": 0}
            if what == "tree" and not entries:
                self.send(404, {"error": "no such folder"}, X_Error_Code="EntryNotFound")
                return
            self.send(200, [*entries.values()])

        def entry(self, name: str, data: bytes) -> dict[str, object]:
            made = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            if len(data) > SMALL:
                made["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            return made

        def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
            repository = self.repository(kind, name)
            if repository is None:
                return
            found = repository.files(revision)
            if found is None:
                self.send(404, {}, X_Error_Code="RevisionNotFound")
            elif path not in found[1]:
                self.send(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=found[0])
            elif len(found[1][path]) > SMALL:
                data, digest = found[1][path], hashlib.sha256(found[1][path]).hexdigest()
                key = f"{kind}\n{name}\n{revision}\n{path}".encode().hex()
                etag = f'"{digest}"'
                linked = {"X_Repo_Commit": found[0], "X_Linked_Etag": etag, "X_Linked_Size": str(len(data))}
                self.send(302, {}, Location=f"{hub.url}/cdn/{key}", ETag=etag, Accept_Ranges="bytes", **linked)
            else:
                self.content(found[1][path], found[0])

        def data(self, path: str, key: bytes) -> None:
            kind, name, revision, inside = key.decode().split("\n")
            repository = hub.repositories[kind, name]
            commit, files = repository.files(revision)
            waiting = repository.faults.get(inside, [])
            fault = waiting.pop(0) if waiting and self.command == "GET" else None
            if isinstance(fault, int):
                self.send(fault, {"error": "try later"}, Retry_After="0")
            else:
                self.content(files[inside], commit, cut=fault == "cut")

        def content(self, data: bytes, commit: str, cut: bool = False) -> None:
            start, end = 0, len(data)
            if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
                start, end = int(found[1]), min(end, int(found[2]) + 1) if found[2] else end
            if start > end:
                self.send(416, {}, Content_Range=f"bytes */{len(data)}")
                return
            self.send_response(206 if found else 200)
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Accept-Ranges", "bytes")
            if found:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            piece = data[start:end]
            self.wfile.write(piece[: len(piece) // 2] if cut else piece)
            if cut:
                self.wfile.flush()
                self.connection.close()
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that has gone
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
