"""Asks both servers the same and says what differs between the answers."""
import base64
import concurrent.futures
import http.client
import json
import re
import time

import described
from servers import PASSWORD

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?$")
SYMBOL = re.compile(r"(?:\{|%7B)([a-z]\w*)(?:\}|%7D)")
# Ids are drawn by each side: what is sorted by them has another order.
BY_ID = re.compile(r"[?&]sort(?:_key)?=(?:[^&]*%2C)?(?:id|volume_id|volume_type_id|service_uuid|source_volid|snapshot_id)\b")
# Compared by their values; of the others only that they are there.
VALUES = ("content-type", "openstack-api-version", "vary", "location", "retry-after", "content-length-is-zero", "etag")
PRESENCE = ("x-compute-request-id", "x-openstack-request-id", "www-authenticate")


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.text = body.decode("utf-8", "replace")
        try:
            self.json = json.loads(body) if body else None
        except ValueError:
            self.json = None

    @property
    def accepted(self):
        return 200 <= self.status < 300


class Side:
    """One of the two servers, with the ids that it gave to what the names of the requests stand for."""

    def __init__(self, name, port, authorise):
        self.name = name
        self.port = port
        self.authorise = authorise
        self.ids = {}

    def known(self, text):
        """A template with this side's own ids."""
        return SYMBOL.sub(lambda found: self.ids.get(found.group(1), found.group(0)), text)

    def send(self, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, self.known(path), skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        data = None
        if body is not None:
            data = self.known(body).encode("utf-8", "surrogatepass")
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        response = connection.getresponse()
        answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        answer.headers["content-length-is-zero"] = str(not answer.text)
        connection.close()
        return answer

    def plain(self, text):
        """A text without what only this side knows: its ids by their names."""
        text = text.replace("127.0.0.1:%d" % self.port, "<address>")
        for symbol, real in self.ids.items():
            if real in text and len(real) > 8:
                text = text.replace(real, "<%s>" % symbol)
        text = re.sub(r"req-" + UUID.pattern, "<request>", text)
        return UUID.sub("<uuid>", text)

    def plain_json(self, value, name=""):
        if isinstance(value, str):
            if TIME.match(value):
                return "<time>"
            return self.plain(value)
        if isinstance(value, list):
            return [self.plain_json(item, name) for item in value]
        if isinstance(value, dict):
            return {self.plain(key): self.plain_json(item, key) for key, item in value.items()}
        return value


def kind(value):
    return {type(None): "null", bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "object"}[type(value)]


def differences(cinder, clinker, path="body", ordered=True):
    """Where two values differ, as lines."""
    if kind(cinder) != kind(clinker):
        yield "%s: Cinder %s, Clinker %s" % (path, shown(cinder), shown(clinker))
    elif isinstance(cinder, dict):
        for name in cinder:
            if name not in clinker:
                yield "%s.%s: only Cinder's (%s)" % (path, name, shown(cinder[name]))
            else:
                yield from differences(cinder[name], clinker[name], path + "." + name, ordered)
        for name in clinker:
            if name not in cinder:
                yield "%s.%s: only Clinker's (%s)" % (path, name, shown(clinker[name]))
    elif isinstance(cinder, list):
        names = [listed(item) for item in cinder], [listed(item) for item in clinker]
        if not ordered and None not in names[0] + names[1]:
            cinder, clinker = sorted(cinder, key=listed), sorted(clinker, key=listed)
            names = sorted(names[0]), sorted(names[1])
        if None not in names[0] + names[1] and names[0] != names[1]:
            order = "in another order" if sorted(names[0]) == sorted(names[1]) else "others are listed"
            yield "%s: %s: Cinder %s, Clinker %s" % (path, order, shown(names[0]), shown(names[1]))
        elif len(cinder) != len(clinker):
            yield "%s: length: Cinder %s, Clinker %s" % (path, shown(cinder), shown(clinker))
        else:
            for a, b in zip(cinder, clinker):
                yield from differences(a, b, path + "[]", ordered)
    elif cinder != clinker:
        yield "%s: Cinder %s, Clinker %s" % (path, shown(cinder), shown(clinker))


def listed(item):
    """What tells an item of a list from others."""
    if isinstance(item, dict):
        for name in ("id", "name", "host", "zoneName", "alias", "project_id", "resource"):
            if isinstance(item.get(name), str):
                return item[name] + str(item.get("rel", "")) + str(item.get("binary", ""))
    return None


def shown(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 300 else text[:297] + "..."


class Pair:
    """Both sides, in one project, by one of its users at a time."""

    def __init__(self, servers, report):
        self.report = report
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        basic = lambda user: ("Authorization", "Basic " + base64.b64encode((user + ":" + PASSWORD).encode()).decode())  # noqa: E731
        self.cinder = Side("Cinder", servers.cinder, lambda user, project: ("X-Auth-Token", user + ":" + project))
        self.clinker = Side("Clinker", servers.clinker, lambda user, project: basic(user))
        self.sides = (self.cinder, self.clinker)
        self.diverged = False
        self.project = None
        self.number = 0
        self.descriptions = {}

    def enter(self, project):
        self.project = project
        self.diverged = False
        for side in self.sides:
            side.ids = {"project": project}

    def ask(self, method, path, body=None, version="3.71", user="adm", headers=(), bind=None, raw=None, compare=True, root=False):
        """Sends a request to both and notes the differences. `bind`: the name of the id in the answers. Answers Cinder's."""
        text = raw if raw is not None else None if body is None else json.dumps(body)
        name = "%s-%s" % (user, self.project)
        url = path if root else "/v3/%s%s" % (self.project, path)
        lines = list(headers)
        if version is not None:
            lines.append(("OpenStack-API-Version", "volume " + version))
        if not any(header == "Accept" for header, _ in headers):
            lines.append(("Accept", "application/json"))
        if text is not None and not any(header == "Content-Type" for header, _ in headers):
            lines.append(("Content-Type", "application/json"))
        def one(side):
            return side.send(method, url, text, [side.authorise(name, self.project)] + lines)
        first = self.pool.submit(one, self.cinder)
        ours = one(self.clinker)
        theirs = first.result()
        if theirs.accepted and ours.accepted and method == "POST":
            made = [next(iter(answer.json.values()), None) if isinstance(answer.json, dict) else None for answer in (theirs, ours)]
            if all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in made):
                self.number += 1
                for side, one in zip(self.sides, made):
                    side.ids[bind or "made%d" % self.number] = one["id"]
                    if isinstance(one.get("auth_key"), str):
                        side.ids["%s_key" % (bind or "made%d" % self.number)] = one["auth_key"]
                bind = bind or "made%d" % self.number
        if method != "GET":
            if theirs.accepted != ours.accepted:
                self.diverged = True
            if ours.accepted:
                self.settle(method, path, bind, text or "", ours)
        if compare:
            request = dict(method=method, path=path, body=text, version=version, user=user, headers=list(headers))
            found = list(self.compare(theirs, ours, ordered=not BY_ID.search(path)))
            self.report.note(request, found + ([] if root else self.undescribed(method, path, ours)))
        else:
            self.report.preparations += 1
        return theirs

    def undescribed(self, method, path, answer):
        """What of our answer the API's description does not say."""
        version = answer.headers.get("openstack-api-version", "").split(" ")[-1]
        if not version or answer.status == 406:
            return []
        if version not in self.descriptions:
            served = self.clinker.send("GET", "/openapi.json?microversion=" + version, None, [])
            self.descriptions[version] = described.Description(served.json)
        found = self.descriptions[version].violations(method, path.split("?")[0], answer.status, answer.text)
        return ["description: " + one for one in found]

    def compare(self, theirs, ours, ordered):
        if theirs.status != ours.status:
            yield "status: Cinder %d %s, Clinker %d %s" % (
                theirs.status, shown(self.message(self.cinder, theirs)), ours.status, shown(self.message(self.clinker, ours)))
            return
        for name in VALUES:
            a, b = theirs.headers.get(name), ours.headers.get(name)
            a, b = a and self.cinder.plain(a), b and self.clinker.plain(b)
            if name == "content-type":
                a, b = a and a.lower(), b and b.lower()
            if a != b:
                yield "header %s: Cinder %s, Clinker %s" % (name, shown(a), shown(b))
        for name in PRESENCE:
            if (name in theirs.headers) != (name in ours.headers):
                yield "header %s: only %s's" % (name, "Cinder" if name in theirs.headers else "Clinker")
        if (theirs.json is None) != (ours.json is None) or theirs.json is None:
            a, b = self.cinder.plain(theirs.text), self.clinker.plain(ours.text)
            if a != b:
                yield "body: Cinder %s, Clinker %s" % (shown(a), shown(b))
        else:
            yield from differences(self.cinder.plain_json(theirs.json), self.clinker.plain_json(ours.json), ordered=ordered)

    def message(self, side, answer):
        fault = next(iter(answer.json.values()), None) if isinstance(answer.json, dict) else None
        if isinstance(fault, dict) and not answer.accepted:
            return side.plain(str(fault.get("message", "")))[:300]
        return "" if answer.accepted else side.plain(answer.text)[:100]

    # What was set going on our side has ended when the next request is sent; the judge's has when it answers.

    def settle(self, method, path, bind, text, answer):
        found = re.match(r"/(volumes|snapshots|backups)(?:/([^/?]+))?(/action|/restore)?(?:\?.*)?$", path)
        if not found or method == "PUT":
            return
        collection, identifier, is_action = found.groups()
        if is_action == "/action" and not re.match(r'\{"(os-force_delete|os-extend|os-retype|os-migrate_volume|revert|os-unmanage)"', text):
            return
        if not identifier:
            identifier = next(iter(answer.json.values()))["id"]
        line = [self.clinker.authorise("adm-" + self.project, self.project)]
        until = time.monotonic() + 20
        pause = 0.003
        while time.monotonic() < until:
            answer = self.clinker.send("GET", "/v3/%s/%s/%s" % (self.project, collection, identifier), None, line)
            if answer.status != 200 or not isinstance(answer.json, dict):
                return
            if next(iter(answer.json.values())).get("status") not in ("creating", "deleting", "extending", "retyping", "reverting", "unmanaging", "restoring-backup", "restoring"):
                return
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        print("not settled:", method, path, text[:200], answer.text[:300])
