#!/usr/bin/env python3
"""disks.py BINARY: the database's disk full and read-only, the volumes' disk full, and the clock set by an hour.

Disks: ubdb for the state, ubdc for the volumes, both small.
"""
import os, subprocess, sys, time

from service import Service, run, until


def mount(device, where):
    run("mkfs.ext4", "-q", "-N", "64" if device == "/dev/ubdc" else "4096", device)
    os.makedirs(where)
    run("mount", "-o", "errors=remount-ro", device, where)


def fill(path):
    """Takes every free byte."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    os.sync()


def lives(service):
    """The service does everything again."""
    identity = service.create()
    service.wait(identity, "available")
    service.ask("POST", f"/volumes/{identity}/action", {"os-extend": {"new_size": 2}})
    service.wait(identity, "available")
    assert service.volume(identity)["size"] == 2
    service.ask("DELETE", f"/volumes/{identity}")
    service.wait(identity, None)


def database_full(service):
    kept = service.create()
    service.wait(kept, "available")
    fill("/run/state/filler")
    answers = []
    for _ in range(40):
        status, answer = service.ask("POST", "/volumes", {"volume": {"size": 1}})
        answers.append(status)
        assert status in (202, 503), f"{status} {answer}"
        if status == 503:
            assert "cannot be written now" in answer["serviceUnavailable"]["message"], answer
    assert 503 in answers, "the disk was never full"
    assert service.volume(kept)["status"] == "available"
    assert service.ask("GET", "/volumes/detail")[0] == 200
    status, answer = service.ask("DELETE", f"/volumes/{kept}")
    assert status in (202, 503), f"{status} {answer}"
    os.unlink("/run/state/filler")
    until(lambda: service.ask("POST", "/volumes", {"volume": {"size": 1}})[0] == 202, 60, "writes go on when there is room")
    service.settle()
    assert len(service.ask("GET", "/volumes")[1]["volumes"]) >= answers.count(202) + 1, "an accepted volume is lost"
    lives(service)
    service.check()


def database_full_restart(service):
    """A start on a full disk serves what is there, or says in one line why not; with room it goes on."""
    fill("/run/state/filler")
    service.kill()
    with open(service.log, "a") as log:
        process = subprocess.Popen([service.binary, "serve", "--config", service.config, "--state-dir", service.state], stdout=log, stderr=log)
    time.sleep(3)
    os.unlink("/run/state/filler")
    if process.poll() is None:
        service.process = process
        until(lambda: answers(service), 60, "the service answers once there is room")
    else:
        service.start()
    lives(service)
    service.check()


def answers(service):
    try:
        return service.ask("GET", "/scheduler-stats/get_pools")[1].get("pools")
    except OSError:
        return None


def read_only(service):
    """The kernel finds the file system broken and lets nobody write any more."""
    kept = service.create()
    service.wait(kept, "available")
    with open("/sys/fs/ext4/ubdb/trigger_fs_error", "w") as trigger:
        trigger.write("1")
    for _ in range(3):
        status, answer = service.ask("POST", "/volumes", {"volume": {"size": 1}})
        assert status == 503, f"{status} {answer}"
    assert service.volume(kept)["status"] == "available"
    service.kill()
    until(lambda: subprocess.run(["umount", "/run/state"], capture_output=True).returncode == 0, 20, "the disk is let go")
    subprocess.run(["fsck.ext4", "-fy", "/dev/ubdb"], capture_output=True)
    run("mount", "-o", "errors=remount-ro", "/dev/ubdb", "/run/state")
    service.start()
    assert service.volume(kept)["status"] == "available"
    lives(service)
    service.check()


def volumes_full(service):
    source = service.create()
    service.wait(source, "available")
    with open(service.path(source), "r+b") as file:
        file.write(os.urandom(4 << 20))
        os.fsync(file.fileno())
    fill("/run/volumes/filler")
    clone = service.create(source_volid=source)
    service.wait(clone, "error")
    messages = service.ask("GET", f"/messages?resource_uuid={clone}")[1]["messages"]
    assert messages and "could not make the volume" in messages[0]["user_message"], messages
    assert not os.path.exists(service.path(clone)) and not os.path.exists(service.path(clone) + ".partial")
    assert service.volume(source)["status"] == "available"
    os.unlink("/run/volumes/filler")
    service.ask("DELETE", f"/volumes/{clone}")
    service.wait(clone, None)
    lives(service)
    service.check()


def clock(service):
    def services():
        return {s["binary"]: s["state"] for s in service.ask("GET", "/os-services")[1]["services"]}

    for step in (3600, -7200, 3600):
        time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) + step)
        lives(service)
        until(lambda: set(services().values()) == {"up"}, 10, f"heartbeats go on after the clock moved by {step} s")
        pools = service.ask("GET", "/scheduler-stats/get_pools?detail=true")[1]["pools"]
        assert pools, "the pools are gone"
    # Heartbeats come by the second, whatever the clock says.
    seen = set()
    limit = time.monotonic() + 6
    while time.monotonic() < limit:
        seen.add(next(s["updated_at"] for s in service.ask("GET", "/os-services")[1]["services"] if s["binary"] == "cinder-volume"))
        time.sleep(0.2)
    assert len(seen) >= 3, seen
    service.check()


SCENARIOS = (volumes_full, database_full, database_full_restart, clock, read_only)


def main():
    mount("/dev/ubdb", "/run/state")
    mount("/dev/ubdc", "/run/volumes")
    service = Service(sys.argv[1], "/run/state/clinker", volumes="/run/volumes/files")
    service.start()
    for scenario in SCENARIOS:
        try:
            scenario(service)
        except (AssertionError, SystemExit) as problem:
            print("".join(line for line in open(service.log) if " ACCESS " not in line)[-3000:], flush=True)
            raise SystemExit(f"{scenario.__name__}: {problem}")
        print(f"{scenario.__name__}: good", flush=True)


main()
