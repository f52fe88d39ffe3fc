"""What volumes on Ceph and NFS cost beside what their libraries cost a C program: the part of the bench that needs real storage."""
import os, pathlib, socket, subprocess, tempfile, time

import backends, bench

HERE = pathlib.Path(__file__).resolve().parent


def snapshot(service, volume):
    made = backends.ask(service, "POST", "/snapshots", {"snapshot": {"volume_id": volume}})["snapshot"]["id"]
    while service.get(f"/snapshots/{made}")["snapshot"]["status"] != "available":
        time.sleep(0.002)
    return made


def clone(service, source):
    made = backends.ask(service, "POST", "/volumes", {"volume": {"size": 1, "snapshot_id": source}})["volume"]["id"]
    while service.get(f"/volumes/{made}")["volume"]["status"] != "available":
        time.sleep(0.002)
    return made


def calls(service, kind, times):
    """Milliseconds of a volume, a snapshot, a volume of the snapshot; what was made."""
    spent, made = [0, 0, 0], []
    for _ in range(times):
        start = time.monotonic()
        volume = backends.volume(service, kind, 1)
        created = time.monotonic()
        # As the C program does, for the monitor's sake.
        time.sleep(0.2)
        begun = time.monotonic()
        moment = snapshot(service, volume)
        taken = time.monotonic()
        made.append((volume, moment, clone(service, moment)))
        for index, seconds in enumerate((created - start, taken - begun, time.monotonic() - taken)):
            spent[index] += seconds * 1000 / times
    return spent, made


def confine(pids, processors):
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), processors)


