"""faults.py BINARY SEED [SCENARIO...]: hosts of LVM that are killed in the middle of long work, groups, pools, targets and shares
that are missing, full, busy or read-only. Each ends in a documented state, which the next call repairs."""
import hashlib, os, pathlib, random, signal, socket, subprocess, sys, time

from service import Service, run, start_nfs, start_tgtd, until

binary, seed = sys.argv[1], int(sys.argv[2])
wanted = sys.argv[3:]
tests = pathlib.Path(__file__).resolve().parent.parent
os.environ["PATH"] += ":/usr/sbin:/sbin"
numbers = random.Random(seed)

for disk, group in zip("bcd", ["thin", "thick", "tiny"]):
    run("vgcreate", "-qq", "-y", group, f"/dev/ubd{disk}")
run("mkfs.ext4", "-q", "-m", "0", "/dev/ubde")
run("mount", "/dev/ubde", "/mnt")
run("mkfs.ext4", "-q", "-m", "0", "/dev/ubdf")
pathlib.Path("/run/nfs").mkdir()
run("mount", "/dev/ubdf", "/run/nfs")
start_nfs("/run/nfs")
tgtd = start_tgtd()
lvm = "volume_driver = lvm\ntarget_ip_address = 127.0.0.1\nvolume_clear_size = 64\n"
service = Service(binary, "/mnt/state", backends={
    "thin": lvm + "volume_group = thin\nlvm_type = thin\nreport_discard_supported = true\nlvm_share_target = true\n",
    "thick": lvm + "volume_group = thick\nlvm_type = default\niscsi_write_cache = off\niscsi_target_flags = direct\n",
    "tiny": lvm + "volume_group = tiny\nlvm_type = thin\n",
    "file": "volume_driver = file\nfile_directory = /mnt/files\n",
    "nfs": "volume_driver = nfs\nnfs_shares_config = /run/nfs/shares\nmax_over_subscription_ratio = 100\n",
})
service.start()
for kind in ["thin", "thick", "tiny", "file", "nfs"]:
    assert service.ask("POST", "/types", {"volume_type": {"name": kind, "extra_specs": {"volume_backend_name": kind}}})[0] == 200


def shared():
    """What lies in the share, but for Cinder's sign that its files are their owner's alone."""
    return [name for name in os.listdir("/run/nfs/export") if name != ".cinderSecureEnvIndicator"]


def device(kind, name):
    return f"/dev/mapper/{kind}-{name.replace('-', '--')}"


def fill(path, mebibytes):
    with open(path, "r+b") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())


def digest(path):
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def snapshot_is_gone(identity):
    return service.ask("GET", f"/snapshots/{identity}")[0] == 404


def action(identity, name, **fields):
    status, answer = service.ask("POST", f"/volumes/{identity}/action", {name: fields or None})
    assert status == 202, answer


def delete(*volumes):
    for identity in volumes:
        if service.volume(identity)["status"] == "error_deleting":
            action(identity, "os-force_delete")
            continue
        status, answer = service.ask("DELETE", f"/volumes/{identity}")
        assert status == 202, answer
    for identity in volumes:
        service.wait(identity, None, 120)


def logged(*words):
    text = pathlib.Path(service.log).read_text()
    assert all(word in text for word in words), [line for line in text.splitlines() if " ACCESS " not in line][-20:]


def moved(identity, kind):
    """Asks for the move, and whether the volume has come there."""
    action(identity, "os-retype", new_type=kind, migration_policy="on-demand")
    time.sleep(0.2)
    service.wait(identity, "available", 180)
    return service.volume(identity)["volume_type"] == kind


def processes(*names):
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"clinker") and len(words) > 1 and words[1].decode() in names:
            found.append(int(folder.name))
    return found


