"""The API of a real Cinder 29 on SQLite, as a judge of answers: every request is answered by Cinder's own code. What its volume
service would do afterwards to the one thing that a request was about is done to its row before the answer goes out, so that
there is nothing to wait for.

    python judge.py CINDER.CONF PORT      (started by servers.py)

A user whose name begins with "mem" is a member with the roles member and reader; everybody else is an administrator."""
import datetime
import io
import json
import re
import sqlite3
import sys
import threading
import time
import warnings

CONF, PORT = sys.argv[1], int(sys.argv[2])
sys.argv = ["cinder-api", "--config-file", CONF]
warnings.simplefilter("ignore")

import cinder.api.middleware.auth as auth  # noqa: E402
from cinder.wsgi import wsgi  # noqa: E402

as_given = auth._set_request_context


def with_members(request, **values):
    if (values.get("user_id") or "").startswith("mem"):
        values["is_admin"] = False
        values["roles"] = ["member", "reader"]
    return as_given(request, **values)


auth._set_request_context = with_members

import cinder.api.api_utils as api_utils  # noqa: E402

# There is no Keystone to ask: every project exists.
api_utils.get_project = lambda context, project: api_utils.GenericProjectInfo(project, "v3")

from cinder.volume import rpcapi  # noqa: E402

# No driver has to do anything when a volume gets another owner.
rpcapi.VolumeAPI.accept_transfer = lambda self, context, volume, user, project, no_snapshots=False: {}
import cinder.backup.api  # noqa: E402
from cinder.backup import rpcapi as backup_rpcapi  # noqa: E402


def settled(seconds):
    """A restoration waits for the volume that it has made."""
    database = sqlite3.connect(DATABASE, timeout=20)
    database.execute(VOLUME.replace("id=:id AND ", ""), dict(now=now()))
    database.commit()
    database.close()


cinder.backup.api.time = type("Time", (), dict(sleep=staticmethod(settled)))
# Its store can delete whatever is asked for, and tells of a backup what its row says.
backup_rpcapi.BackupAPI.check_support_to_force_delete = lambda self, context, host: True
backup_rpcapi.BackupAPI.export_record = lambda self, context, backup: dict(
    backup_service=backup.service, backup_url=backup.encode_record(driver_info={}))
application = wsgi.initialize_application()

from cinder import objects  # noqa: E402
from oslo_config import cfg  # noqa: E402

# SQLite has one writer at a time, and Cinder answers 500 to whoever comes beside it.
writing = threading.Lock()
DATABASE = cfg.CONF.database.connection.split("sqlite:///", 1)[1]
HOST = "judge@fast#files"
SERVICES = [("cinder-backup", "judge"), ("cinder-scheduler", "judge"), ("cinder-volume", "judge@big"), ("cinder-volume", "judge@fast")]


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")


def services():
    """Services that are up, and stay so."""
    while True:
        try:
            writing.acquire()
            database = sqlite3.connect(DATABASE, timeout=20)
            columns = {row[1] for row in database.execute("PRAGMA table_info(services)")}
            for number, (binary, host) in enumerate(SERVICES):
                if not database.execute("SELECT 1 FROM services WHERE host=? AND binary=?", (host, binary)).fetchone():
                    row = dict(
                        created_at=now(), updated_at=now(), deleted=0, host=host, binary=binary, topic=binary, report_count=1, disabled=0,
                        availability_zone="nova", replication_status="disabled", frozen=0, uuid="%08d-1111-4111-8111-111111111111" % number,
                        object_current_version=objects.base.OBJ_VERSIONS.get_current(), rpc_current_version="3.19")
                    row = {name: value for name, value in row.items() if name in columns}
                    database.execute(
                        "INSERT INTO services (%s) VALUES (%s)" % (",".join(row), ",".join("?" * len(row))), list(row.values()))
            database.execute("UPDATE services SET updated_at=?", (now(),))
            database.commit()
            database.close()
        except sqlite3.Error as error:  # the next round tries again
            print("services:", error, flush=True)
        finally:
            writing.release()
        time.sleep(5)


RECOUNT = """UPDATE quota_usages SET reserved=0, in_use=CASE
    WHEN resource='volumes' THEN (SELECT count(*) FROM volumes v WHERE v.project_id=quota_usages.project_id AND v.deleted=0)
    WHEN resource='gigabytes' THEN
        (SELECT coalesce(sum(size), 0) FROM volumes v WHERE v.project_id=quota_usages.project_id AND v.deleted=0)
        + (SELECT coalesce(sum(volume_size), 0) FROM snapshots s WHERE s.project_id=quota_usages.project_id AND s.deleted=0)
    WHEN resource='backups' THEN (SELECT count(*) FROM backups b WHERE b.project_id=quota_usages.project_id AND b.deleted=0)
    WHEN resource='backup_gigabytes' THEN
        (SELECT coalesce(sum(size), 0) FROM backups b WHERE b.project_id=quota_usages.project_id AND b.deleted=0)
    WHEN resource='snapshots' THEN (SELECT count(*) FROM snapshots s WHERE s.project_id=quota_usages.project_id AND s.deleted=0)
    ELSE in_use END WHERE project_id=? AND deleted=0"""


class Move:
    """What follows a request that was accepted."""

    def __init__(self, method, path, *statements):
        self.method = method
        self.path = re.compile(r"^/v3/([0-9a-f-]+)" + path + r"(?:\.json)?$")
        self.statements = statements


