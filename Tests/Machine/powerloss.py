#!/usr/bin/env python3
"""powerloss.py BINARY POINTS SEED: power cuts on a device with a volatile cache, and what is there afterwards.

dm-log-writes (https://docs.kernel.org/admin-guide/device-mapper/log-writes.html) records every write and every flush of the
file system that holds the database and the volumes, and a mark for every answer that a client got. A power cut at a point of
that record leaves all that was flushed before it, and of the writes since then any part: chosen by the seed. Each such disk is
mounted, the service started on it, and everything acknowledged before the point must be there.

Backups are in the repository's format or in Cinder's, by the seed, below the state directory: what was told available can be restored.

Disks: ubdb the file system, ubdc the record, ubdd the disk after the cut, ubde what a check of it changes.
"""
import hashlib, json, os, random, struct, subprocess, sys, threading, time

from service import Service, run, until

FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
SECTOR = 512


def backup_options(seed):
    return f"backup_driver = posix\nbackup_format = {('repository', 'cinder')[seed % 2]}"


def workload(binary, options):
    """Clients' lives on the recorded device; returns the list of (what is now certain) in the order of the marks."""
    sectors = int(run("blockdev", "--getsz", "/dev/ubdb"))
    run("dmsetup", "create", "recorded", "--table", f"0 {sectors} log-writes /dev/ubdb /dev/ubdc")
    run("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "/dev/mapper/recorded")
    os.makedirs("/run/disk", exist_ok=True)
    run("mount", "/dev/mapper/recorded", "/run/disk")
    run("sync")
    certain = []
    lock = threading.Lock()

    def mark(*fact):
        with lock:
            certain.append(fact)
            run("dmsetup", "message", "recorded", "0", f"mark {len(certain)}")

    service = Service(binary, "/run/disk/state", options=options)
    service.start()
    mark("serving")

    def client(number):
        pattern = (f"data of client {number} " * 4000).encode()
        source = service.create(name=f"source {number}")
        mark("created", source)
        service.wait(source, "available")
        mark("available", source, 1)
        with open(service.path(source), "r+b") as file:
            file.write(pattern)
            file.flush()
            os.fsync(file.fileno())
        for turn in range(4):
            service.ask("POST", f"/volumes/{source}/metadata", {"metadata": {"turn": str(turn)}})
            mark("turn", source, turn)
            if number == 0 and turn % 2 == 0:
                # A full backup, then an increment.
                with open(service.path(source), "r+b") as file:
                    file.seek(turn << 20)
                    file.write(pattern)
                    file.flush()
                    os.fsync(file.fileno())
                    file.seek(0)
                    content = file.read((turn << 20) + len(pattern))
                backup = service.back_up(source, incremental=turn > 1)
                service.wait_backup(backup, "available")
                mark("backed up", backup, hashlib.sha256(content).hexdigest(), len(content))
            clone = service.create(source_volid=source)
            mark("created", clone)
            service.wait(clone, "available")
            mark("cloned", clone, hashlib.sha256(pattern).hexdigest(), len(pattern))
            service.ask("POST", f"/volumes/{clone}/action", {"os-extend": {"new_size": 2}})
            service.wait(clone, "available")
            mark("available", clone, 2)
            status, answer = service.ask("POST", "/attachments", {"attachment": {"volume_uuid": clone, "connector": {"host": "h"}}})
            attachment = answer["attachment"]["id"]
            mark("attached", clone, attachment)
            if turn % 2:
                # From here on it may be there or not, until an answer says so.
                mark("leaving", clone)
                service.ask("DELETE", f"/attachments/{attachment}")
                service.ask("DELETE", f"/volumes/{clone}")
                mark("deleted", clone)
                service.wait(clone, None)
                mark("gone", clone)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    service.kill()
    run("umount", "/run/disk")
    run("dmsetup", "remove", "recorded")
    return certain


def record():
    """The entries of the record: (flags, sector, sectors, offset of the data, mark)."""
    entries = []
    with open("/dev/ubdc", "rb") as log:
        magic, version, count, size = struct.unpack("<QQQI", log.read(28))
        assert magic == 0x6A736677736872 and version == 1, "no record"
        offset = size
        for _ in range(count):
            log.seek(offset)
            head = log.read(size)
            sector, sectors, flags, length = struct.unpack("<QQQQ", head[:32])
            offset += size
            if flags & MARK:
                name = head[32:32 + length].rstrip(b"\0")
                entries.append((flags, 0, 0, 0, int(name) if name.isdigit() else None))
                continue
            entries.append((flags, sector, sectors, offset, None))
            if not flags & DISCARD:
                offset += sectors * SECTOR
    return entries


class Disk:
    """The disk as the record leaves it, and a throw-away copy on top of it."""

    def __init__(self):
        self.log = open("/dev/ubdc", "rb")
        self.sectors = int(run("blockdev", "--getsz", "/dev/ubdd"))

    def apply(self, path, entries):
        with open(path, "r+b") as device:
            for flags, sector, sectors, offset, _ in entries:
                if flags & (MARK | DISCARD) or not sectors:
                    continue
                self.log.seek(offset)
                device.seek(sector * SECTOR)
                device.write(self.log.read(sectors * SECTOR))
            device.flush()
            os.fsync(device.fileno())

    def copy(self):
        run("dd", "if=/dev/zero", "of=/dev/ubde", "bs=4k", "count=4", "conv=fsync")
        run("dmsetup", "create", "cut", "--table", f"0 {self.sectors} snapshot /dev/ubdd /dev/ubde N 8")
        return "/dev/mapper/cut"


def verify(service, facts):
    """What was certain at the cut holds after it."""
    final = {}
    backups = [details for kind, *details in facts if kind == "backed up"]
    facts = [fact for fact in facts if fact[0] != "backed up"]
    for kind, *details in facts:
        if kind == "serving":
            continue
        state = final.setdefault(details[0], {"deleted": False, "size": 1, "attachments": set()})
        if kind == "available":
            state["size"] = details[1]
            state["available"] = True
        elif kind == "cloned":
            state["available"] = True
            state["data"] = details[1:]
        elif kind == "turn":
            state["turn"] = details[1]
        elif kind == "attached":
            state["attachments"].add(details[1])
        elif kind == "leaving":
            state["leaving"] = True
        elif kind == "deleted":
            state["deleted"] = True
    service.settle()
    for identity, state in final.items():
        volume = service.volume(identity)
        if state["deleted"]:
            assert volume is None, f"{identity} is there again"
            continue
        # What had not been answered yet may have happened.
        if volume is None:
            assert state.get("leaving"), f"{identity} is lost"
            continue
        assert volume["status"] in ("available", "in-use", "attaching"), f"{identity} is {volume['status']}"
        assert volume["size"] >= state["size"], f"{identity} shrank to {volume['size']}"
        assert os.stat(service.path(identity)).st_size == volume["size"] << 30, f"{identity} has another size in its backend"
        if "turn" in state:
            assert int(volume["metadata"]["turn"]) >= state["turn"], f"{identity} lost metadata"
        if "data" in state:
            with open(service.path(identity), "rb") as file:
                assert hashlib.sha256(file.read(state["data"][1])).hexdigest() == state["data"][0], f"{identity} lost data"
        have = {a["id"] for a in service.ask("GET", f"/attachments?volume_id={identity}")[1]["attachments"]}
        assert state["attachments"] <= have or state.get("leaving"), f"{identity} lost {state['attachments'] - have}"
    for identity, _, _ in backups:
        backup = service.backup(identity)
        assert backup and backup["status"] == "available", f"backup {identity} is {backup}"
    # The last one: what it rests on is read, too.
    for identity, digest, length in backups[-1:]:
        with open(service.path(service.restore(identity)), "rb") as file:
            assert hashlib.sha256(file.read(length)).hexdigest() == digest, f"backup {identity} comes back as something else"
    service.check()
    return len(backups[-1:])


def main():
    binary, points, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    generator = random.Random(seed)
    options = backup_options(seed)
    certain = workload(binary, options)
    entries = record()
    first = next(index for index, entry in enumerate(entries) if entry[4] == 1)
    cuts = sorted(generator.sample(range(first, len(entries)), min(points, len(entries) - first)))
    print(f"{len(entries)} entries, {len(certain)} answers, seed {seed}", flush=True)
    disk = Disk()
    flushed = dropped = restored = 0
    for cut in cuts:
        durable = max(index for index in range(cut + 1) if entries[index][0] & FLUSH)
        disk.apply("/dev/ubdd", entries[flushed:durable + 1])
        flushed = durable + 1
        rest = [e for e in entries[durable + 1:cut + 1] if e[1:3] != (0, 0)]
        kept = [e for e in rest if e[0] & FUA or generator.random() < 0.5]
        dropped += len(rest) - len(kept)
        facts = certain[:max((e[4] for e in entries[:cut + 1] if e[4]), default=0)]
        path = disk.copy()
        disk.apply(path, kept)
        os.makedirs("/run/cut", exist_ok=True)
        run("mount", path, "/run/cut")
        service = Service(binary, "/run/cut/state", options=options)
        try:
            service.start()
            restored += verify(service, facts)
        except (AssertionError, SystemExit) as problem:
            print("".join(line for line in open(service.log) if " ACCESS " not in line)[-3000:], flush=True)
            raise SystemExit(f"power cut at entry {cut} of seed {seed}, after {len(facts)} answers: {problem}")
        service.kill()
        os.unlink(service.log)
        run("umount", "/run/cut")
        run("dmsetup", "remove", "cut")
    print(f"{len(cuts)} power cuts, {dropped} writes dropped, {restored} backups restored: everything acknowledged was there", flush=True)


main()
