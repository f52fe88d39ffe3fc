#!/usr/bin/env python3
"""compute.py PORT KEYSTONE_PORT: the part of Nova that works on volumes of instances: external events, swaps, attachments.

Nova itself needs Neutron, Placement and a hypervisor. This one checks tokens with the real Keystone, and bodies and microversions as
Nova's API reference states them; it asks the volume service what Nova asks, in Nova's order, and its guests write files. What was not as
it must be is told by GET /control. PUT /control says by JSON what is to be:

  api       the volume service's address, as URL
  servers   server to {volume: attachment}, those that exist
  mode      what becomes of swaps: swap, fail (after the copy), refuse (409), error (500), hang (no answer, nothing done), lost (done, no
            answer), hold (done, but the answer and the copy wait until another mode is set); of events: error, else they are taken
  stop      before what of a swap it waits until another one is set: begin, attach, connect, copy, complete, detach, end

What the volume service refuses of a swap it takes back as Nova does, and tells as "aborts"; where it waits, as "stopped".

Ends with its input.
"""
import http.client, http.server, json, os, re, sys, threading, time, urllib.parse

port, keystone = int(sys.argv[1]), int(sys.argv[2])
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
control = {"api": "", "servers": {}, "mode": "swap", "stop": ""}
problems, events, swaps, aborts, stopped = [], [], [], [], []
changed = threading.Condition()


