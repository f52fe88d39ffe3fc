"""What many pools, many volumes, copies and many followers cost: the part of the bench that needs more than one backend."""
import concurrent.futures, http.client, json, mmap, os, pathlib, select, socket, subprocess, sys, time


import bench

HERE = pathlib.Path(__file__).resolve().parent


def null_driver(directory):
    path = f"{directory}/clinker-null.so"
    subprocess.run(
        ["cc", "-std=c11", "-O2", "-fPIC", "-shared", f"-I{HERE.parent.parent}/Sources/CDriver/include", "-o", path, HERE / "null.c"], check=True)
    return path


def cost(service, clients, total):
    """Creates until available; (per second, CPU seconds of the service per create)."""
    pids = service.pids()
    before = bench.cpu(pids)
    rate = bench.creates(service, clients, total)
    return rate, (bench.cpu(pids) - before) / total


def placement(binary, directory, driver, report):
    used = {}
    for pools in (1, 1000):
        service = bench.Service(
            binary, f"{directory}/pools{pools}", backends="null", sections=f"[null]\nvolume_driver = {driver}\npools = {pools}\nmax_over_subscription_ratio = 1000\n")
        cost(service, 8, 40)
        used[pools] = cost(service, 8, 400)[1]
        service.stop()
    extra = (used[1000] - used[1]) * 1000
    report("placement over 1,000 pools", f"{extra:.2f} ms CPU of a create (verdicts kept included)", "<= 2 ms", extra <= 2)


def lives(binary, directory, driver, total, report):
    service = bench.Service(
        binary, f"{directory}/lives", backends="null", sections=f"[null]\nvolume_driver = {driver}\npools = 4\nmax_over_subscription_ratio = 1000\n")
    pids = service.pids()
    before = bench.cpu(pids)
    rate = bench.creates(service, 64, total)
    while True:
        volumes = [volume["id"] for volume in service.get("/volumes?limit=1000&status=available")["volumes"]]
        if not volumes:
            break

        def remove(share):
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
            for volume in share:
                connection.request("DELETE", f"/v3/{bench.PROJECT}/volumes/{volume}")
                connection.getresponse().read()

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(remove, [volumes[index::16] for index in range(16)]))
    while service.get("/volumes?limit=1")["volumes"]:
        time.sleep(0.05)
    used = (bench.cpu(pids) - before) / total * 1000
    report(f"{total:,} creates by 64 clients over 4 pools until available", f"{rate:.0f}/s", ">= 500/s", rate >= 500)
    report("CPU of a life (create, delete, and the lists between)", f"{used:.2f} ms", "<= 1.5 ms", used <= 1.5)
    service.stop()


