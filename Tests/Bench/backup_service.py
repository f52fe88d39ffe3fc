"""What users of a service notice of backups: how fast one is read over NBD beside `restic mount` on the same repository, and how long a show takes
while one is made. Part of the bench of backups."""
import http.client, json, os, pathlib, random, shutil, socket, struct, subprocess, sys, time

import backends, bench

MIB = 1 << 20
OPTIONS = "auth_strategy = noauth\nbackup_driver = posix\nbackup_format = repository"


class NBD:
    """A client with one connection, as a kernel's is: fixed newstyle negotiation, simple replies."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.receive(18)
        # NBD_OPT_EXPORT_NAME with an empty name; no zeroes after it.
        self.socket.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 0))
        self.size = struct.unpack(">QH", self.receive(10))[0]

    def receive(self, count):
        bytes = bytearray(count)
        view = memoryview(bytes)
        while view:
            got = self.socket.recv_into(view)
            if got == 0:
                raise SystemExit("bench: the NBD server hung up")
            view = view[got:]
        return bytes

    def ask(self, offset, count):
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, offset, offset, count))

    def answer(self, count):
        magic, error, _ = struct.unpack(">IIQ", self.receive(16))
        if magic != 0x67446698 or error:
            raise SystemExit(f"bench: the NBD server answered {magic:x}, error {error}")
        return self.receive(count)

    def read(self, offset, count):
        self.ask(offset, count)
        return self.answer(count)

    def leave(self):
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 0, 0, 0))
        self.socket.close()


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            raise SystemExit("bench: a backup's service does not get ready")
        time.sleep(0.01)


def begun(service, volume):
    return backends.ask(service, "POST", "/backups", {"backup": {"volume_id": volume, "name": "bench"}})["backup"]["id"]


def state_of(service, backup):
    state = service.get(f"/backups/{backup}")["backup"]["status"]
    if state == "error":
        raise SystemExit("bench: a backup failed")
    return state


def fill(path, image, mark):
    """A volume's bytes are the image's, with a mark in each mebibyte that is no zeroes: none of its chunks is in the repository already."""
    subprocess.run(["cp", "--sparse=never", image, path], check=True)
    with open(path, "r+b") as file:
        for number in range(os.stat(image).st_size // MIB):
            if number % 3:
                file.seek(number * MIB)
                file.write(mark.to_bytes(8, "big") + number.to_bytes(8, "big"))


def read_in_order(read, size):
    begun = time.perf_counter()
    position, most = 0, min(size, 256 * MIB)
    while position < most:
        read(position, MIB)
        position += MIB
    return time.perf_counter() - begun


def read_anywhere(read, size, seed):
    chance = random.Random(seed)
    places = [chance.randrange(size // 4096) * 4096 for _ in range(100)]
    begun = time.perf_counter()
    for place in places:
        read(place, 4096)
    return time.perf_counter() - begun


def served(binary, place, service, backup, turn, image):
    """Seconds of random blocks and of a sequence, each of a server that has nothing in memory yet; every byte is compared."""
    found = []
    for work in (lambda read, size: read_anywhere(read, size, turn), read_in_order):
        path = place.path("nbd")
        server = subprocess.Popen(
            [binary, "backup", "serve", backup, "--socket", path, "--config", place.path("service/bench.conf"), "--state-dir", place.path("service/state")],
            stdout=subprocess.PIPE)
        server.stdout.readline()
        client = NBD(path)
        kept = []

        def read(offset, count):
            kept.append((offset, client.read(offset, count)))

        found.append(work(read, client.size))
        client.leave()
        server.terminate()
        server.wait()
        with open(image, "rb") as file:
            for offset, bytes in kept:
                file.seek(offset)
                if file.read(len(bytes)) != bytes:
                    raise SystemExit("bench: what is served is not what was backed up")
    return found


def mounted(place, repository, password, turn):
    """The same from `restic mount`."""
    found = []
    for work in (lambda read, size: read_anywhere(read, size, turn), read_in_order):
        mount = place.empty("mount")
        environment = {**os.environ, "RESTIC_CACHE_DIR": place.path("mount-cache"), "HOME": place.directory}
        process = subprocess.Popen(
            ["restic", "-r", repository, "--password-file", password, "mount", mount], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

        def image():
            if process.poll() is not None:
                raise SystemExit(f"bench: restic mount: {process.stderr.read().decode()}")
            return next(pathlib.Path(mount).glob("snapshots/latest/image/00000/data"), None)

        file = os.open(until(image), os.O_RDONLY)
        found.append(work(lambda offset, count: os.pread(file, count, offset), os.fstat(file).st_size))
        os.close(file)
        subprocess.run(["fusermount3", "-u", mount], check=True)
        process.wait()
    return found


def reading(binary, place, service, backup, image, report, turns):
    state = pathlib.Path(place.path("service/state/backups"))
    repository = next(state.glob("*/objects/repositories/*"))
    password = next(state.glob("*.keys/*"))
    if not os.path.exists("/dev/fuse") or not shutil.which("fusermount3"):
        print("bench: no FUSE here, so no restic mount: an NBD server on a backup is not compared", file=sys.stderr)
        return
    pairs = [(served(binary, place, service, backup, turn, image), mounted(place, repository, password, turn)) for turn in range(turns)]
    mine, theirs = [[min(pair[who][work] for pair in pairs) for work in (0, 1)] for who in (0, 1)]
    report(
        "NBD from a backup, 100 random 4 KiB", f"{mine[0] / theirs[0]:.2f} x restic mount ({mine[0] * 10:.1f} ms each, restic {theirs[0] * 10:.1f})",
        "<= 0.5 x", mine[0] <= 0.5 * theirs[0])
    speed = 256 / mine[1]
    report(
        "NBD from a backup, in order", f"{theirs[1] / mine[1]:.1f} x as fast as restic mount ({speed:.0f} MiB/s, restic {256 / theirs[1]:.0f})", ">= 2 x",
        theirs[1] >= 2 * mine[1])


def shown(service, some, during=None, seconds=2.0):
    """The p99 in milliseconds of a show, asked for one by one for so many seconds, or until the backup is there; and how many there were."""
    request = f"GET /v3/{bench.PROJECT}/volumes/{some} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    times = []
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(request)
        time.sleep(0.05)
        length = len(connection.recv(1 << 16))
        end, looked = time.perf_counter() + seconds, time.perf_counter()
        while True:
            begun = time.perf_counter()
            connection.sendall(request)
            missing = length
            while missing > 0:
                received = len(connection.recv(missing))
                if received == 0:
                    raise SystemExit("bench: the service closed a connection")
                missing -= received
            now = time.perf_counter()
            times.append(now - begun)
            if during is None and now > end:
                break
            if during is not None and now > looked + 0.1:
                # What is asked for here is not timed.
                if state_of(service, during) == "available":
                    break
                looked = time.perf_counter()
    return sorted(times)[len(times) * 99 // 100] * 1000, len(times)


def beside(service, some, volume, path, image, report, turns):
    """A show's p99 while a full backup is made and alone, back to back; the middle one of the pairs."""
    pairs = []
    for turn in range(turns):
        fill(path, image, turn + 2)
        time.sleep(1)
        alone, _ = shown(service, some)
        backup = begun(service, volume)
        slow, count = shown(service, some, during=backup)
        pairs.append((slow / alone, slow, alone, count))
    ratio, slow, alone, count = sorted(pairs)[len(pairs) // 2]
    report("p99 of show beside a full backup of 1 GiB", f"{ratio:.2f} x ({slow:.2f} ms of {count:,} shows, alone {alone:.2f} ms)", "<= 2 x", ratio <= 2)


def measure(binary, place, report, quick):
    """With `image` in the place."""
    turns, image = 1 if quick else 3, place.path("image")
    service = bench.Service(binary, place.path("service"), port=18784, identity=OPTIONS)
    try:
        until(lambda: '"up"' in json.dumps(service.get("/os-services?binary=cinder-backup")))
        some, volume = (backends.volume(service, None, 1) for _ in range(2))
        path = place.path(f"service/state/volumes/file/volume-{volume}")
        fill(path, image, 1)
        os.truncate(path, 1 << 30)
        backup = begun(service, volume)
        until(lambda: state_of(service, backup) == "available", 300)
        shutil.copy(path, place.path("served"))
        reading(binary, place, service, backup, place.path("served"), report, turns)
        os.unlink(place.path("served"))
        beside(service, some, volume, path, image, report, 5 if not quick else 1)
    finally:
        service.stop()
        shutil.rmtree(place.path("service"))
