"""brick.py URL KIND: os-brick attaches a volume of the type KIND to this machine: iSCSI with CHAP or NVMe over TCP by the kernel's
initiators, or librbd. A filesystem is made and written, the volume is extended while it is attached, and detached."""
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

os.environ.setdefault("OSLO_LOCK_PATH", "/run")  # os-brick reads it when it is imported

from os_brick.initiator import connector as brick
from os_brick.privileged import default as privileged

url, kind = sys.argv[1:3]
project = "0123456789abcdef0123456789abcdef"
privileged.set_client_mode(False)  # this is root already


def ask(method, path, body=None):
    headers = {"X-Auth-Token": f"admin:{project}", "OpenStack-API-Version": "volume 3.71", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v3/{project}{path}", data, headers, method=method)) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def wait(identity, status):
    for _ in range(600):
        try:
            found = ask("GET", f"/volumes/{identity}")["volume"]["status"]
        except urllib.error.HTTPError:
            found = None
        if found == status:
            return
        time.sleep(0.1)
    raise SystemExit(f"{identity} is {found}, not {status}")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if not any(found["name"] == kind for found in ask("GET", "/types")["volume_types"]):
    ask("POST", "/types", {"volume_type": {"name": kind, "extra_specs": {"volume_backend_name": kind}}})
volume = ask("POST", "/volumes", {"volume": {"size": 1, "volume_type": kind, "name": f"brick-{kind}"}})["volume"]["id"]
wait(volume, "available")
properties = brick.get_connector_properties("sudo", "127.0.0.1", multipath=False, enforce_multipath=False)
attachment = ask("POST", "/attachments", {"attachment": {"volume_uuid": volume, "instance_uuid": str(uuid.uuid4()), "connector": properties}})
identity, info = attachment["attachment"]["id"], attachment["attachment"]["connection_info"]
transport = info["driver_volume_type"]
connector = brick.InitiatorConnector.factory(transport.upper(), "sudo", use_multipath=False, device_scan_attempts=10, conn=info)
device = connector.connect_volume(info)
ask("POST", f"/attachments/{identity}/action", {"os-complete": {}})
wait(volume, "in-use")

if transport == "rbd":
    file = device["path"]
    words = os.urandom(1 << 20)
    file.write(words)
    file.flush()
    file.seek(0)
    assert file.read(1 << 20) == words, "other bytes came back"
    connector.disconnect_volume(info, device)
else:
    path = device["path"]
    run("mkfs.ext4", "-q", path)
    mount = pathlib.Path(f"/run/brick-{kind}")
    mount.mkdir()
    run("mount", path, str(mount))
    words = os.urandom(1 << 20)
    (mount / "words").write_bytes(words)
    run("umount", str(mount))

    # Without udev nobody makes the link that os-brick looks for.
    link = transport == "iscsi" and pathlib.Path(f"/dev/disk/by-path/ip-{info['target_portal']}-iscsi-{info['target_iqn']}-lun-{info['target_lun']}")
    if link and not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.realpath(path))

    # Larger while it is attached: seen after the initiator has looked again.
    ask("POST", f"/volumes/{volume}/action", {"os-extend": {"new_size": 2}})
    wait(volume, "in-use")
    size = connector.extend_volume(info)
    assert size == 2 << 30, f"the initiator sees {size} bytes"
    run("e2fsck", "-f", "-p", path)
    run("resize2fs", path)
    run("mount", path, str(mount))
    assert (mount / "words").read_bytes() == words, "other bytes came back"
    run("umount", str(mount))
    connector.disconnect_volume(info, device)
    if transport == "iscsi":
        assert subprocess.run(["iscsiadm", "-m", "session"], capture_output=True).returncode != 0, "a session is left"
    else:
        assert not list(pathlib.Path("/sys/class/nvme").iterdir()), "a connection is left"

ask("DELETE", f"/attachments/{identity}")
wait(volume, "available")
ask("DELETE", f"/volumes/{volume}")
wait(volume, None)
print(f"brick: {kind} done")
