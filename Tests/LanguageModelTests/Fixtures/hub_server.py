"""A small stand-in for the Hugging Face hub: serves one directory as the repository test/tiny.

    python hub_server.py DIRECTORY      prints its port; ends when its standard input is closed

It answers as the real hub does: the listing with a commit, `resolve` with an ETag (a Git name) for small files, and for .safetensors a redirect
that carries X-Linked-Etag (the SHA-256). The repository test/private requires the token `secret`; test/damaged sends bytes that differ from its tag.
Others are out of order: test/gated, test/busy (too many requests), test/broken, test/login (a web page in place of the list), test/endless (sends
elsewhere without end), test/silent (never answers), test/half (its weights break off), test/gguf (no safetensors). As a proxy it refuses everything.
"""

import hashlib
import http.server
import json
import pathlib
import sys
import threading
import time

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOT = pathlib.Path(sys.argv[1])


class Hub(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        print(self.path, file=sys.stderr, flush=True)

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self):
        self.send(403)

    def out_of_order(self, name):
        token = self.headers.get("Authorization")
        if name == "gated":
            return self.send(403, X_Error_Code="GatedRepo") if token else self.send(401, X_Error_Code="GatedRepo")
        if name == "busy":
            return self.send(429)
        if name == "broken":
            return self.send(503)
        if name == "login":
            return self.send(200, b"<!DOCTYPE html><html>Please accept our terms</html>")
        if name == "endless":
            return self.send(302, Location=self.path)
        if name == "silent":
            time.sleep(30)

    def do_GET(self):
        if self.path.startswith("http"):
            return self.send(403)
        parts = self.path.strip("/").split("/")
        if parts[0] == "cdn":
            return self.send(200, (ROOT / parts[1]).read_bytes() + (b"x" if parts[2] == "damaged" else b""), ETag='"elsewhere"')
        repository = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if repository.split("/")[-1] in ("gated", "busy", "broken", "login", "endless", "silent"):
            return self.out_of_order(repository.split("/")[-1])
        if self.headers.get("Authorization") not in (None, "Bearer secret"):
            return self.send(401)
        if repository == "test/private" and self.headers.get("Authorization") != "Bearer secret":
            return self.send(401)
        if repository not in ("test/tiny", "test/private", "test/damaged", "test/empty", "test/gguf", "test/half"):
            return self.send(404, X_Error_Code="RepoNotFound")
        if parts[0] == "api":
            if parts[4:] not in (["revision", "main"], ["revision", COMMIT]):
                return self.send(404, X_Error_Code="RevisionNotFound")
            names = [] if repository == "test/empty" else ["README.md", "tiny-q4.gguf"] if repository == "test/gguf" else [p.name for p in ROOT.iterdir()] + ["pytorch_model.bin", "../evil"]
            return self.send(200, json.dumps({"sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}).encode())
        if parts[2:4] != ["resolve", COMMIT]:
            return self.send(404)
        body = (ROOT / parts[4]).read_bytes()
        if parts[1] == "half" and parts[4].endswith(".safetensors"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:1000])
            return self.wfile.flush()
        if parts[4].endswith(".safetensors"):
            return self.send(302, Location=f"/cdn/{parts[4]}/{parts[1]}", X_Linked_ETag=f'"{hashlib.sha256(body).hexdigest()}"')
        name = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        return self.send(200, body, ETag=f'W/"{name}"')


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
