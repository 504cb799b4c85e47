"""A small stand-in for the Hugging Face hub: serves one directory as the repository test/tiny.

    python hub_server.py DIRECTORY      prints its port; ends when its standard input is closed

It answers as the real hub does: the listing with a commit, `resolve` with an ETag (a Git name) for small files, and for .safetensors a redirect
that carries X-Linked-Etag (the SHA-256). The repository test/private requires the token `secret`; test/damaged sends bytes that differ from its tag.
"""

import hashlib
import http.server
import json
import pathlib
import sys
import threading

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

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts[0] == "cdn":
            return self.send(200, (ROOT / parts[1]).read_bytes() + (b"x" if parts[2] == "damaged" else b""), ETag='"elsewhere"')
        repository = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if repository == "test/private" and self.headers.get("Authorization") != "Bearer secret":
            return self.send(401)
        if repository not in ("test/tiny", "test/private", "test/damaged", "test/empty"):
            return self.send(404)
        if parts[0] == "api":
            if parts[4:] not in (["revision", "main"], ["revision", COMMIT]):
                return self.send(404)
            names = [] if repository == "test/empty" else [p.name for p in ROOT.iterdir()] + ["pytorch_model.bin", "../evil"]
            return self.send(200, json.dumps({"sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}).encode())
        if parts[2:4] != ["resolve", COMMIT]:
            return self.send(404)
        body = (ROOT / parts[4]).read_bytes()
        if parts[4].endswith(".safetensors"):
            return self.send(302, Location=f"/cdn/{parts[4]}/{parts[1]}", X_Linked_ETag=f'"{hashlib.sha256(body).hexdigest()}"')
        name = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        return self.send(200, body, ETag=f'W/"{name}"')


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
