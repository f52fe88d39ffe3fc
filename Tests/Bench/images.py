#!/usr/bin/env python3
"""How fast volumes are made of a real Glance's images, beside curl, dd and qemu-img with the same Glance: images.py BINARY, or as a part of
bench.py."""
import hashlib, http.client, json, os, pathlib, random, subprocess, sys, tempfile, threading, time

sys.path.insert(0, os.path.dirname(__file__))
import bench

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MEBIBYTE = 1 << 20


class Glance:
    """A Glance with a store of files, which ends with this process."""

    def __init__(self, directory, port):
        self.port = port
        os.makedirs(directory)
        self.process = subprocess.Popen(
            [ROOT / ".glance/bin/python", ROOT / "Tests/Integration/glance/server.py", directory, str(port)], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not os.path.exists(f"{directory}/ready"):
            if self.process.poll() is not None:
                raise SystemExit("bench: Glance did not start")
            time.sleep(0.05)

    def ask(self, method, path, body, kind):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"bench: Glance answers {answer.status} {text}")
        return text

    def image(self, path, form):
        image = json.loads(self.ask("POST", "/v2/images", json.dumps({"name": "bench", "disk_format": form, "container_format": "bare"}), "application/json"))["id"]
        with open(path, "rb") as file:
            self.ask("PUT", f"/v2/images/{image}/file", file, "application/octet-stream")
        return image, f"http://127.0.0.1:{self.port}/v2/images/{image}/file"

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)


def raw_image(path, mebibytes):
    """A third data, the rest zeroes, as an installed system in its disk."""
    numbers = random.Random(1)
    with open(path, "wb") as file:
        for index in range(mebibytes):
            file.write(numbers.randbytes(MEBIBYTE) if index % 3 == 0 else bytes(MEBIBYTE))


class Memory:
    """The largest memory of a process called `clinker transfer` below the service while it is watched, in MB."""

    def __init__(self, pid):
        self.pid, self.most, self.ended = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while not self.ended.wait(0.01):
            try:
                for pid in bench.children(self.pid):
                    status = pathlib.Path(f"/proc/{pid}")
                    if b"transfer" in (status / "cmdline").read_bytes():
                        for line in (status / "status").read_text().splitlines():
                            if line.startswith("VmHWM:"):
                                self.most = max(self.most, int(line.split()[1]) / 1024)
            except (FileNotFoundError, ProcessLookupError):
                continue

    def end(self):
        self.ended.set()
        self.thread.join()
        return self.most


