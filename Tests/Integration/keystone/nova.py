#!/usr/bin/env python3
"""nova.py PORT KEYSTONE_PORT: what Nova's API says of a server, in Nova's words, to whoever brings a token of the real Keystone.

Nova itself needs Neutron, Placement and a hypervisor. Only administrators and services are told a host. Ends with its input.
"""
import http.client, http.server, json, sys, threading, time

port, keystone = int(sys.argv[1]), int(sys.argv[2])
HERE, THERE, NOWHERE, SLOW, GARBAGE, BROKEN = (f"{digit}0000000-0000-4000-8000-000000000000" for digit in "123456")
asked = []
# (server, volume) to the attachment by which it uses it.
uses = {}


def roles(token):
    connection = http.client.HTTPConnection("127.0.0.1", keystone, timeout=30)
    connection.request("GET", "/v3/auth/tokens?nocatalog", headers={"X-Auth-Token": token, "X-Subject-Token": token})
    response = connection.getresponse()
    text = response.read()
    return {role["name"] for role in json.loads(text)["token"]["roles"]} if response.status == 200 else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except BrokenPipeError:  # whoever asked has given up
            pass

    def answer(self, status, body):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_PUT(self):
        """What tests say that an instance uses: /uses/SERVER/VOLUME/ATTACHMENT"""
        _, _, server, volume, attachment = self.path.split("/")
        uses[server, volume] = attachment
        self.answer(200, {})

    def attachment(self, server, volume):
        asked.append(f"{server}/{volume}")
        if server == BROKEN:
            return self.answer(500, {"computeFault": {"code": 500, "message": "Unexpected API Error."}})
        if server == GARBAGE:
            return self.answer(404, b"<html>")
        if (server, volume) not in uses:
            return self.answer(404, {"itemNotFound": {"code": 404, "message": f"Instance {server} is not attached to volume {volume}."}})
        found = {"id": volume, "volumeId": volume, "serverId": server, "device": "/dev/vdb"}
        if self.headers.get("OpenStack-API-Version") == "compute 2.89":
            found |= {"attachment_id": uses[server, volume], "bdm_uuid": volume, "tag": None, "delete_on_termination": False}
            del found["id"]
        self.answer(200, {"volumeAttachment": found})

    def do_GET(self):
        if self.path == "/asked":
            return self.answer(200, {"asked": asked})
        found = roles(self.headers.get("X-Auth-Token", ""))
        if found is None:
            return self.answer(401, {"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}})
        identity = self.path.removeprefix("/v2.1/servers/")
        if "/os-volume_attachments/" in identity:
            return self.attachment(*identity.split("/os-volume_attachments/"))
        asked.append(identity)
        if identity == SLOW:
            time.sleep(8)
        if identity == GARBAGE:
            return self.answer(200, b"<html>")
        if identity == BROKEN:
            return self.answer(500, {"computeFault": {"code": 500, "message": "Unexpected API Error."}})
        host = {HERE: "node", THERE: "elsewhere", NOWHERE: None, SLOW: "node"}
        if identity not in host:
            return self.answer(404, {"itemNotFound": {"code": 404, "message": f"Instance {identity} could not be found."}})
        server = {"id": identity, "name": "server", "status": "ACTIVE"}
        if found & {"admin", "service"}:
            server["OS-EXT-SRV-ATTR:host"] = host[identity]
        self.answer(200, {"server": server})


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
