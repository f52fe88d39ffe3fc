"""hostile.py URL CEPH_CONF EXPORT CONTENTS KIND=FORMAT...: volumes into which guests wrote what looks like images (qcow2, vmdk, vhd, vhdx, luks
and more, with backing and data files that lead elsewhere) go through every flow of every backend. They must keep their bytes, be told with
the format that is theirs, and nobody may open the files that their contents name. Each kind is a volume type of its name; FORMAT
is what its new volumes are. They are moved from the first kind to each other; behind the kinds whose whole life is tried stands a
'*'. CEPH_CONF is the cluster's, EXPORT the directory that the NFS server exports as /export. CONTENTS is how many of the contents are
tried, and which is first: 3+17."""
import concurrent.futures
import ctypes
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

project = "0123456789abcdef0123456789abcdef"
url, ceph, export = sys.argv[1:4]
wanted, first = map(int, sys.argv[4].split("+"))
formats = dict(kind.rstrip("*").split("=") for kind in sys.argv[5:])
kinds, lives = list(formats), [kind.split("=")[0] for kind in sys.argv[5:] if kind.endswith("*")]
work = pathlib.Path(tempfile.mkdtemp(prefix="clinker-hostile-"))
length, gibibyte = 1 << 20, 1 << 30


def ask(method, path, body=None):
    headers = {"X-Auth-Token": f"admin:{project}", "OpenStack-API-Version": "volume 3.71", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v3/{project}{path}", json.dumps(body).encode() if body is not None else None, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {path}: {error.code} {error.read()[:500]}")


def until(what, *, kind="volumes", ids, **members):
    """All of them have the members' values; gone where none is given."""
    limit = time.monotonic() + 120
    while True:
        found = {item["id"]: item for item in ask("GET", f"/{kind}/detail")[kind]}
        if all((found[i] | {"id": i}).items() >= members.items() if members and i in found else not members and i not in found for i in ids):
            return found
        failed = [item for i, item in found.items() if i in ids and item["status"].startswith("error")]
        if failed or time.monotonic() > limit:
            raise SystemExit(f"{what}: {failed or [found.get(i) for i in ids]}")
        time.sleep(0.02)


# MARK: contents

canary = work / "canary"
canary.write_bytes(b"the secret of another" * 4096)


def image(name, *options, size="64M", base=None):
    path = work / name
    subprocess.run(["qemu-img", "create", "-q", *options, *([str(base)] if base else []), str(path), size], check=True, capture_output=True)
    return path.read_bytes()[:length]


def patched(data, *changes):
    data = bytearray(data)
    for offset, piece in changes:
        data[offset : offset + len(piece)] = piece
    return bytes(data)


def whole():
    path = work / "whole"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "300M"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 512k", str(path)], check=True)
    return path.read_bytes()


def plain(*changes):
    return patched(image("plain", "-f", "qcow2"), *changes)


most = b"\xff" * 8
shutil.copy(canary, work / "canary.data")
subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", str(work / "canary.vmdk"), "64M"], check=True)
(work / "key").write_text("secret")
flat = '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 131072 FLAT "%s" 0\n' % canary
leading = ["-F", "raw", "-b", str(canary)]
json_name = 'json:{"driver":"raw","file":{"driver":"file","filename":"%s"}}' % canary
makers = {
    "qcow2": whole,
    "qcow2 with a backing file": lambda: image("backed", "-f", "qcow2", *leading),
    "qcow2 with a backing file beside it": lambda: image("beside", "-u", "-f", "qcow2", "-F", "raw", "-b", "canary"),
    "qcow2 with a backing file of no format": lambda: patched(image("guessed", "-f", "qcow2", *leading), (112, bytes(16))),
    "qcow2 with a json backing file": lambda: image("json", "-u", "-f", "qcow2", "-F", "raw", "-b", json_name),
    "qcow2 with a data file": lambda: image("outside", "-f", "qcow2", "-o", f"data_file={work}/canary.data,data_file_raw=on"),
    "qcow2 of many bytes": lambda: plain((24, most)),
    "qcow2 with a backing file at the end of all": lambda: plain((8, most), (16, b"\xff" * 4)),
    "qcow2 with tables elsewhere": lambda: plain((36, b"\x00\x3f\xff\xff"), (40, most), (48, most)),
    "qcow with a backing file": lambda: image("qcow", "-f", "qcow", *leading),
    "qed with a backing file": lambda: image("qed", "-f", "qed", *leading),
    "vmdk with a flat extent": flat.encode,
    "vmdk with a parent": lambda: image("vmdk", "-f", "vmdk", "-F", "vmdk", "-b", str(work / "canary.vmdk")),
    "vhd": lambda: image("vhd", "-f", "vpc"),
    "vhdx": lambda: image("vhdx", "-f", "vhdx"),
    "vdi": lambda: image("vdi", "-f", "vdi"),
    "luks": lambda: image("luks", "-f", "luks", "--object", f"secret,id=key,file={work}/key", "-o", "key-secret=key,iter-time=10"),
}
names = [list(makers)[(first + index) % len(makers)] for index in range(min(wanted, len(makers)))]
contents = {name: makers[name]()[:length].ljust(length, b"\0") for name in names}
# Where a relative name would lead. A gibibyte: as long as a raw volume, which no listing looks into.
beside = [pathlib.Path(export, "canary")] if export != "-" else []
for path in beside:
    path.touch()
    os.truncate(path, gibibyte)


