#!/usr/bin/env python3
"""Writes a database in which operations of every flow are stopped in the middle, as SQL.

    make.py CLINKER > schema-N.sql

CLINKER is the program of the release that is kept, with its libClinkerFile.so beside it. Its service is given the driver
Tests/DriverHostTests/Drivers/fault.c, whose calls hang; each operation runs into one of them, and the whole service is killed.
"""
import json, os, shutil, signal, socket, sqlite3, subprocess, sys, tempfile, time, urllib.request

clinker = os.path.abspath(sys.argv[1])
root = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
work = tempfile.mkdtemp(prefix="clinker-kept-")
project = "0123456789abcdef0123456789abcdef"
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]

subprocess.check_call([
    "cc", "-std=c11", "-fPIC", "-shared", "-I", root + "/Sources/CDriver/include", "-o", work + "/clinker-fault.so",
    root + "/Tests/DriverHostTests/Drivers/fault.c", "-ldl"])
open(work + "/faults", "w").close()
with open(work + "/clinker.conf", "w") as file:
    file.write(f"""[DEFAULT]
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = {port}
auth_strategy = noauth
host = node
enabled_backends = fault,plain
quota_volumes = -1
quota_gigabytes = -1
quota_snapshots = -1
[fault]
volume_driver = {work}/clinker-fault.so
wrapped = {os.path.dirname(clinker)}/libClinkerFile.so
faults = {work}/faults
file_directory = {work}/volumes
driver_call_timeout = 3600
backend_native_threads_pool_size = 100
[plain]
volume_driver = file
""")
log = open(work + "/log", "w")
service = subprocess.Popen(
    [clinker, "serve", "--config", work + "/clinker.conf", "--state-dir", work + "/state"], stdout=log, stderr=log,
    start_new_session=True)


def api(method, path, body=None, wait=30):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v3/{project}{path}", json.dumps(body).encode() if body is not None else None,
        {"X-Auth-Token": f"admin:{project}", "Content-Type": "application/json", "OpenStack-API-Version": "volume 3.60"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=wait) as answer:
            text = answer.read()
            return json.loads(text) if text else {}
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {path}: {error.code} {error.read()}")
    except TimeoutError:
        return {}


def until(what, condition):
    limit = time.monotonic() + 30
    while not condition():
        if time.monotonic() > limit:
            raise SystemExit(f"{what} did not come about; see {work}/log")
        time.sleep(0.05)


def up():
    try:
        return len(api("GET", "/scheduler-stats/get_pools")["pools"]) == 2
    except (urllib.error.URLError, ConnectionError):
        return False


def volume(**fields):
    made = api("POST", "/volumes", {"volume": {"size": 1, "volume_type": "faulty", **fields}})["volume"]["id"]
    until(f"volume {made}", lambda: api("GET", f"/volumes/{made}")["volume"]["status"] == "available")
    return made


def snapshot(of):
    made = api("POST", "/snapshots", {"snapshot": {"volume_id": of}})["snapshot"]["id"]
    until(f"snapshot {made}", lambda: api("GET", f"/snapshots/{made}")["snapshot"]["status"] == "available")
    return made


def act(identifier, name, body, wait=30):
    return api("POST", f"/volumes/{identifier}/action", {name: body}, wait)


connector = {"host": "compute-1", "initiator": "iqn.kept", "ip": "192.0.2.1"}


def attach(identifier, wait=30):
    return api("POST", "/attachments", {"attachment": {"volume_uuid": identifier, "connector": connector}}, wait)