def volume_of(service, size, every=0.01, **source):
    """Makes a volume of an image (`imageRef`) or of another volume (`source_volid`), and asks for its state every so many seconds; seconds and
    its id."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    begun = time.monotonic()
    connection.request("POST", f"/v3/{bench.PROJECT}/volumes", json.dumps({"volume": {"size": size, **source}}), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    volume = answer["volume"]["id"]
    while True:
        connection.request("GET", f"/v3/{bench.PROJECT}/volumes/{volume}")
        status = json.loads(connection.getresponse().read())["volume"]["status"]
        if status in ("available", "error"):
            break
        time.sleep(every)
    if status == "error":
        raise SystemExit("bench: a volume is in error")
    return time.monotonic() - begun, volume


def delete(service, volume):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("DELETE", f"/v3/{bench.PROJECT}/volumes/{volume}")
    connection.getresponse().read()
    while service.get(f"/volumes?id={volume}")["volumes"]:
        time.sleep(0.02)


def digest(path, length):
    """SHA-256 of the first bytes."""
    result = hashlib.sha256()
    with open(path, "rb") as file:
        while length > 0 and (piece := file.read(min(length, MEBIBYTE))):
            result.update(piece)
            length -= len(piece)
    return result.hexdigest()


def shell(text):
    """Seconds. At the priority of Clinker's transfers: where others work on the machine, the one that asks for less of it would be the slower one."""
    begun = time.monotonic()
    subprocess.run(["nice", "-n", "10", "bash", "-o", "pipefail", "-ec", text], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def cached(binary, directory, glance, path, mebibytes, report):
    """A volume of an image that the cache holds, beside a clone of a volume with the same content."""
    service = bench.Service(
        binary, f"{directory}/cached", port=18788, identity=f"auth_strategy = noauth\nglance_api_servers = http://127.0.0.1:{glance.port}\n"
        "cinder_internal_tenant_project_id = fedcba9876543210fedcba9876543210\ncinder_internal_tenant_user_id = keeper",
        sections="image_volume_cache_enabled = true")
    try:
        image, _ = glance.image(path, "raw")
        _, source = volume_of(service, 1, imageRef=image)
        times = {"imageRef": [], "source_volid": []}
        for _ in range(9):
            for member, value in (("source_volid", source), ("imageRef", image)):
                seconds, volume = volume_of(service, 1, every=0.002, **{member: value})
                times[member].append(seconds)
                delete(service, volume)
        if pathlib.Path(f"{directory}/cached/access.log").read_text().count("image written to a volume") != 1:
            raise SystemExit("bench: the cache did not serve the volumes")
    finally:
        service.stop()
    mine, clone = (sorted(each)[len(each) // 2] for each in (times["imageRef"], times["source_volid"]))
    report(f"a volume of a cached image, {mebibytes} MiB", f"{mine / clone:.2f} x a clone ({mine * 1000:.0f} ms, {clone * 1000:.0f} ms)", "<= 2 x", mine <= 2 * clone)




def measure(binary, directory, report, quick=False):
    if not os.path.exists(ROOT / ".glance/bin/python"):
        print("no Glance here (.ci/setup glance): images are not measured")
        return
    os.umask(0o077)
    os.makedirs(directory, exist_ok=True)
    mebibytes = 256 if quick else 1024
    raw, qcow2, target = f"{directory}/raw", f"{directory}/qcow2", f"{directory}/target"
    raw_image(raw, mebibytes)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, qcow2], check=True)
    whole = digest(raw, mebibytes * MEBIBYTE)
    glance = Glance(f"{directory}/glance", 18793)
    service = bench.Service(binary, f"{directory}/service", port=18787, identity=f"auth_strategy = noauth\nglance_api_servers = http://127.0.0.1:{glance.port}")
    yardsticks = {
        # Clinker checks both hashes that Glance knows of an image: so does the yardstick.
        "raw": lambda url: shell(f"curl -sS {url} | tee >(md5sum > {directory}/md5) >(sha512sum > {directory}/sha512) | dd of={target} bs=1M iflag=fullblock conv=sparse,fsync status=none"),
        "qcow2": lambda url: shell(
            f"curl -sS {url} | tee >(md5sum > {directory}/md5) >(sha512sum > {directory}/sha512) > {target}.qcow2; qemu-img convert -f qcow2 -O raw {target}.qcow2 {target}; sync {target}"),
    }
    try:
        most = 0
        for form, path in (("raw", raw), ("qcow2", qcow2)):
            image, url = glance.image(path, form)
            # In turns, and the middle one of their ratios: the disk and the machine are shared.
            ratios = []
            for _ in range(3 if quick else 5):
                theirs = yardsticks[form](url)
                if digest(target, mebibytes * MEBIBYTE) != whole:
                    raise SystemExit("bench: the yardstick's volume differs")
                os.unlink(target)
                memory = Memory(service.process.pid)
                mine, volume = volume_of(service, 1, imageRef=image)
                most = max(most, memory.end())
                found = next(pathlib.Path(f"{directory}/service/state").rglob(f"volume-{volume}*"))
                if digest(found, mebibytes * MEBIBYTE) != whole:
                    raise SystemExit("bench: the volume differs from its image")
                delete(service, volume)
                ratios.append((theirs / mine, mine, theirs))
            ratio, mine, theirs = sorted(ratios)[len(ratios) // 2]
            beside = "curl | dd conv=sparse,fsync with MD5 and SHA-512" if form == "raw" else "curl to a file with MD5 and SHA-512, qemu-img convert, fsync"
            report(f"a volume of a {form} image, {mebibytes} MiB", f"{ratio:.2f} x the speed of {beside} ({mine:.2f} s, {theirs:.2f} s)", ">= 0.9 x", ratio >= 0.9)
        cached(binary, directory, glance, raw, mebibytes, report)
        report("memory of a transfer of images", f"{most:.0f} MB", "<= 64 MB", most <= 64)
    finally:
        service.stop()
        glance.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="clinker-bench-", dir=os.environ.get("CLINKER_BENCH_DIRECTORY")) as directory:
        measure(sys.argv[1], directory, lambda name, value, target, met: print(f"{name}: {value} (target {target}) {'' if met else '  <-- missed'}", flush=True), quick="--quick" in sys.argv)
