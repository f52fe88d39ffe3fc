#!/usr/bin/env python3
"""A real Cinder's POSIX or NFS backup driver, driven in-process.

Reads one JSON object per line and answers with one. Every call has the "root", the directory with the backups; "backups", those that are
named as parents; maybe "driver", "nfs" for that of NFS, whose share is mounted at the root; and the "backup" it is about: {"id", "volume_id", "parent_id", "container", "service_metadata"}.

    {"do": "backup", "algorithm": ..., "image": PATH, "object_size": bytes, "backup": {...}, "volume_meta": text or null} -> the backup, completed
    {"do": "restore", "image": PATH, "is_new": bool, "backup": {...}} -> {"volume_meta": [...]}, what was given to the volume
    {"do": "names", "backup": {...}} -> {"names": [...]}, what Cinder takes for the backup's objects
    {"do": "delete", "backup": {...}} -> {}
    {"do": "record", "backup": all fields of Cinder's object, "url": a record} -> {"backup_url": ..., "decoded": what the record says}

Of Cinder's drivers for S3 and Swift, with "store": {"kind": "s3" or "swift", "url": ..., "user": ..., "key": ..., "bucket": ...}:

    {"do": "restore_records", "urls": [records, the parents before their children], "image": PATH} -> {}
    {"do": "entries", "prefix": ...} -> {"names": [...]}, what lies in the bucket
"""
import glob
import json
import logging
import os
import resource
import sys
import time
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
out, sys.stdout = sys.stdout, sys.stderr
# What Cinder's drivers ask servers of objects with; behind what Cinder itself is pinned to.
sys.path += glob.glob(os.path.dirname(os.path.abspath(__file__)) + "/../../.objects/lib/python3*/site-packages")

import cinder.db.base  # noqa: E402
from cinder import context, objects  # noqa: E402
from cinder.backup import chunkeddriver  # noqa: E402
from cinder.backup.drivers import nfs, posix  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_utils import timeutils  # noqa: E402

from cinder_backup import Backup  # noqa: E402

CONF = cfg.CONF
CONF([], project="cinder", default_config_files=[])
objects.register_all()
# The driver asks the database for nothing but the volume's size.
cinder.db.base.Base.__init__ = lambda self: None


class Database:
    def volume_get(self, context, id):
        return {"size": 1, "id": id}


known = {}


class Backups:
    @staticmethod
    def get_by_id(context, id):
        return known[id]


chunkeddriver.objects = type("objects", (), {"Backup": Backups})


def made(told, status):
    backup = Backup(parent_id=None, container=None, service_metadata=None, display_name=None, display_description=None,
                    created_at="2026-11-29 17:00:00+00:00", size=1, object_count=0)
    backup.update(told)
    backup["status"] = status
    known[backup["id"]] = backup
    return backup


def driver(root, kind):
    if kind == "nfs":
        # Where it mounts the share, and makes it its group's.
        nfs.NFSBackupDriver._init_backup_repo_path = lambda self: root
        made = nfs.NFSBackupDriver(None)
    else:
        made = posix.PosixBackupDriver(None, backup_path=root)
    made.db = Database()
    made._send_progress_end = made._send_progress_notification = lambda *a: None
    made.enable_progress_timer = False
    return made


def bucket_driver(store):
    if store["kind"] == "s3":
        from cinder.backup.drivers import s3
        options = {"endpoint_url": "url", "store_access_key": "user", "store_secret_key": "key", "store_bucket": "bucket"}
        kind = s3.S3BackupDriver
    else:
        from cinder.backup.drivers import swift
        options = {"auth_url": "url", "user": "user", "key": "key", "container": "bucket"}
        kind = swift.SwiftBackupDriver
        CONF.set_override("backup_swift_auth", "single_user")
    for option, name in options.items():
        CONF.set_override("backup_%s_%s" % (store["kind"], option), store[name])
    made = kind(context.RequestContext("u", "p"))
    made.db = Database()
    made._send_progress_end = made._send_progress_notification = lambda *a: None
    made.enable_progress_timer = False
    made.put_metadata = lambda id, text: None
    return made


def bucket_answer(call):
    driver = bucket_driver(call["store"])
    if call["do"] == "entries":
        try:
            return {"names": sorted(driver.get_container_entries(call["store"]["bucket"], call["prefix"]))}
        except Exception as error:
            # Its driver for S3 stumbles over a page without objects.
            if "NoneType" in str(error):
                return {"names": []}
            raise
    records = [objects.Backup.decode_record(url) for url in call["urls"]]
    names = ("id", "volume_id", "parent_id", "container", "service_metadata")
    backups = [made({name: record.get(name) for name in names}, "available") for record in records]
    backups[-1]["status"] = "restoring"
    with open(call["image"], "r+b") as image:
        driver.restore(backups[-1], "volume", image, True)
    return {}


def answer(call):
    known.clear()
    if "store" in call:
        return bucket_answer(call)
    for told in call.get("backups", []):
        made(told, "available")
    what = call["do"]
    if what == "record":
        fields = dict(call["backup"])
        for name in ("created_at", "updated_at", "deleted_at", "data_timestamp"):
            if fields[name]:
                fields[name] = timeutils.parse_isotime(fields[name])
        record = objects.Backup(context.RequestContext("u", "p"), **fields)
        return {"backup_url": record.encode_record(driver_info={}), "decoded": objects.Backup.decode_record(call["url"])}
    backup = made(call["backup"], {"backup": "creating", "restore": "restoring"}.get(what, "available"))
    CONF.set_override("backup_compression_algorithm", call.get("algorithm", "zlib"))
    CONF.set_override("backup_file_size", call.get("object_size", 61035 * 32768))
    posix_driver = driver(call["root"], call.get("driver", "posix"))
    began, cpu = time.monotonic(), time.process_time()

    def spent():
        return {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu,
                "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}

    if what == "backup":
        posix_driver.get_metadata = lambda id: call.get("volume_meta")
        with open(call["image"], "rb") as image:
            posix_driver.backup(backup, image, backup_metadata=True)
        return dict(backup, **spent())
    if what == "restore":
        told = []
        posix_driver.put_metadata = lambda id, text: told.append(text)
        with open(call["image"], "r+b") as image:
            posix_driver.restore(backup, "volume", image, call["is_new"])
        return dict(spent(), volume_meta=told)
    if what == "names":
        return {"names": posix_driver._generate_object_names(backup)}
    if what == "delete":
        posix_driver.delete_backup(backup)
        return {}
    raise ValueError(what)


for line in sys.stdin:
    try:
        said = answer(json.loads(line))
    except Exception as error:  # what Cinder says of it is the answer
        said = {"error": "%s: %s" % (type(error).__name__, error)}
    print(json.dumps(said), file=out, flush=True)