def ask(address, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(*address, timeout=60)
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Type": "application/json"}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    response = connection.getresponse()
    text = response.read()
    return response, json.loads(text) if text.startswith(b"{") else {}


def roles(token):
    response, body = ask(("127.0.0.1", keystone), "GET", "/v3/auth/tokens?nocatalog", X_Auth_Token=token, X_Subject_Token=token)
    return {role["name"] for role in body["token"]["roles"]} if response.status == 200 else None


def service_token():
    response, _ = ask(("127.0.0.1", keystone), "POST", "/v3/auth/tokens", {"auth": {
        "identity": {"methods": ["password"], "password": {"user": {"name": "nova", "domain": {"id": "default"}, "password": "nova-secret"}}},
        "scope": {"project": {"name": "service", "domain": {"id": "default"}}}}})
    return response.headers["X-Subject-Token"]


class Refusal(Exception):
    pass


class Volumes:
    """The volume service as Nova asks it: with the token that came with the request, and its own as a service's."""

    def __init__(self, token):
        self.token, self.service = token, service_token()

    def __call__(self, method, path, body=None, version="3.44", expect=(200, 202, 204)):
        # Nova removes an attachment five times where the service is in trouble.
        attempts = 5 if method == "DELETE" else 1
        for attempt in range(attempts):
            response, answer, repeated = self.send(method, path, body, version)
            # What was done already, and its answer lost, is not there any more.
            if response.status in expect or response.status == 404 and method == "DELETE" and (repeated or attempt):
                return answer
            if response.status not in (500, 504):
                break
        raise Refusal(f"{method} {path} {json.dumps(body)}: {response.status} {json.dumps(answer)}")

    def send(self, method, path, body, version):
        # The service may just be starting again.
        for attempt in range(300):
            url = urllib.parse.urlsplit(control["api"])
            try:
                response, answer = ask(
                    (url.hostname, url.port), method, "/v3" + path, body, X_Auth_Token=self.token, X_Service_Token=self.service,
                    OpenStack_API_Version=f"volume {version}")
                return response, answer, attempt > 0
            except (OSError, http.client.HTTPException) as error:
                problem = error
                time.sleep(0.1)
        raise problem


def copy(old, new):
    with open(old["device_path"], "rb") as source, open(new["device_path"], "r+b") as target:
        here, there, end = source.fileno(), target.fileno(), 0
        while True:
            try:
                start = os.lseek(here, end, os.SEEK_DATA)
            except OSError:  # Zeroes to the end.
                return
            end = os.lseek(here, start, os.SEEK_HOLE)
            while start < end:
                start += os.pwrite(there, os.pread(here, min(1 << 20, end - start), start), start)


def pause(point):
    with changed:
        if control["stop"] == point:
            stopped.append(point)
            changed.wait_for(lambda: control["stop"] != point, 60)


def begin(volumes, server, old, new):
    """What Nova's API does before it answers; returns the id of the new attachment."""
    held = volumes("GET", f"/volumes/{old}")["volume"]
    if held.get("migration_status") != "migrating":
        raise Refusal(f"volume {old} is not migrating: {held.get('migration_status')}")
    if all(attachment["server_id"] != server for attachment in held["attachments"]):
        raise Refusal(f"volume {old} is not attached to {server}")
    other = volumes("GET", f"/volumes/{new}")["volume"]
    if other["attachments"] or other["size"] < held["size"] or other["status"] != "available":
        raise Refusal(f"volume {new} cannot be swapped to: {other}")
    if other["availability_zone"] != held["availability_zone"]:
        raise Refusal("the zones are not one")
    pause("begin")
    volumes("POST", f"/volumes/{old}/action", {"os-begin_detaching": None})
    try:
        pause("attach")
        return volumes("POST", "/attachments", {"attachment": {"volume_uuid": new, "instance_uuid": server}})["attachment"]["id"]
    except Exception:
        volumes("POST", f"/volumes/{old}/action", {"os-roll_detaching": None})
        raise


def finish(volumes, server, old, new, attachment, fails):
    """What nova-compute does later."""
    mine = control["servers"][server][old]
    connector = {"host": "compute", "ip": "127.0.0.1", "initiator": "iqn.2026-11.example:compute", "mountpoint": "/dev/vdb"}
    try:
        pause("connect")
        theirs = volumes("PUT", f"/attachments/{attachment}", {"attachment": {"connector": connector}})["attachment"]["connection_info"]
        pause("copy")
        copy(volumes("GET", f"/attachments/{mine}")["attachment"]["connection_info"], theirs)
        pause("complete")
        if not fails:
            volumes("POST", f"/attachments/{attachment}/action", {"os-complete": {}})
    except Exception as error:
        aborts.append(f"{type(error).__name__} {error}")
        fails = True
    if fails:
        volumes("DELETE", f"/attachments/{attachment}")
        volumes("POST", f"/volumes/{old}/action", {"os-roll_detaching": None})
    else:
        with open(theirs["device_path"], "r+b") as target:  # The guest goes on.
            target.seek(4096)
            target.write(b"written after the swap")
        pause("detach")
        volumes("DELETE", f"/attachments/{mine}")
    pause("end")
    answer = volumes("POST", f"/volumes/{old}/action", {"os-migrate_volume_completion": {"new_volume": new, "error": fails}})
    if answer != {"save_volume_id": old}:
        raise Refusal(f"os-migrate_volume_completion: {answer}")
    if not fails:
        control["servers"][server][old] = attachment


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=None):
        content = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        if content:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            self.wfile.write(content)
        except BrokenPipeError:  # whoever asked has given up
            pass

    def refuse(self, status, name, message):
        problems.append(f"{self.command} {self.path}: {message}")
        self.answer(status, {name: {"code": status, "message": message}})

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")

    def version(self):
        found = re.fullmatch(r"compute 2\.(\d+)", self.headers.get("OpenStack-API-Version", "compute 2.1"))
        return int(found[1]) if found else None

    def may(self, *wanted):
        """Whether who asks has one of the roles; answers otherwise."""
        found = roles(self.headers.get("X-Auth-Token", ""))
        if found is None:
            self.answer(401, {"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}})
        elif wanted and not found & set(wanted):
            self.refuse(403, "forbidden", f"Policy doesn't allow this to be performed: {found}")
        elif self.version() is None:
            self.refuse(406, "computeFault", "there is no such version")
        else:
            return True
        return False

    def do_GET(self):
        if self.path == "/control":
            return self.answer(200, {"problems": problems, "events": events, "swaps": swaps, "aborts": aborts, "stopped": stopped})
        if not self.may():
            return
        found = re.fullmatch(r"/v2\.1/servers/([^/]+)/os-volume_attachments/([^/]+)", self.path)
        attachment = control["servers"].get(found[1], {}).get(found[2]) if found else None
        if attachment is None:
            return self.answer(404, {"itemNotFound": {"code": 404, "message": "Instance is not attached to the volume."}})
        self.answer(200, {"volumeAttachment": {"volumeId": found[2], "serverId": found[1], "device": "/dev/vdb", "attachment_id": attachment}})

    def do_POST(self):
        body = self.body()
        if not self.may("admin", "service"):
            return
        if self.path != "/v2.1/os-server-external-events" or self.version() < 51:
            return self.refuse(400, "badRequest", "no such request")
        given = body.get("events") if isinstance(body, dict) and set(body) == {"events"} else None
        if not isinstance(given, list) or not given or any(
            set(event) != {"name", "server_uuid", "tag"} or not UUID.fullmatch(event["server_uuid"]) or event["name"] != "volume-extended"
            for event in given):
            return self.refuse(400, "badRequest", f"Invalid input: {body}")
        if control["mode"] == "error":
            return self.answer(500, {"computeFault": {"code": 500, "message": "Unexpected API Error."}})
        known = [event for event in given if event["server_uuid"] in control["servers"]]
        events.extend([event["server_uuid"], event["tag"]] for event in known)
        if not known:
            return self.answer(404, {"itemNotFound": {"code": 404, "message": "No instances found for any event"}})
        self.answer(200 if known == given else 207, {"events": [event | {"status": "completed", "code": 200} for event in known]})

    def do_PUT(self):
        body = self.body()
        if self.path == "/control":
            with changed:
                control.update(body)
                changed.notify_all()
            return self.answer(200, {})
        if not self.may("admin"):
            return
        found = re.fullmatch(r"/v2\.1/servers/([^/]+)/os-volume_attachments/([^/]+)", self.path)
        new = body.get("volumeAttachment") if isinstance(body, dict) and set(body) == {"volumeAttachment"} else None
        if not found or not isinstance(new, dict) or set(new) != {"volumeId"} or not UUID.fullmatch(str(new["volumeId"])):
            return self.refuse(400, "badRequest", f"Invalid input: {body}")
        server, old, new, mode = found[1], found[2], new["volumeId"], control["mode"]
        if old not in control["servers"].get(server, {}):
            return self.refuse(404, "itemNotFound", f"Instance {server} could not be found or has no volume {old}.")
        if any(known[:3] == [server, old, new] for known in swaps):  # A client repeats what a closed connection left unanswered.
            return self.answer(400, {"badRequest": {"code": 400, "message": f"volume {new} is not available"}})
        swaps.append([server, old, new, mode])
        if mode == "refuse":
            return self.answer(409, {"conflictingRequest": {"code": 409, "message": "Cannot 'swap_volume' instance while it is in vm_state stopped"}})
        if mode == "error":
            return self.answer(500, {"computeFault": {"code": 500, "message": "Unexpected API Error."}})
        if mode == "hang":
            with changed:
                changed.wait_for(lambda: control["mode"] != mode, 60)
            return self.close()
        volumes = Volumes(self.headers["X-Auth-Token"])
        try:
            attachment = begin(volumes, server, old, new)
        except Exception as error:
            aborts.append(f"{type(error).__name__} {error}")
            return self.answer(400, {"badRequest": {"code": 400, "message": f"{type(error).__name__} {error}"}})
        if mode == "hold":
            with changed:
                changed.wait_for(lambda: control["mode"] != mode, 60)
        threading.Thread(target=self.work, args=(volumes, server, old, new, attachment, mode == "fail"), daemon=True).start()
        self.close() if mode == "lost" else self.answer(202)

    def close(self):
        self.close_connection = True
        self.connection.close()

    def work(self, *arguments):
        try:
            finish(*arguments)
        except Exception as error:
            problems.append(f"{type(error).__name__} {error}")

    def handle(self):
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError, ValueError, OSError):  # whoever asked has given up, or is given up
            pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