try:
    until("the service", up)
    for name, backend in [("faulty", "fault"), ("faulty again", "fault"), ("plain", "plain")]:
        made = api("POST", "/types", {"volume_type": {"name": name}})["volume_type"]["id"]
        api("POST", f"/types/{made}/extra_specs", {"extra_specs": {"volume_backend_name": backend}})

    # What the operations are about.
    sources = {name: volume(name=name) for name in [
        "source", "deleted", "cascade", "extended", "connected", "disconnected", "attached", "detached", "snapshot", "less", "reverted",
        "unmanaged", "managed snapshot", "forgotten snapshot", "moved away", "restored", "undone"]}
    sources["migrated"] = volume(name="migrated", volume_type="__DEFAULT__")
    for name in ["moved in", "copied in", "renamed"]:
        sources[name] = volume(name=name, volume_type="plain")
    taken = {name: snapshot(sources[name]) for name in ["cascade", "less", "reverted", "managed snapshot", "forgotten snapshot"]}
    act(sources["disconnected"], "os-initialize_connection", {"connector": connector})
    api("POST", f"/attachments/{attach(sources['restored'])['attachment']['id']}/action", {"os-complete": {}})
    with open(work + "/faults", "w") as file:
        file.write("ensure_export hang 1000\n")
    core = [int(pid) for pid in open(f"/proc/{service.pid}/task/{service.pid}/children").read().split()]
    for pid in core:
        os.kill(pid, signal.SIGKILL)
    time.sleep(3)
    until("the service", up)
    detached = attach(sources["detached"])["attachment"]["id"]
    api("POST", f"/attachments/{detached}/action", {"os-complete": {}})
    api("POST", f"/snapshots/{taken['managed snapshot']}/action", {"os-unmanage": {}})
    until("the snapshot to be forgotten", lambda: len(api("GET", "/snapshots")["snapshots"]) == 4)
    with open(work + "/volumes/legacy", "w") as file:
        file.truncate(1 << 30)

    with open(work + "/state/volumes/plain/volume-" + sources["copied in"], "r+") as file:
        file.write("what is copied")

    hanging = ["ensure_export hang 1000\n"]

    def stop(call, ask, action="hang"):
        """Has a call hang, and asks for something that makes it."""
        hanging.append(f"{call} {action} 1000\n")
        with open(work + "/faults", "w") as file:
            file.writelines(hanging)
        ask()
        time.sleep(1.5)

    def retype(name, to):
        act(sources[name], "os-retype", {"new_type": to, "migration_policy": "on-demand"})

    # Each call hangs from here on: what comes later must not need those that came before.
    stop("rename_volume", lambda: retype("renamed", "faulty"))
    stop("write", lambda: retype("copied in", "faulty"))
    stop("extend_volume", lambda: act(sources["extended"], "os-extend", {"new_size": 3}))
    stop("create_snapshot", lambda: api("POST", "/snapshots", {"snapshot": {"volume_id": sources["snapshot"]}}))
    stop("revert_to_snapshot", lambda: act(sources["reverted"], "revert", {"snapshot_id": taken["reverted"]}))
    stop("delete_snapshot", lambda: api("DELETE", f"/snapshots/{taken['less']}"))
    stop("delete_snapshot", lambda: api("DELETE", f"/volumes/{sources['cascade']}?cascade=true"))
    stop("unmanage_snapshot", lambda: api(
        "POST", f"/snapshots/{taken['forgotten snapshot']}/action", {"os-unmanage": {}}))
    stop("manage_snapshot", lambda: api("POST", "/manageable_snapshots", {"snapshot": {
        "volume_id": sources["managed snapshot"], "ref": {"source-name": "snapshot-" + taken["managed snapshot"]}}}))
    stop("manage_volume", lambda: api("POST", "/manageable_volumes", {"volume": {
        "host": "node@fault", "volume_type": "faulty", "ref": {"source-name": "legacy"}}}))
    stop("unmanage_volume", lambda: act(sources["unmanaged"], "os-unmanage", {}))
    stop("connect_volume", lambda: act(
        sources["connected"], "os-initialize_connection", {"connector": connector}, wait=2))
    stop("connect_volume", lambda: attach(sources["attached"], wait=2))
    stop("disconnect_volume", lambda: act(
        sources["disconnected"], "os-terminate_connection", {"connector": connector}, wait=2))
    stop("disconnect_volume", lambda: api("DELETE", f"/attachments/{detached}", wait=2))
    stop("delete_volume", lambda: retype("moved away", "plain"))
    # The making fails, and its taking back hangs.
    stop("clone_volume", lambda: api("POST", "/volumes", {"volume": {
        "size": 1, "name": "undone", "source_volid": sources["undone"]}}), action="1!")
    stop("delete_volume", lambda: api("DELETE", f"/volumes/{sources['deleted']}"))
    stop("create_volume", lambda: retype("moved in", "faulty"))
    host = api("GET", f"/volumes/{sources['migrated']}")["volume"]["os-vol-host-attr:host"]
    stop("create_volume", lambda: act(
        sources["migrated"], "os-migrate_volume", {"host": "node@plain#files" if "fault" in host else "node@fault#files"}))
    stop("create_volume", lambda: api("POST", "/volumes", {"volume": {
        "size": 1, "name": "created", "volume_type": "faulty"}}))
    # Waits for another operation on its volume.
    api("POST", "/snapshots", {"snapshot": {"volume_id": sources["source"]}})
    unfinished = api("GET", "/operations?unfinished=true&all_tenants=1")["operations"]
    print(f"{len(unfinished)} operations of {len({o['flow'] for o in unfinished})} flows", file=sys.stderr)
finally:
    # The rest ends with its supervisor.
    service.kill()
    service.wait()
    time.sleep(2)

database = sqlite3.connect([os.path.join(path, name) for path, _, names in os.walk(work + "/state") for name in names
                            if name.endswith((".sqlite", ".db", "clinker.sqlite3"))][0])
database.execute("DELETE FROM events")
for line in database.iterdump():
    print(line.replace(work, "/storage"))
database.close()
shutil.rmtree(work)
