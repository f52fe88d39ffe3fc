#!/usr/bin/env python3
"""A real Cinder's Ceph backup driver, driven in-process on a real cluster.

Reads one JSON object per line and answers with one. Every call has "conf", the configuration of Ceph; the "backup" it is about: {"id",
"volume_id", "parent_id", "service_metadata", "size"}, and "parent" with the same where it is an increment.

    {"do": "backup", "backup": {...}, "volume_meta": text} -> {"record": the backup's record, "service_metadata": ...}, of volumes/volume-ID
    {"do": "restore", "image": the name of an image in volumes, "size": GiB, "is_new": bool, "backup": {...}} -> {"volume_meta": [...]}
    {"do": "delete", "backup": {...}} -> {}
"""
import json
import logging
import sys
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
out, sys.stdout = sys.stdout, sys.stderr
# Debian's modules of Ceph; behind what Cinder itself is pinned to.
sys.path.append("/usr/lib/python3/dist-packages")

import cinder.db.base  # noqa: E402
import rbd  # noqa: E402
from cinder import context, objects  # noqa: E402
from cinder.backup.drivers import ceph  # noqa: E402
from os_brick.initiator import linuxrbd  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_utils import timeutils  # noqa: E402

from cinder_backup import Backup  # noqa: E402

CONF = cfg.CONF
CONF([], project="cinder", default_config_files=[])
objects.register_all()
# The driver asks the database for nothing but the volume's size and name.
cinder.db.base.Base.__init__ = lambda self: None
who = context.RequestContext("u", "p")


class Volume(dict):
    __getattr__ = dict.__getitem__


def made(told):
    backup = Backup(parent_id=None, parent=None, container="backups", service_metadata=None, snapshot_id=None, size=1)
    backup.update(told)
    return backup


def record(backup):
    now = timeutils.utcnow(with_timezone=True)
    fields = {
        "id": backup.id, "user_id": "u", "project_id": "p", "volume_id": backup.volume_id, "host": "h", "availability_zone": "nova",
        "container": backup.container, "parent_id": backup.parent_id, "status": "available", "size": backup.size,
        "display_name": "Cinder's", "service_metadata": backup.service_metadata, "object_count": 0,
        "service": "cinder.backup.drivers.ceph.CephBackupDriver", "data_timestamp": now, "created_at": now}
    for name in objects.Backup.fields:
        fields.setdefault(name, {} if name == "metadata" else None)
    for name in ("deleted", "num_dependent_backups"):
        fields[name] = 0
    fields = {name: value for name, value in fields.items() if name in objects.Backup.fields and name != "parent"}
    return objects.Backup(who, **fields).encode_record(driver_info={})


def answer(call):
    for option, value in (("conf", call["conf"]), ("user", "cinder-backup"), ("pool", "backups")):
        CONF.set_override("backup_ceph_" + option, value)
    backup = made(call["backup"])
    if call.get("parent"):
        backup.parent = made(call["parent"])
    driver = ceph.CephBackupDriver(who)
    name = call.get("image") or "volume-" + backup.volume_id
    size = call.get("size") or backup.size
    target = name.partition("volume-")[2]
    driver.db = type("Database", (), {"volume_get": lambda self, c, id: Volume(id=target, name=name, size=size)})()
    if call["do"] == "delete":
        driver.delete_backup(backup)
        return {}
    told = []
    driver.get_metadata = lambda id: call.get("volume_meta")
    driver.put_metadata = lambda id, text: told.append(text)
    with linuxrbd.RBDClient("cinder", "volumes", conffile=call["conf"]) as client:
        if call["do"] == "restore" and call["is_new"]:
            rbd.RBD().create(client.ioctx, name, size << 30, old_format=False)
        image = rbd.Image(client.ioctx, name)
        volume = linuxrbd.RBDVolumeIOWrapper(linuxrbd.RBDImageMetadata(image, "volumes", "cinder", call["conf"]))
        try:
            if call["do"] == "backup":
                backup.update(driver.backup(backup, volume, backup_metadata=True) or {})
                return {"record": record(backup), "service_metadata": backup.service_metadata}
            if call["do"] == "restore":
                driver.restore(backup, target, volume, call["is_new"])
                return {"volume_meta": told}
        finally:
            volume.close()
    raise ValueError(call["do"])


for line in sys.stdin:
    try:
        said = answer(json.loads(line))
    except Exception as error:  # what Cinder says of it is the answer
        said = {"error": "%s: %s" % (type(error).__name__, error)}
    print(json.dumps(said), file=out, flush=True)
