"""copying.py BINARY: seconds of a copy of 2 GiB of dense data between two volume groups, by dd with direct I/O and by a volume's
move to another type; the middle of three pairs, as two numbers."""
import os, pathlib, re, sys, time

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
SIZE = 2
volume = service.create(volume_type="one", size=SIZE)
service.wait(volume, "available")


def path(group):
    name = f"volume-{volume}"
    run("lvchange", "-ay", "-K", f"{group}/{name}")
    return f"/dev/mapper/{group}-{name.replace('-', '--')}"


with open(path("one"), "r+b") as device:
    for _ in range(SIZE << 10):
        device.write(os.urandom(1 << 20))
    device.flush()
    os.fsync(device.fileno())
for group in ("one", "two"):
    run("lvcreate", "-y", "-L", f"{SIZE}g", "-n", "plain", group)


def moved(kind):
    """Seconds of the copy, as the log tells: without LVM's commands, each of which takes half a second here."""
    status, answer = service.ask("POST", f"/volumes/{volume}/action", {"os-retype": {"new_type": kind, "migration_policy": "on-demand"}})
    assert status == 202, answer
    while True:
        # There is one processor: who asks too often is in the way.
        time.sleep(1)
        found = service.volume(volume)
        if found["status"] == "available" and found["volume_type"] == kind:
            break
    return float(re.findall(r"copied.* seconds=([0-9.]+)", pathlib.Path(service.log).read_text())[-1])


def plain(source, group):
    start = time.monotonic()
    run("dd", f"if={source}", f"of=/dev/mapper/{group}-plain", "bs=4M", "iflag=direct", "oflag=direct", "conv=fsync", "status=none")
    return time.monotonic() - start


pairs = []
for here, there in (("one", "two"), ("two", "one"), ("one", "two")):
    pairs.append((plain(path(here), there), moved(there)))
    print(f"to {there}: dd {pairs[-1][0]:.3f}, copy {pairs[-1][1]:.3f}", flush=True)
theirs, mine = sorted(pairs, key=lambda pair: pair[0] / pair[1])[1]
print(f"seconds {theirs:.3f} {mine:.3f}")