def rbd(binary, directory, ceph, times, report):
    conf = f"{ceph}/ceph.conf"
    subprocess.run(["cc", "-O2", "-o", f"{directory}/bench-rbd", HERE / "rbd.c", "-lrbd", "-lrados", "-lpthread"], check=True)
    plain = subprocess.Popen([f"{directory}/bench-rbd", conf, "cinder", "volumes", str(times)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    bare = [float(word) for word in plain.stdout.readline().split()]
    theirs = bench.pss([plain.pid])
    service = bench.Service(
        binary, f"{directory}/rbd-state", backends="file,rbd",
        sections=f"[rbd]\nvolume_driver = rbd\nrbd_ceph_conf = {conf}\nrbd_pool = volumes\nrbd_user = cinder\n")
    for name in ("file", "rbd"):
        backends.ask(service, "POST", "/types", {"volume_type": {"name": name, "extra_specs": {"volume_backend_name": name}}})
    while len(service.get("/scheduler-stats/get_pools")["pools"]) < 2:
        time.sleep(0.1)
    hosts = [pid for pid in service.pids() if "rbd" in pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")]
    mine = bench.pss(hosts)
    report("memory of a driver host connected to Ceph", f"{mine - theirs:.1f} MB more than a C program with librbd ({theirs:.1f} MB)", "<= 15 MB", mine - theirs <= 15)
    control, _ = calls(service, "file", times)
    spent, made = calls(service, "rbd", times)
    for index, name in enumerate(("create", "snapshot", "volume of a snapshot")):
        limit = 1.5 * bare[index] + control[index]
        report(f"rbd: {name} until done", f"{spent[index]:.1f} ms (librbd alone {bare[index]:.1f}, the file driver {control[index]:.1f})", f"<= {limit:.1f} ms", spent[index] <= limit)

    # A page must not wait for storage: one asked for every 4 ms.
    request = f"GET /v3/{bench.PROJECT}/volumes/{made[0][0]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def slowest(seconds):
        connection = socket.create_connection(("127.0.0.1", service.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waited, begun = [], time.perf_counter()
        for number in range(250 * seconds):
            time.sleep(max(0, begun + number / 250 - time.perf_counter()))
            start = time.perf_counter()
            connection.sendall(request)
            connection.recv(65536)
            waited.append(time.perf_counter() - start)
        connection.close()
        return sorted(waited)[len(waited) * 99 // 100] * 1000

    # Ceph has a processor, and Clinker with who asks it the other, as if each had a machine; what a C program's snapshots cost a show
    # is told, too.
    processors = sorted(os.sched_getaffinity(0))
    cluster = [int(path.parent.name) for path in pathlib.Path("/proc").glob("[0-9]*/comm") if path.read_text().startswith("ceph-")]
    ours = [*service.pids(), plain.pid, os.getpid()]
    confine(cluster, processors[-1:])
    confine(ours, processors[:1])
    pairs = []
    for _ in range(7):
        quiet = slowest(2)
        for index in range(100):
            backends.ask(service, "POST", "/snapshots", {"snapshot": {"volume_id": made[index % len(made)][2]}})
        busy = slowest(2)
        while service.get("/snapshots?status=creating&limit=1")["snapshots"]:
            time.sleep(0.2)
        plain.stdin.write("\n")
        plain.stdin.flush()
        pairs.append((busy / quiet, slowest(2) / quiet, busy, quiet))
        plain.stdout.readline()
    confine(cluster + ours, processors)
    plain.stdin.close()
    ratio, _, busy, quiet = sorted(pairs)[len(pairs) // 2]
    theirs = sorted(pair[1] for pair in pairs)[len(pairs) // 2]
    report(
        "p99 of a show while 100 snapshots are taken on rbd",
        f"{ratio:.2f} x ({busy:.2f} ms, {quiet:.2f} ms without; {theirs:.2f} x while a C program takes them: medians of seven)",
        "<= 2 x", ratio <= 2)

    # Dense data from rbd to a file, beside rbd's own export.
    dense = backends.volume(service, "rbd", 1)
    subprocess.run(["bash", "-c", f"head -c 1073741824 /dev/urandom | rbd -c {conf} --id cinder --dest-pool volumes import --no-progress - bench-dense"], check=True)
    subprocess.run(["rbd", "-c", conf, "--id", "cinder", "-p", "volumes", "rm", "--no-progress", f"volume-{dense}"], check=True)
    subprocess.run(["rbd", "-c", conf, "--id", "cinder", "-p", "volumes", "rename", "bench-dense", f"volume-{dense}"], check=True)
    best = None
    for _ in range(3):
        target = f"{directory}/export"
        start = time.monotonic()
        subprocess.run(["rbd", "-c", conf, "--id", "cinder", "-p", "volumes", "export", "--no-progress", f"volume-{dense}", target], check=True)
        with open(target, "r+b") as file:
            os.fsync(file.fileno())
        export = time.monotonic() - start
        os.unlink(target)
        copy = backends.retyped(service, dense, "file")
        if best is None or export / copy > best[0]:
            best = (export / copy, export, copy)
        backends.retyped(service, dense, "rbd")
    report("copy of 1 GiB of dense data from rbd to a file", f"{best[0]:.2f} x rbd export with fsync ({1 / best[2]:.2f} GiB/s)", ">= 0.9 x", best[0] >= 0.9)
    service.stop()


def nfs(binary, directory, server, report):
    subprocess.run(["cc", "-O2", "-o", f"{directory}/bench-nfs", HERE / "nfs.c", "-lnfs"], check=True)
    port = int(pathlib.Path(server, "shares").read_text().split("port=")[1].split(",")[0])
    url = f"nfs://127.0.0.1/export/?nfsport={port}&mountport={port + 1}"
    service = bench.Service(
        binary, f"{directory}/nfs-state", backends="file,nfs", sections=f"[nfs]\nvolume_driver = nfs\nnfs_shares_config = {server}/shares\n")
    for name in ("file", "nfs"):
        backends.ask(service, "POST", "/types", {"volume_type": {"name": name, "extra_specs": {"volume_backend_name": name}}})
    size = 2
    dense = backends.volume(service, "file", size)
    with open(f"{directory}/nfs-state/state/volumes/file/volume-{dense}", "r+b") as file:
        for _ in range(size << 10):
            file.write(os.urandom(1 << 20))
        os.fsync(file.fileno())
    pairs = []
    for _ in range(3):
        backends.settle(2 * size)
        plain = float(subprocess.run([f"{directory}/bench-nfs", url, "plain", str(size << 30)], check=True, capture_output=True, text=True).stdout)
        os.unlink(f"{server}/export/plain")
        backends.settle(2 * size)
        backends.retyped(service, dense, "nfs", interval=0.5)
        mine = backends.copied(service, dense)
        pairs.append((plain / mine, mine))
        backends.retyped(service, dense, "file")
    ratio, mine = sorted(pairs)[1]
    report(f"copy of {size} GiB of dense data from a file to nfs", f"{ratio:.2f} x a C program that writes by libnfs, fsync included ({size / mine:.2f} GiB/s)", ">= 0.9 x", ratio >= 0.9)
    service.stop()


def lvm(binary, report):
    # The machine's disks are in memory: how fast this machine's disk writes back what came before is not what is asked.
    machine = HERE.parent / "Machine"
    done = subprocess.run(
        [machine / "machine", f"python3 {machine}/copying.py {binary}"], capture_output=True, text=True,
        env={**os.environ, "MACHINE_DISKS": "6G 6G", "MACHINE_DISKS_IN": "/dev/shm", "MACHINE_MODULES": "dm-mod", "MACHINE_SECONDS": "600"})
    if done.returncode != 0:
        raise SystemExit(f"bench: lvm: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    plain, mine = (float(word) for word in done.stdout.split("seconds ")[1].split()[:2])
    report("copy of 2 GiB of dense data between two volume groups", f"{plain / mine:.2f} x dd with direct I/O", ">= 0.9 x", plain / mine >= 0.9)


def measure(binary, directory, report, quick):
    lvm(binary, report)
    served("ceph", 18830, directory, lambda place: rbd(binary, directory, place, 10 if quick else 30, report))
    # In memory, as LVM's disks are.
    with tempfile.TemporaryDirectory(prefix="clinker-bench-", dir="/dev/shm") as memory:
        served("nfs", 18842, memory, lambda place: nfs(binary, memory, place, report))


def served(name, port, directory, part):
    place = f"{directory}/{name}"
    server = subprocess.Popen([HERE.parent / "Storage/serve", name, place, str(port)], stdin=subprocess.PIPE)
    try:
        while not os.path.exists(f"{place}/ready"):
            if server.poll() is not None:
                raise SystemExit(f"bench: {name} did not start")
            time.sleep(0.1)
        part(place)
    finally:
        server.stdin.close()
        server.wait()
