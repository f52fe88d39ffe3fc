"""storage.py BINARY [KIND...] [brick] [images]: LVM, thick and thin, over tgt and LIO, beside file and nfs backends, all in this machine: the openstack
command's walk, whose bytes an initiator of user space reads, os-brick's with the kernel's initiator, and images that become volumes and volumes that become images."""
import os, pathlib, subprocess, sys

from service import Service, run, start_nfs, start_tgtd, until

binary = sys.argv[1]
tests = pathlib.Path(__file__).resolve().parent.parent
python = tests.parent / ".clients/bin/python"
os.environ["PATH"] = f"{python.parent}:{os.environ['PATH']}:/usr/sbin:/sbin"

# Three groups, and a disk for the files of the others.
for number, disk in enumerate("bcd"):
    run("vgcreate", "-qq", "-y", ["thin", "thick", "lio"][number], f"/dev/ubd{disk}")
run("mkfs.ext4", "-q", "/dev/ubde")
run("mount", "/dev/ubde", "/mnt")
run("mount", "-t", "configfs", "none", "/sys/kernel/config")
start_tgtd()
start_nfs("/mnt/nfs")

lvm = "volume_driver = lvm\ntarget_ip_address = 127.0.0.1\n"
glance = "http://127.0.0.1:18292"
service = Service(binary, "/mnt/state", options=f"glance_api_servers = {glance}\n", backends={
    "thin": lvm + "volume_group = thin\nlvm_type = thin\n",
    "thick": lvm + "volume_group = thick\nlvm_type = default\n",
    "lio": lvm + "volume_group = lio\nlvm_type = thin\ntarget_helper = lioadm\ntarget_port = 3262\n",
    "file": "volume_driver = file\nfile_directory = /mnt/files\n",
    "nfs": "volume_driver = nfs\nnfs_shares_config = /mnt/nfs/shares\nnfs_snapshot_support = true\n",
})
service.start()
url = f"http://127.0.0.1:{service.port}"


def script(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, flush=True)
    if done.returncode != 0:
        log = pathlib.Path(service.log).read_text().splitlines()
        raise SystemExit("\n".join([line for line in log if " ACCESS " not in line][-40:]))


kinds = [word for word in sys.argv[2:] if word not in ["brick", "images"]]
if kinds:
    script("bash", str(tests / "Integration/clients/backends.sh"), url, "-", "/mnt/nfs/export", *kinds)
    # What guests write into volumes of LVM, and of those that they are moved to.
    lives = [kind + "=raw" + "*" * (kind in ["thin", "thick"]) for kind in kinds]
    script("python3", str(tests / "Integration/clients/hostile.py"), url, "-", "/mnt/nfs/export", "1+1", *lives)
if "brick" in sys.argv[2:]:
    run("iscsid")
for kind in ["thin", "lio"] if "brick" in sys.argv[2:] else []:
    script(str(python), str(tests / "Integration/clients/brick.py"), url, kind)
if "images" in sys.argv[2:]:
    server = subprocess.Popen([str(tests.parent / ".glance/bin/python"), str(tests / "Integration/glance/server.py"), "/mnt/glance", "18292"], stdin=subprocess.PIPE)
    until(lambda: os.path.exists("/mnt/glance/ready"), 180, "Glance")
    made, _ = service.ask("POST", "/types", {"volume_type": {"name": "imaged", "extra_specs": {"volume_backend_name": "thin"}}})
    assert made == 200, made
    script("python3", str(tests / "Integration/clients/images.py"), url, glance, "/mnt/glance/images", "imaged")
    server.kill()

# Nothing is left anywhere.
assert "Target " not in run("tgtadm", "--lld", "iscsi", "--mode", "target", "--op", "show")
assert not [entry for entry in pathlib.Path("/sys/kernel/config/target/iscsi").glob("iqn*")]
assert not list(pathlib.Path("/sys/kernel/config/target/core").glob("iblock_4100/volume-*"))
left = [name for name in run("lvs", "--noheadings", "-o", "lv_name").split() if not name.endswith("-pool")]
assert not left, left
# Cinder's sign that the files of a share are their owner's alone stays.
left = set(os.listdir("/mnt/nfs/export")) - {".cinderSecureEnvIndicator"}
assert not os.listdir("/mnt/files") and not left, left
status, report = service.ask("GET", "/volumes")
assert report["volumes"] == [], report
print(run(binary, "doctor", "--state-dir", "/mnt/state"))
print("storage: good")
