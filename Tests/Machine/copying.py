"""copying.py BINARY: seconds of a copy of 1 GiB of dense data between two volume groups, by dd with direct I/O and by a volume's
move to another type; the best pair of three, as two numbers."""
import os, subprocess, sys, time

from service import Service, run

os.environ["PATH"] += ":/usr/sbin:/sbin"
for disk, group in zip("bc", ["one", "two"]):
    run("vgcreate", "-qq", "-y", group, f"/dev/ubd{disk}")
run("mount", "-t", "tmpfs", "none", "/mnt")
tgtd = subprocess.Popen(["tgtd", "-f", "-C", "0", "-t", "2", "--iscsi", "portal=127.0.0.1:3260"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
lvm = "volume_driver = lvm\ntarget_ip_address = 127.0.0.1\nvolume_clear = none\nlvm_type = default\n"
service = Service(sys.argv[1], "/mnt/state", backends={group: f"{lvm}volume_group = {group}\n" for group in ("one", "two")})
service.start()
for group in ("one", "two"):
    service.ask("POST", "/types", {"volume_type": {"name": group, "extra_specs": {"volume_backend_name": group}}})
volume = service.create(volume_type="one")
service.wait(volume, "available")
run("lvchange", "-ay", "-K", f"one/volume-{volume}")
source = f"/dev/mapper/one-volume--{volume.replace('-', '--')}"
with open(source, "r+b") as device:
    for _ in range(1 << 10):
        device.write(os.urandom(1 << 20))
    device.flush()
    os.fsync(device.fileno())
run("lvcreate", "-y", "-L", "1g", "-n", "plain", "two")


def moved(kind):
    """Seconds that the transfer works: from its step's start to its end, as the operation tells."""
    status, answer = service.ask("POST", f"/volumes/{volume}/action", {"os-retype": {"new_type": kind, "migration_policy": "on-demand"}})
    assert status == 202, answer
    while True:
        found = service.volume(volume)
        if found["status"] == "available" and found["volume_type"] == kind:
            break
        time.sleep(0.05)
    identity = service.ask("GET", f"/operations?resource_id={volume}&limit=1")[1]["operations"][0]["id"]
    steps = service.ask("GET", f"/operations/{identity}")[1]["operation"]["steps"]
    return sum(step["seconds"] or 0 for step in steps if step["name"] == "copy")


best = None
for _ in range(3):
    open("/proc/sys/vm/drop_caches", "w").write("3")
    start = time.monotonic()
    run("dd", f"if={source}", "of=/dev/mapper/two-plain", "bs=4M", "iflag=direct", "oflag=direct", "conv=fsync", "status=none")
    plain = time.monotonic() - start
    mine = moved("two")
    moved("one")
    run("lvchange", "-ay", "-K", f"one/volume-{volume}")
    if best is None or plain / mine > best[0] / best[1]:
        best = (plain, mine)
print(f"seconds {best[0]:.3f} {best[1]:.3f}")
