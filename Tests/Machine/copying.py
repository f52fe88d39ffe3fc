"""copying.py BINARY: seconds of a copy of 1 GiB of dense data between two volume groups, by dd with direct I/O and by a volume's
move to another type; the better of two pairs, as two numbers."""
import os, sys, time

from service import Service, run, start_tgtd

os.environ["PATH"] += ":/usr/sbin:/sbin"
for disk, group in zip("bc", ["one", "two"]):
    # The disks are files with holes: what is written first is slower than what is written again.
    run("dd", "if=/dev/zero", f"of=/dev/ubd{disk}", "bs=4M", "count=1500", "oflag=direct", "conv=fsync", "status=none")
    run("vgcreate", "-qq", "-y", group, f"/dev/ubd{disk}")
run("mount", "-t", "tmpfs", "none", "/mnt")
start_tgtd()
lvm = "volume_driver = lvm\ntarget_ip_address = 127.0.0.1\nvolume_clear = none\nlvm_type = default\n"
service = Service(sys.argv[1], "/mnt/state", backends={group: f"{lvm}volume_group = {group}\n" for group in ("one", "two")})
service.start()
for group in ("one", "two"):
    service.ask("POST", "/types", {"volume_type": {"name": group, "extra_specs": {"volume_backend_name": group}}})
sizes = (1, 2)
volumes = {}


def path(group, size):
    name = f"volume-{volumes[size]}"
    run("lvchange", "-ay", "-K", f"{group}/{name}")
    return f"/dev/mapper/{group}-{name.replace('-', '--')}"


for size in sizes:
    volumes[size] = service.create(volume_type="one", size=size)
    service.wait(volumes[size], "available")
    with open(path("one", size), "r+b") as device:
        for _ in range(size << 10):
            device.write(os.urandom(1 << 20))
        device.flush()
        os.fsync(device.fileno())
for group in ("one", "two"):
    run("lvcreate", "-y", "-L", "2g", "-n", "plain", group)


def moved(size, kind):
    """Seconds of the copy, as the operation tells."""
    volume = volumes[size]
    status, answer = service.ask("POST", f"/volumes/{volume}/action", {"os-retype": {"new_type": kind, "migration_policy": "on-demand"}})
    assert status == 202, answer
    while True:
        # There is one processor: who asks too often is in the way.
        time.sleep(1)
        found = service.volume(volume)
        if found["status"] == "available" and found["volume_type"] == kind:
            break
    identity = service.ask("GET", f"/operations?resource_id={volume}&limit=1")[1]["operations"][0]["id"]
    steps = service.ask("GET", f"/operations/{identity}")[1]["operation"]["steps"]
    return sum(step["seconds"] or 0 for step in steps if step["name"] == "copy")


def plain(source, group):
    start = time.monotonic()
    run("dd", f"if={source}", f"of=/dev/mapper/{group}-plain", "bs=4M", "iflag=direct", "oflag=direct", "conv=fsync", "status=none")
    return time.monotonic() - start


# Here LVM's commands, of which a copy needs some before it begins, take half a second each: the difference of two sizes is without.
best = None
for here, there in (("one", "two"), ("two", "one")):
    theirs = [plain(path(here, size), there) for size in sizes]
    mine = [moved(size, there) for size in sizes]
    pair = (theirs[1] - theirs[0], mine[1] - mine[0])
    print(f"to {there}: dd {theirs}, copy {mine}", flush=True)
    if best is None or pair[0] / pair[1] > best[0] / best[1]:
        best = pair
print(f"seconds {best[0]:.3f} {best[1]:.3f}")