class Watcher:
    """Does anybody open one of the files, or read of one beside ours? There the NFS server opens what it lists (inotify: IN_OPEN,
    IN_ACCESS)."""

    def __init__(self, paths):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.names = {self.libc.inotify_add_watch(self.descriptor, str(path).encode(), 1 if path in beside else 0x20): str(path) for path in paths}
        assert -1 not in self.names, ctypes.get_errno()

    def opened(self):
        try:
            data = os.read(self.descriptor, 1 << 16)
        except BlockingIOError:
            return []
        found, position = [], 0
        while position < len(data):
            watch, _, _, more = struct.unpack_from("iIII", data, position)
            found.append(self.names[watch])
            position += 16 + more
        return found


watcher = Watcher([canary, work / "canary.data", work / "canary.vmdk", *beside])


# MARK: what a guest does

class Place:
    """Where the volume is for one who is connected: as its attachment says."""

    def __init__(self, volume, format, name):
        connector = {"host": "here", "ip": "127.0.0.1", "initiator": "iqn.2008-11.org.linux-kvm", "multipath": False}
        self.attachment = ask("POST", "/attachments", {"attachment": {"volume_uuid": volume, "connector": connector}})["attachment"]
        self.volume = volume
        info = self.attachment["connection_info"]
        kind, self.format = info["driver_volume_type"], info.get("format", "raw")
        if kind == "local":
            self.path = info["device_path"]
        elif kind == "rbd":
            self.path = f"rbd:{info['name']}:id={info['auth_username']}:conf={ceph}"
        elif kind == "nfs":
            folder = info["export"].split(":", 1)[1]
            assert folder.startswith("/export"), info
            self.path = f"{export}{folder.removeprefix('/export')}/{info['name']}"
        elif kind == "iscsi":
            self.path = f"iscsi://{info['auth_username']}%{info['auth_password']}@{info['target_portal']}/{info['target_iqn']}/{info['target_lun']}"
        if self.format != format:
            raise SystemExit(f"{name}: its format is told as {self.format}, and it is {format}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        ask("DELETE", f"/attachments/{self.attachment['id']}")

    def write(self, data):
        file = work / f"written-{threading.get_ident()}"
        file.write_bytes(data)
        tail = f"write -q -s {file} {gibibyte - 65536} 64k"
        subprocess.run(["qemu-io", "-f", self.format, "-c", f"write -q -s {file} 0 {len(data)}", "-c", tail, self.path], check=True)

    def read(self, skip, count):
        command = ["qemu-img", "dd", "-f", self.format, "-O", "raw", "bs=64k", f"skip={skip >> 16}", f"count={(skip + count) >> 16}"]
        file = work / f"read-{threading.get_ident()}"
        subprocess.run([*command, f"if={self.path}", f"of={file}"], check=True, capture_output=True)
        return file.read_bytes()[:count]


def told(volumes, kind, *, other=0, format=None, what):
    """Each holds its content (`other`: that of the one so many behind it)."""
    for index, (name, volume) in enumerate(zip(names, volumes)):
        data = contents[names[(index + other) % len(names)]]
        with Place(volume, format or formats[kind], f"{kind}: {name}: {what}") as place:
            for skip, expected in [(0, data), (gibibyte - 65536, data[:65536])]:
                if place.read(skip, len(expected)) != expected:
                    raise SystemExit(f"{kind}: {name}: {what}: its bytes at {skip} are not what its guest wrote")
    opened = watcher.opened()
    if opened:
        raise SystemExit(f"{kind}: {what}: somebody opened {set(opened)}")
    until(what, ids=volumes, status="available")


def write(volumes, kind, *, other=0, format=None):
    for index, (name, volume) in enumerate(zip(names, volumes)):
        with Place(volume, format or formats[kind], f"{kind}: {name}: written") as place:
            place.write(contents[names[(index + other) % len(names)]])
    until("written", ids=volumes, status="available")


def action(volumes, name, body):
    for volume in volumes:
        ask("POST", f"/volumes/{volume}/action", {name: body(volume) if callable(body) else body})


def create(kind, sources=None, **fields):
    bodies = [{"size": 1, "volume_type": kind, **{key: value for key in fields for value in [fields[key][index]]}} for index in range(len(names))]
    ids = [ask("POST", "/volumes", {"volume": body})["volume"]["id"] for body in bodies]
    until(f"{kind}: create", ids=ids, status="available")
    return ids


def delete(ids, kind="volumes"):
    for i in ids:
        ask("DELETE", f"/{kind}/{i}")
    until("delete", kind=kind, ids=ids)


# MARK: the flows

def life(kind):
    volumes = create(kind)
    write(volumes, kind)
    told(volumes, kind, what="as it was written")
    clones = create(kind, source_volid=volumes)
    told(clones, kind, what="the clone")
    delete(clones)
    snapshots = [ask("POST", "/snapshots", {"snapshot": {"volume_id": volume}})["snapshot"]["id"] for volume in volumes]
    until(f"{kind}: snapshot", kind="snapshots", ids=snapshots, status="available")
    # On NFS what is written now goes to a qcow2 file of its own.
    format = "qcow2" if kind in ["nfs", "qcow2"] else None
    told(volumes, kind, format=format, what="with a snapshot")
    write(volumes, kind, other=1, format=format)
    told(volumes, kind, other=1, format=format, what="written anew")
    copies = create(kind, snapshot_id=snapshots)
    told(copies, kind, what="the volume of its snapshot")
    delete(copies)
    action(volumes, "revert", lambda volume: {"snapshot_id": snapshots[volumes.index(volume)]})
    until(f"{kind}: revert", ids=volumes, status="available")
    told(volumes, kind, format=format, what="reverted")
    write(volumes, kind, other=1, format=format)
    delete(snapshots, "snapshots")
    told(volumes, kind, other=1, what="without its snapshot")
    write(volumes, kind)
    action(volumes, "os-extend", {"new_size": 2})
    until(f"{kind}: extend", ids=volumes, status="available", size=2)
    told(volumes, kind, what="extended")
    delete(manage(volumes, kind))


def manage(volumes, kind):
    """Left to themselves, and taken over again."""
    host = until("host", ids=volumes, status="available")[volumes[0]]["os-vol-host-attr:host"]
    action(volumes, "os-unmanage", {})
    until(f"{kind}: unmanage", ids=volumes)
    body = lambda volume: {"host": host, "volume_type": kind, "ref": {"source-name": f"volume-{volume}"}}
    volumes = [ask("POST", "/os-volume-manage", {"volume": body(volume)})["volume"]["id"] for volume in volumes]
    until(f"{kind}: manage", ids=volumes, status="available", size=2)
    told(volumes, kind, what="taken over")
    return volumes


def travel():
    """From the first kind to each, and back."""
    at = kinds[0]
    volumes = create(at)
    write(volumes, at)
    for to in [*kinds[1:], at]:
        action(volumes, "os-retype", {"new_type": to, "migration_policy": "on-demand"})
        found = until(f"{at} to {to}", ids=volumes, status="available", volume_type=to)
        assert all(found[i]["os-vol-mig-status-attr:name_id"] is None for i in volumes), "a volume has another's name"
        told(volumes, to, what=f"moved from {at}")
        at = to
    delete(volumes)


try:
    known = [each["name"] for each in ask("GET", "/types")["volume_types"]]
    for kind in set(kinds).difference(known):
        ask("POST", "/types", {"volume_type": {"name": kind, "extra_specs": {"volume_backend_name": kind}}})
    # The moves beside the lives: most of both is waiting for copies.
    def one_after_the_other(acts):
        for act in acts:
            begun = time.monotonic()
            life(act) if act else travel()
            print(f"hostile: {act or 'moves'}: {time.monotonic() - begun:.1f} s", flush=True)

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        running = [threads.submit(one_after_the_other, acts) for acts in (lives, [None])]
    for one in running:
        one.result()
    # The watcher sees.
    canary.read_bytes()
    assert watcher.opened() == [str(canary)]
    print("hostile: done")
finally:
    for path in beside:
        path.unlink()
    shutil.rmtree(work)