VOLUME = "UPDATE volumes SET status='available', host='%s', service_uuid='00000002-1111-4111-8111-111111111111', shared_targets=0, launched_at=:now, updated_at=:now WHERE id=:id AND status='creating'" % HOST
GONE = "UPDATE %s SET status='deleted', deleted=1, deleted_at=:now WHERE id=:id AND status='deleting'"
DELETED = (
    "UPDATE volume_attachment SET deleted=1, deleted_at=:now WHERE volume_id=:id"
    " AND volume_id IN (SELECT id FROM volumes WHERE status='deleting')",
    "UPDATE snapshots SET status='deleted', deleted=1, deleted_at=:now WHERE volume_id=:id AND status='deleting'",
    GONE % "volumes",
)
# What the backup service would do: a backup has the objects that Clinker's has, and nothing is restored.
MADE = (
    "UPDATE volumes SET status=previous_status WHERE status='backing-up' AND id IN (SELECT volume_id FROM backups WHERE id=:id)",
    "UPDATE snapshots SET status='available' WHERE status='backing-up' AND id IN (SELECT snapshot_id FROM backups WHERE id=:id)",
    "UPDATE backups SET num_dependent_backups=num_dependent_backups+1 WHERE id IN (SELECT parent_id FROM backups WHERE id=:id)",
    "UPDATE backups SET status='available', availability_zone='nova', container=coalesce(container, 'c'), object_count=0, host='judge', service='s',"
    " service_metadata='p', updated_at=:now WHERE id=:id",
)
UNMADE = (
    "UPDATE backups SET num_dependent_backups=num_dependent_backups-1 WHERE id IN (SELECT parent_id FROM backups WHERE id=:id AND status='deleting')",
    GONE % "backups",
)
MOVES = [
    Move("POST", "/backups", *MADE),
    Move("DELETE", "/backups/([^/]+)", *UNMADE),
    Move("POST", "/backups/([^/]+)/action:os-force_delete", *UNMADE),
    Move("POST", "/backups/([^/]+)/action:os-reset_status", "UPDATE backups SET status=:status, updated_at=:now WHERE id=:id"),
    Move(
        "POST", "/backups/([^/]+)/restore",
        "UPDATE volumes SET status='available', updated_at=:now WHERE status='restoring-backup' AND id IN (SELECT restore_volume_id FROM backups WHERE id=:id)",
        "UPDATE backups SET status='available', updated_at=:now WHERE status='restoring' AND id=:id"),
    Move("POST", "/volumes", VOLUME),
    Move("DELETE", "/volumes/([^/]+)", *DELETED),
    Move("POST", "/snapshots", "UPDATE snapshots SET status='available', progress='100%', updated_at=:now WHERE id=:id"),
    Move("DELETE", "/snapshots/([^/]+)", GONE % "snapshots"),
    Move("POST", "/volumes/([^/]+)/action:os-force_delete", *DELETED),
    Move("POST", "/snapshots/([^/]+)/action:os-force_delete", GONE % "snapshots"),
    Move(
        "POST", "/volumes/([^/]+)/action:os-extend",
        "UPDATE volumes SET status=CASE WHEN previous_status='in-use' THEN 'in-use' ELSE 'available' END, size=:size, updated_at=:now"
        " WHERE id=:id AND status='extending'"),
    Move(
        "POST", "/volumes/([^/]+)/action:os-retype",
        "UPDATE volumes SET status='available', updated_at=:now, volume_type_id="
        "(SELECT id FROM volume_types WHERE (id=:type OR name=:type) AND deleted=0) WHERE id=:id AND status='retyping'"),
]


def settle(method, path, body, answer):
    """Carries out what the request has set going."""
    try:
        asked = json.loads(body) if body else {}
    except ValueError:
        asked = {}
    if path.endswith("/action") and isinstance(asked, dict) and len(asked) == 1:
        action, value = next(iter(asked.items()))
        path += ":" + action
    else:
        value = {}
    for move in MOVES:
        found = move.path.match(path)
        if move.method != method or not found:
            continue
        identifier = found.groups()[1] if len(found.groups()) > 1 else next(iter(json.loads(answer).values()))["id"]
        values = dict(id=identifier, now=now(), size=0, type="", status="")
        if isinstance(value, dict):
            values["status"] = str(value.get("status", "")).lower()
            values["type"] = value.get("new_type", "")
            values["size"] = int(value.get("new_size", 0) or 0) if "os-extend" in path else 0
        database = sqlite3.connect(DATABASE, timeout=20)
        for statement in move.statements:
            database.execute(statement, values)
        database.execute(RECOUNT, (found.group(1),))
        database.commit()
        database.close()


def judge(environ, start_response):
    """Cinder's application, with what follows."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else b""
    begun = []
    environ["wsgi.input"] = io.BytesIO(body)
    with writing:
        answer = b"".join(application(dict(environ), lambda status, headers, error=None: begun.append((status, headers))))
        status, headers = begun[0]
        if environ["REQUEST_METHOD"] != "GET" and status.startswith("2"):
            settle(environ["REQUEST_METHOD"], environ["PATH_INFO"], body, answer)
    start_response(status, headers)
    return [answer]


threading.Thread(target=services, daemon=True).start()

from socketserver import ThreadingMixIn  # noqa: E402
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server  # noqa: E402


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class Handler(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass

    def address_string(self):
        return self.client_address[0]


make_server("127.0.0.1", PORT, judge, Server, Handler).serve_forever()
