"""nvme.py BINARY [CASES]: LVM over the kernel's NVMe target, all in this machine: os-brick attaches, extends and detaches; only hosts that
are connected get in; targets are made again after a restart. CASES: and the conformance suite's cases of attaching."""
import os, pathlib, subprocess, sys, uuid

from service import Service, run, until

binary = sys.argv[1]
tests = pathlib.Path(__file__).resolve().parent.parent
python = tests.parent / ".clients/bin/python"
os.environ["PATH"] = f"{python.parent}:{os.environ['PATH']}:/usr/sbin:/sbin"

for disk, group in zip("bcd", ["one", "two", "three"]):
    run("vgcreate", "-qq", "-y", group, f"/dev/ubd{disk}")
run("mount", "-t", "configfs", "none", "/sys/kernel/config")
configuration = pathlib.Path("/sys/kernel/config/nvmet")

lvm = "volume_driver = lvm\nlvm_type = thin\ntarget_helper = nvmet\ntarget_protocol = nvmet_tcp\ntarget_prefix = openstack\n"
service = Service(binary, "/run/state", backends={
    "one": lvm + "volume_group = one\n",
    # On the same port, with the newer form of the connection information.
    "two": lvm + "volume_group = two\nnvmeof_conn_info_version = 2\n",
    # Would listen elsewhere on a port that others use.
    "three": lvm + "volume_group = three\ntarget_port = 4421\n",
})
service.start()


def in_use():
    return {kind: os.listdir(configuration / kind) for kind in ["subsystems", "ports", "hosts"]}


def connects(info, host):
    command = ["nvme", "connect", "-t", "tcp", "-a", "127.0.0.1", "-s", info["target_port"], "-n", info["nqn"], "-q", host]
    if subprocess.run(command, capture_output=True).returncode != 0:
        return False
    run("nvme", "disconnect", "-n", info["nqn"])
    return True


def attach(identity, host):
    connector = {"host": host, "ip": "127.0.0.1", "nqn": f"nqn.2014-08.org.example:{host}", "multipath": False}
    return service.ask("POST", "/attachments", {"attachment": {
        "volume_uuid": identity, "instance_uuid": str(uuid.uuid4()), "connector": connector}})


try:
    for kind in ["one", "two"]:
        print(run(str(python), str(tests / "Integration/clients/brick.py"), f"http://127.0.0.1:{service.port}", kind), flush=True)
        assert not any(in_use().values()), in_use()

    shown = service.ask("GET", "/scheduler-stats/get_pools?detail=true")[1]["pools"]
    assert {pool["capabilities"]["storage_protocol"] for pool in shown} == {"NVMe-oF"}, shown
    identity = service.create(volume_type="one")
    service.wait(identity, "available")
    assert service.volume(identity)["shared_targets"] is None
    status, answer = service.ask("POST", "/attachments", {"attachment": {
        "volume_uuid": identity, "instance_uuid": str(uuid.uuid4()), "connector": {"host": "here", "ip": "127.0.0.1"}}})
    assert status == 400 and "the connector has no nqn" in str(answer), (status, answer)
    assert service.volume(identity)["status"] == "available"

    status, answer = attach(identity, "here")
    assert status == 200, answer
    info = answer["attachment"]["connection_info"]
    assert info["nqn"] == f"nqn.openstack-{identity}" and info["ns_id"] == "10", info
    assert connects(info, "nqn.2014-08.org.example:here")
    assert not connects(info, "nqn.2014-08.org.example:elsewhere"), "a host that is not connected was let in"

    # As after the machine's restart: the kernel has forgotten all of it.
    subsystem = configuration / "subsystems" / info["nqn"]
    (configuration / "ports/1/subsystems" / info["nqn"]).unlink()
    (subsystem / "allowed_hosts/nqn.2014-08.org.example:here").unlink()
    for path in [subsystem / "namespaces/10", subsystem, configuration / "ports/1", configuration / "hosts/nqn.2014-08.org.example:here"]:
        path.rmdir()
    service.stop()
    service.start()
    until(lambda: connects(info, "nqn.2014-08.org.example:here"), 60, "the target is there again")

    assert service.ask("POST", "/types", {"volume_type": {"name": "three", "extra_specs": {"volume_backend_name": "three"}}})[0] == 200
    other = service.create(volume_type="three")
    service.wait(other, "available")
    assert attach(other, "here")[0] == 500
    assert "choose another nvmet_port_id" in pathlib.Path(service.log).read_text()
    for attachment in service.ask("GET", "/attachments?all_tenants=1")[1]["attachments"]:
        assert service.ask("DELETE", f"/attachments/{attachment['id']}")[0] == 200
    for each in [identity, other]:
        service.wait(each, "available")
        assert service.ask("DELETE", f"/volumes/{each}")[0] == 202
        service.wait(each, None)
    service.check()
except BaseException as error:
    if isinstance(error, subprocess.CalledProcessError):
        print(error.stdout, error.stderr)
    log = pathlib.Path(service.log).read_text().splitlines()
    print("\n".join([line for line in log if " ACCESS " not in line][-40:]), flush=True)
    raise
assert not any(in_use().values()), in_use()
service.stop()

if "CASES" in sys.argv[2:]:
    cases = [name for name in run(binary, "driver", "check", "lvm", "--list").splitlines() if "connect" in name or "export" in name]
    settings = ["volume_group=one", "lvm_type=thin", "target_helper=nvmet"]
    print(run(binary, "driver", "check", "lvm", "--timeout", "300", "--jobs", "1",
              *[word for setting in settings for word in ("--set", setting)], *[word for case in cases for word in ("--case", case)]))
    assert not any(in_use().values()), in_use()
left = [name for name in run("lvs", "--noheadings", "-o", "lv_name").split() if not name.endswith("-pool")]
assert not left, left
print("nvme: good")