def ask(service, method, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request(method, f"/v3/{bench.PROJECT}{path}", json.dumps(body), bench.HEADERS)
    response = connection.getresponse()
    text = response.read()
    if response.status >= 300:
        raise SystemExit(f"bench: {method} {path}: {response.status} {text}")
    return json.loads(text) if text else None


def volume(service, kind, size):
    made = ask(service, "POST", "/volumes", {"volume": {"size": size, "volume_type": kind}})["volume"]["id"]
    while service.get(f"/volumes/{made}")["volume"]["status"] != "available":
        time.sleep(0.01)
    return made


def retyped(service, made, kind, interval=0.01):
    """Seconds until it is there; who asks every `interval` takes some of the processor from the copy."""
    start = time.monotonic()
    ask(service, "POST", f"/volumes/{made}/action", {"os-retype": {"new_type": kind, "migration_policy": "on-demand"}})
    while True:
        state = service.get(f"/volumes/{made}")["volume"]
        if state["volume_type"] == kind and state["status"] == "available":
            return time.monotonic() - start
        if state["migration_status"] == "error":
            raise SystemExit("bench: the copy failed")
        time.sleep(interval)


def copied(service, volume):
    """Seconds of the latest move's copy alone: its request, its placing and the removal of the old object are no copying."""
    latest = service.get(f"/operations?resource_id={volume}&limit=1")["operations"][0]["id"]
    return next(step["seconds"] for step in service.get(f"/operations/{latest}")["operation"]["steps"] if step["name"] == "copy")


def settle(gigabytes):
    """What others wrote is on the disk, and a virtual machine's memory is there: whoever is timed next would pay for either."""
    os.sync()
    with mmap.mmap(-1, gigabytes << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for page in range(0, gigabytes << 30, mmap.PAGESIZE):
            memory[page] = 1


def copies(binary, directory, size, report):
    service = bench.Service(
        binary, f"{directory}/copies", backends="one,two", sections="[one]\nvolume_driver = file\nmax_over_subscription_ratio = 1000000\n[two]\nvolume_driver = file\nmax_over_subscription_ratio = 1000000\n")
    files = f"{directory}/copies/state/volumes"
    for name in ("one", "two"):
        ask(service, "POST", "/types", {"volume_type": {"name": name, "extra_specs": {"volume_backend_name": name}}})
    dense = volume(service, "one", size)
    path = f"{files}/one/volume-{dense}"
    with open(path, "r+b") as file:
        for _ in range(size << 10):
            file.write(os.urandom(1 << 20))
        os.fsync(file.fileno())
    ratios = []
    place = "one"
    for _ in range(3):
        source = f"{files}/{place}/volume-{dense}"
        settle(2 * size)
        start = time.monotonic()
        subprocess.run(["cp", "--sparse=never", "--reflink=never", source, f"{files}/copy"], check=True)
        with open(f"{files}/copy", "r+b") as file:
            os.fsync(file.fileno())
        cp = time.monotonic() - start
        os.unlink(f"{files}/copy")
        place = "two" if place == "one" else "one"
        settle(2 * size)
        retyped(service, dense, place, interval=0.5)
        mine = copied(service, dense)
        ratios.append((cp / mine, cp, mine))
    ratio, cp, mine = sorted(ratios)[1]
    report(f"copy of {size} GiB of dense data between two file backends", f"{ratio:.2f} x cp with fsync ({size / mine:.2f} GiB/s, cp {size / cp:.2f} GiB/s)", ">= 0.8 x", ratio >= 0.8)
    times = []
    for gigabytes in (1, 200):
        made = volume(service, "one", gigabytes)
        with open(f"{files}/one/volume-{made}", "r+b") as file:
            for piece in range(64):
                file.seek(piece * (gigabytes << 30) // 64)
                file.write(os.urandom(1 << 20))
        times.append(retyped(service, made, "two"))
    report("copy of 64 MiB in 200 GiB", f"{times[1]:.2f} s (in 1 GiB: {times[0]:.2f} s)", "<= 2 x", times[1] <= 2 * times[0])
    service.stop()


def followers(binary, directory, count, report):
    service = bench.Service(binary, f"{directory}/followers", identity="auth_strategy = noauth\nevent_streams_per_user = 20000")
    core = [pid for pid in service.pids() if b"core" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    time.sleep(1)
    before = bench.pss(core)
    request = f"GET /v3/{bench.PROJECT}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    poll = select.epoll()
    sockets = {}
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", service.port), timeout=30)
        connection.sendall(request)
        sockets[connection.fileno()] = connection
    for connection in sockets.values():
        while b"retry:" not in connection.recv(65536):
            pass
        connection.setblocking(False)
        poll.register(connection, select.EPOLLIN)
    time.sleep(1)
    each = (bench.pss(core) - before) * 1024 / count
    start = time.monotonic()
    ask(service, "POST", "/volumes", {"volume": {"size": 1}})
    waiting = set(sockets)
    while waiting and time.monotonic() - start < 30:
        for descriptor, _ in poll.poll(1):
            if b"operation.accepted" in sockets[descriptor].recv(1 << 20):
                waiting.discard(descriptor)
    took = time.monotonic() - start
    report(f"an event reaches {count:,} followers", f"{took:.2f} s", "<= 1 s", not waiting and took <= 1)
    report("memory of a follower", f"{each:.1f} KB", "<= 6 KB", each <= 6)
    for connection in sockets.values():
        connection.close()
    service.stop()


def policies(binary, directory, report):
    text = subprocess.run([binary, "policy", "check", "--time"], capture_output=True, text=True, check=True).stdout
    nanoseconds = float(text.split("takes ")[1].split(" ns")[0])
    report("a policy check", f"{nanoseconds:.0f} ns", "< 1 us", nanoseconds < 1000)


def measure(binary, directory, report, quick=False):
    policies(binary, directory, report)
    driver = null_driver(directory)
    placement(binary, directory, driver, report)
    lives(binary, directory, driver, 4_000 if quick else 20_000, report)
    copies(binary, directory, 1 if quick else 2, report)
    followers(binary, directory, 10_000, report)


if __name__ == "__main__":
    import shutil, tempfile

    home = tempfile.mkdtemp(prefix="clinker-bench-")
    try:
        measure(sys.argv[1], home, lambda name, value, target, met: print(f"{name}: {value} (target {target}) {'' if met else '  <-- missed'}", flush=True), quick="--quick" in sys.argv)
    finally:
        shutil.rmtree(home, ignore_errors=True)