def kill_some():
    for _ in range(3):
        time.sleep(numbers.uniform(0.1, 2))
        for pid in processes("driver-host", "transfer"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def kills(kind):
    source = service.create(volume_type=kind)
    service.wait(source, "available")
    fill(device(kind, f"volume-{source}"), 48)
    right = digest(device(kind, f"volume-{source}"))
    for _ in range(2):
        snapshot = service.ask("POST", "/snapshots", {"snapshot": {"volume_id": source}})[1]["snapshot"]["id"]
        until(lambda: service.ask("GET", f"/snapshots/{snapshot}")[1]["snapshot"]["status"] == "available", 60, "the snapshot")
        restored, clone = service.create(snapshot_id=snapshot), service.create(source_volid=source)
        kill_some()
        for identity in (restored, clone):
            service.wait(identity, "available", 180)
            run("lvchange", "-ay", "-K", f"{kind}/volume-{identity}")
            assert digest(device(kind, f"volume-{identity}")) == right, f"{kind}: other bytes in {identity}"
        action(clone, "os-retype", new_type="file", migration_policy="on-demand")
        assert service.ask("DELETE", f"/snapshots/{snapshot}")[0] == 202
        assert service.ask("DELETE", f"/volumes/{restored}")[0] == 202
        kill_some()
        until(lambda: snapshot_is_gone(snapshot), 120, "the snapshot's end")
        service.wait(restored, None, 120)
        service.wait(clone, "available", 180)
        assert service.volume(clone)["volume_type"] == "file" and digest(f"/mnt/files/volume-{clone}") == right
        delete(clone)
    assert digest(device(kind, f"volume-{source}")) == right
    delete(source)
    left = [name for name in run("lvs", "--noheadings", "-o", "lv_name", kind).split() if not name.endswith("-pool")]
    assert not left, left


def thin_kills():
    kills("thin")


def thick_kills():
    kills("thick")


def free(kind):
    pools = service.ask("GET", "/scheduler-stats/get_pools?detail=true")[1]["pools"]
    return next(pool["capabilities"]["free_capacity_gb"] for pool in pools if f"@{kind}#" in pool["name"])


def missing_group():
    # Capacities are read once a minute.
    until(lambda: free("thick") > 4, 120, "the room that was deleted is seen")
    kept = service.create(volume_type="thick")
    service.wait(kept, "available")
    run("vgchange", "-an", "thick")
    run("vgrename", "thick", "away")
    lost = service.create(volume_type="thick")
    service.wait(lost, "error", 120)
    assert service.ask("GET", f"/messages?resource_uuid={lost}")[1]["messages"]
    # A deletion waits for its storage, however long.
    assert service.ask("DELETE", f"/volumes/{kept}")[0] == 202
    until(lambda: "tried again and again: lvs: Cannot process volume group thick" in open(service.log).read(), 120, "the deletion waits")
    assert service.volume(kept)["status"] == "deleting"
    run("vgrename", "away", "thick")
    service.wait(kept, None, 120)
    made = service.create(volume_type="thick")
    service.wait(made, "available")
    delete(made, lost)


def full_pool():
    """A thin pool promises more than it has."""
    filler = service.create(volume_type="tiny")
    service.wait(filler, "available")
    path = device("tiny", f"volume-{filler}")
    with open(path, "r+b") as file:
        try:
            for _ in range(1024):
                file.write(os.urandom(1 << 20))
                file.flush()
                os.fsync(file.fileno())
            raise SystemExit("the pool took more than it has")
        except OSError:
            pass
    source = service.create(volume_type="file")
    service.wait(source, "available")
    fill(f"/mnt/files/volume-{source}", 64)
    right = digest(f"/mnt/files/volume-{source}")
    assert not moved(source, "tiny"), "it went into a full pool"
    assert digest(f"/mnt/files/volume-{source}") == right
    delete(filler)
    until(lambda: moved(source, "tiny"), 120, "the move when there is room")
    run("lvchange", "-ay", "-K", f"tiny/volume-{source}")
    assert digest(device("tiny", f"volume-{source}")) == right
    delete(source)


def busy_device():
    for kind in ["thin", "thick"]:
        identity = service.create(volume_type=kind)
        service.wait(identity, "available")
        run("lvchange", "-ay", "-K", f"{kind}/volume-{identity}")
        with open(device(kind, f"volume-{identity}"), "rb"):
            assert service.ask("DELETE", f"/volumes/{identity}")[0] == 202
            service.wait(identity, "available")
        delete(identity)
    logged("is open")


def foreign_snapshot():
    """What the operator made of a volume is not removed with it: not a thick snapshot of his, nor what rests on a snapshot of ours."""
    for kind in ["thick", "thin"]:
        identity = service.create(volume_type=kind)
        service.wait(identity, "available")
        fill(device(kind, f"volume-{identity}"), 4)
        right = digest(device(kind, f"volume-{identity}"))
        run("lvcreate", "-qq", "-y", "-s", "-kn", "-n", "backup-of-tonight", *(["-L", "64M"] if kind == "thick" else []), f"{kind}/volume-{identity}")
        status, answer = service.ask("DELETE", f"/volumes/{identity}")
        assert status == 202, answer
        if kind == "thick":
            service.wait(identity, "available")
            assert digest(device(kind, f"volume-{identity}")) == right
        else:
            # A thin one is a volume of its own.
            service.wait(identity, None)
        if kind == "thin":
            run("lvchange", "-ay", "-K", f"{kind}/backup-of-tonight")
        assert digest(device(kind, "backup-of-tonight")) == right, f"{kind}: the operator's snapshot holds other bytes"
        if kind == "thick":
            # Nor can it become a volume, which would go with another one.
            listed = service.ask("GET", "/manageable_volumes/detail?host=node@thick")[1]["manageable-volumes"]
            entry = next(each for each in listed if each["reference"]["source-name"] == "backup-of-tonight")
            assert not entry["safe_to_manage"] and "snapshot of" in entry["reason_not_safe"], entry
        run("lvremove", "-f", f"{kind}/backup-of-tonight")
        if kind == "thick":
            delete(identity)


def wait_until_it_hangs():
    """Until a host waits in the kernel for a device that is suspended."""
    def waiting():
        tasks = [task for pid in processes("driver-host") for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
        return {task for task in tasks if (task / "stat").read_text().rsplit(")", 1)[1].split()[0] == "D"}

    def hangs():
        found = waiting()
        for _ in range(20):
            time.sleep(0.1)
            found &= waiting()
        return found

    until(hangs, 60, "a host hangs")


def half_wiped():
    """A volume whose content is gone, wholly or in part, is never available again."""
    identity = service.create(volume_type="thick")
    service.wait(identity, "available")
    path = device("thick", f"volume-{identity}")
    run("lvchange", "-ay", "-K", f"thick/volume-{identity}")
    fill(path, 4)
    run("dmsetup", "suspend", "--nolockfs", path)
    assert service.ask("DELETE", f"/volumes/{identity}")[0] == 202
    wait_until_it_hangs()
    # Somebody opens it before it can be removed.
    run("dmsetup", "resume", path)
    with open(path, "rb") as file:
        service.wait(identity, "error_deleting")
        assert not any(file.read(1 << 20)), "nothing was wiped"
        # Still open when it is deleted again: that would be busy, were it whole.
        action(identity, "os-force_delete")
        time.sleep(0.2)
        service.wait(identity, "error_deleting")
    logged("it is wiped, wholly or in part")
    delete(identity)


def growing():
    """A volume grows under an initiator of user space, which goes on writing."""
    for kind in ["thin", "thick"]:
        identity = service.create(volume_type=kind)
        service.wait(identity, "available")
        status, answer = attach(identity)
        assert status == 200, answer
        attachment, info = answer["attachment"]["id"], answer["attachment"]["connection_info"]
        assert service.ask("POST", f"/attachments/{attachment}/action", {"os-complete": {}})[0] == 204
        url = f"iscsi://{info['auth_username']}%{info['auth_password']}@{info['target_portal']}/{info['target_iqn']}/{info['target_lun']}"
        writer = subprocess.Popen(["qemu-io", "-f", "raw", "-n", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        writes = 0
        for size in [2, 3]:
            action(identity, "os-extend", new_size=size)
            while service.volume(identity)["status"] != "in-use":
                for _ in range(4):
                    writer.stdin.write(f"write -P {1 + writes % 200} {writes % 512 * 65536} 64k\n")
                    writer.stdin.flush()
                    writes += 1
                time.sleep(0.02)
        said, _ = writer.communicate(f"read -P {1 + (writes - 1) % 200} {(writes - 1) % 512 * 65536} 64k\nquit\n", timeout=120)
        failed = [line for line in said.splitlines() if "fail" in line.lower() or "error" in line.lower()]
        assert not failed and said.count("wrote 65536/65536") == writes and "read 65536/65536" in said, said[-3000:]
        shown = subprocess.run(["qemu-img", "info", "--output=json", url], capture_output=True, text=True, timeout=60).stdout
        assert f'"virtual-size": {3 << 30}' in shown, shown
        print(f"growing: {kind}: {writes} writes, none failed", flush=True)
        assert service.ask("DELETE", f"/attachments/{attachment}")[0] == 200
        service.wait(identity, "available")
        delete(identity)


def secrets():
    """Nobody reads a password in the list of processes."""
    identity = service.create(volume_type="thin")
    service.wait(identity, "available")
    trace = pathlib.Path("/run/tgtadm-trace")
    wrapper = pathlib.Path("/usr/local/sbin/tgtadm")
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {trace}\nexec /usr/sbin/tgtadm "$@"\n')
    wrapper.chmod(0o755)
    try:
        status, answer = attach(identity)
        assert status == 200, answer
    finally:
        wrapper.unlink()
    info = answer["attachment"]["connection_info"]
    assert info["discard"] is True, info
    assert "--mode target --op new" in trace.read_text()
    assert info["auth_password"] not in trace.read_text(), trace.read_text()
    assert reads(info, info["auth_password"])
    assert service.ask("DELETE", f"/attachments/{answer['attachment']['id']}")[0] == 200
    service.wait(identity, "available")
    delete(identity)


def hung_device():
    """A host that hangs in the kernel, where no signal reaches it, keeps its own backend waiting and nobody else's, and no new service from serving."""
    gone = service.create(volume_type="thick")
    service.wait(gone, "available")
    path = device("thick", f"volume-{gone}")
    run("lvchange", "-ay", f"thick/volume-{gone}")
    run("dmsetup", "suspend", "--nolockfs", path)
    assert service.ask("DELETE", f"/volumes/{gone}")[0] == 202

    wait_until_it_hangs()
    # The core ends with its supervisor.
    service.process.kill()
    service.process.wait()
    until(lambda: not service.answers(), 60, "the core ends, too")
    service.backends -= 1
    service.start()
    service.backends += 1
    made = service.create(volume_type="thick")
    for kind in ["file", "thin"]:
        identity = service.create(volume_type=kind)
        service.wait(identity, "available")
        delete(identity)
    until(lambda: "what was begun for it earlier still runs: clinker (" in pathlib.Path(service.log).read_text(), 10, "it says what it waits for")
    assert service.volume(gone)["status"] == "deleting" and service.volume(made)["status"] == "creating"
    run("dmsetup", "resume", path)
    service.wait(made, "available")
    until(lambda: service.volume(gone) is None, 60, "the volume is deleted")
    delete(made)


def attach(identity):
    connector = {"host": "node", "ip": "127.0.0.1", "initiator": "iqn.2026-11.test:node", "multipath": False, "platform": "x86_64", "os_type": "linux"}
    return service.ask("POST", "/attachments", {"attachment": {"volume_uuid": identity, "instance_uuid": "9f2a6d35-6cc5-4a7c-9c07-3a3e0a2c1d11", "connector": connector}})


def stopped_target():
    global tgtd
    identity = service.create(volume_type="thin")
    service.wait(identity, "available")
    tgtd.kill()
    tgtd.wait()
    status, answer = attach(identity)
    assert status == 500 and "Unable to create attachment" in str(answer), (status, answer)
    tgtd = start_tgtd()
    for attachment in service.ask("GET", f"/attachments?volume_id={identity}")[1]["attachments"]:
        assert service.ask("DELETE", f"/attachments/{attachment['id']}")[0] == 200
    until(lambda: service.volume(identity)["status"] == "available", 30, "the volume is free")
    status, answer = attach(identity)
    assert status == 200, answer
    # tgtd forgets everything when it ends; the service's start makes the target again, with the same credentials.
    info = answer["attachment"]["connection_info"]
    tgtd.kill()
    tgtd.wait()
    tgtd = start_tgtd()
    service.stop()
    service.start()
    until(lambda: reads(info, info["auth_password"]), 60, "the target is there again")
    assert service.ask("DELETE", f"/attachments/{answer['attachment']['id']}")[0] == 200
    delete(identity)


def reads(info, password):
    url = f"iscsi://{info['auth_username']}%{password}@{info['target_portal']}/{info['target_iqn']}/{info['target_lun']}"
    return subprocess.run(["qemu-img", "info", url], capture_output=True, timeout=60).returncode == 0


def wrong_password():
    identity = service.create(volume_type="thin")
    service.wait(identity, "available")
    status, answer = attach(identity)
    assert status == 200, answer
    info = answer["attachment"]["connection_info"]
    assert not reads(info, info["auth_password"][::-1]), "a wrong password was let in"
    assert not reads({**info, "auth_username": "somebody"}, info["auth_password"]), "a wrong user was let in"
    assert reads(info, info["auth_password"])
    assert service.ask("DELETE", f"/attachments/{answer['attachment']['id']}")[0] == 200
    delete(identity)


def full_share():
    source = service.create(volume_type="file")
    service.wait(source, "available")
    fill(f"/mnt/files/volume-{source}", 96)
    right = digest(f"/mnt/files/volume-{source}")
    filler = pathlib.Path("/run/nfs/export/filler")
    free = os.statvfs("/run/nfs").f_bavail * os.statvfs("/run/nfs").f_frsize
    run("fallocate", "-l", str(free - (32 << 20)), str(filler))
    assert not moved(source, "nfs"), "it went onto a full share"
    assert digest(f"/mnt/files/volume-{source}") == right
    assert shared() == ["filler"], shared()
    filler.unlink()
    until(lambda: moved(source, "nfs"), 120, "the move when there is room")
    assert digest(f"/run/nfs/export/volume-{source}") == right
    delete(source)


def export_again(access):
    run("bash", str(tests / "Storage/nfs"), "stop", "/run/nfs")
    start_nfs("/run/nfs", access)


def read_only_share():
    kept = service.create(volume_type="nfs")
    service.wait(kept, "available")
    export_again("RO")
    made = service.create(volume_type="nfs")
    service.wait(made, "error")
    assert service.ask("GET", f"/messages?resource_uuid={made}")[1]["messages"]
    assert service.ask("DELETE", f"/volumes/{kept}")[0] == 202
    service.wait(kept, "error_deleting")
    export_again("RW")
    delete(kept, made)
    again = service.create(volume_type="nfs")
    service.wait(again, "available")
    delete(again)
    logged("ROFS")


scenarios = [thin_kills, thick_kills, missing_group, full_pool, busy_device, foreign_snapshot, half_wiped, hung_device, stopped_target, wrong_password, growing, secrets, full_share,
             read_only_share]
for scenario in scenarios:
    if wanted and scenario.__name__ not in wanted:
        continue
    begun = time.monotonic()
    try:
        scenario()
    except BaseException:
        log = pathlib.Path(service.log).read_text().splitlines()
        print("\n".join([line for line in log if " ACCESS " not in line][-40:]), flush=True)
        raise
    service.settle()
    service.check()
    print(f"{scenario.__name__}: good, {time.monotonic() - begun:.0f} s", flush=True)
assert "Target " not in run("tgtadm", "--lld", "iscsi", "--mode", "target", "--op", "show")
assert not os.listdir("/mnt/files") and not shared()
print("faults: good")
