#!/usr/bin/env python3
"""What the engine of backups costs beside a C program on the same libraries, restic, and Cinder 29's own driver, in turns in one run.

    backups.py CLINKER BACKUP_BENCH LIMIT [--quick]     as a part of bench.py, or by itself

CPU seconds are those of the whole process; each figure is the least of the turns. Files lie in memory.
"""
import json, os, pathlib, random, shutil, subprocess, sys, tempfile, time

import backup_service

HERE = pathlib.Path(__file__).resolve().parent
CINDER = HERE.parent.parent / ".oracle/bin/python"
MIB = 1 << 20


class Run:
    """A process run to its end: CPU and wall seconds, its most memory in MB, what it said."""

    def __init__(self, *words, stdin=None, environment=None):
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [str(word) for word in words], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})})
        self.said = self.process.stdout.read().decode()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            raise SystemExit(f"bench: {words}: {self.said}")
        self.cpu, self.wall, self.memory = usage.ru_utime + usage.ru_stime, time.monotonic() - begun, usage.ru_maxrss / 1024

    def number(self, name):
        words = self.said.split()
        return float(words[words.index(name) + 1])


def least(runs):
    """Of each figure the least."""
    best = runs[0]
    best.cpu, best.wall, best.memory = min(run.cpu for run in runs), min(run.wall for run in runs), max(run.memory for run in runs)
    return best


class Place:
    """A directory in memory with repositories that are made anew for each turn."""

    def __init__(self, directory, engine, limit):
        self.directory, self.engine_binary, self.limit_binary = directory, engine, limit
        self.restic_environment = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": f"{directory}/cache", "HOME": directory}

    def path(self, name):
        return f"{self.directory}/{name}"

    def empty(self, name):
        shutil.rmtree(self.path(name), ignore_errors=True)
        os.makedirs(self.path(name))
        return self.path(name)

    def engine(self, *words):
        return Run(self.engine_binary, *words)

    def limit(self, *words):
        return Run(self.limit_binary, *words)

    def restic(self, *words, stdin=None):
        return Run("restic", "-r", self.path("restic"), *words, stdin=stdin, environment=self.restic_environment)

    def init_restic(self):
        shutil.rmtree(self.path("restic"), ignore_errors=True)
        shutil.rmtree(self.path("cache"), ignore_errors=True)
        self.restic("init", "--repository-version", "2")


def mixed(path, chunks):
    """A third zeroes, a third text, a third random."""
    chance, words = random.Random(5), "volume snapshot backup restore chunk index pack repository storage the of and to a in is that for it as was with".split()
    with open(path, "wb") as file:
        for number in range(chunks):
            if number % 3 == 0:
                file.write(bytes(MIB))
            elif number % 3 == 1:
                text = " ".join(f"{chance.choice(words)}{chance.randrange(50)}" for _ in range(180_000))
                file.write(text.encode()[:MIB].ljust(MIB))
            else:
                file.write(chance.randbytes(MIB))


def changed(path, source, ranges, chunks):
    """A hundredth of it in runs of 1 MiB, and where."""
    shutil.copy(source, path)
    chance = random.Random(11)
    with open(path, "r+b") as file, open(ranges, "w") as list:
        for chunk in sorted(chance.sample(range(chunks), max(1, chunks // 100))):
            file.seek(chunk * MIB)
            file.write(chance.randbytes(MIB))
            list.write(f"{chunk * MIB} {MIB}\n")


def sparse(path, size, source, data):
    """So many bytes of data, in pieces of 1 MiB, all over it."""
    with open(path, "wb") as file, open(source, "rb") as given:
        file.truncate(size)
        for number in range(data // MIB):
            # What is written are no zeroes.
            given.seek((number // 2 % (os.stat(source).st_size // MIB // 3) * 3 + 1 + number % 2) * MIB)
            file.seek(number * (size // (data // MIB)) // MIB * MIB)
            file.write(given.read(MIB))


def allocated(path):
    return os.stat(path).st_blocks * 512


def stored(path):
    return sum(file.stat().st_size for file in pathlib.Path(path).rglob("*") if file.is_file())


def repository(place, report, turns, chunks):
    image, later, ranges = place.path("image"), place.path("later"), place.path("ranges")
    mixed(image, chunks)
    changed(later, image, ranges, chunks)
    ours, limits, theirs = [], [], []
    more, unknown, restores, verifies, scrubs = [], [], [], [], []
    limit_more, limit_restores, hashes, their_restores, their_checks = [], [], [], [], []
    for _ in range(turns):
        ours.append(place.engine("backup", place.empty("ours"), image))
        limits.append(place.limit("b", image, place.empty("limit")))
        place.init_restic()
        theirs.append(place.restic("backup", image))
        restores.append(place.engine("restore", place.path("ours"), place.path("target")))
        if subprocess.run(["cmp", "-s", image, place.path("target")]).returncode != 0:
            raise SystemExit("bench: what was restored is not what was backed up")
        limit_restores.append(place.limit("r", place.path("limit"), place.path("target")))
        os.unlink(place.path("target"))
        their_restores.append(place.restic("restore", "latest", "--target", place.empty("restored")))
        shutil.rmtree(place.path("restored"))
        verifies.append(place.engine("verify", place.path("ours")))
        scrubs.append(place.engine("scrub", place.path("ours")))
        their_checks.append(place.restic("check", "--read-data"))
        hashes.append(Run("bash", "-c", f"cat $(find {place.path('ours')}/data -type f) | openssl dgst -sha256"))
        whole = Run("openssl", "dgst", "-sha256", later)
        more.append(place.engine("backup", place.path("ours"), later, ranges))
        limit_more.append(place.limit("b", later, place.empty("limit"), ranges))
        # A repository whose newest backup is of the same again, with nothing known.
        place.engine("backup", place.empty("ours"), image)
        unknown.append((place.engine("backup", place.path("ours"), later), whole))
    full, limit, restic = least(ours), least(limits), least(theirs)
    report(
        "backup into a repository, 1 GiB",
        f"{full.cpu / limit.cpu:.2f} x C ({full.cpu:.2f} s CPU), {full.cpu / restic.cpu:.2f} x restic; wall {full.wall / restic.wall:.2f} x restic",
        "CPU <= 1.25 x C, <= 0.45 x restic; wall <= 0.5 x restic",
        full.cpu <= 1.25 * limit.cpu and full.cpu <= 0.45 * restic.cpu and full.wall <= 0.5 * restic.wall)
    mine, limit = least(more), least(limit_more)
    share = mine.number("read") / (chunks * MIB) * 100
    report(
        "increment of 1 %, changes known", f"{mine.cpu:.2f} s CPU (C {limit.cpu:.2f}), reads {share:.2f} %", "CPU <= 3 x C + 0.1 s, reads <= 1.1 %",
        mine.cpu <= 3 * limit.cpu + 0.1 and share <= 1.1)
    mine, hash = least([pair[0] for pair in unknown]), least([pair[1] for pair in unknown])
    report("increment of 1 %, changes unknown", f"{mine.cpu / hash.cpu:.2f} x openssl dgst -sha256 ({mine.cpu:.2f} s CPU)", "<= 1.3 x", mine.cpu <= 1.3 * hash.cpu)
    mine, limit, restic = least(restores), least(limit_restores), least(their_restores)
    report(
        "restore, verified", f"{mine.cpu / limit.cpu:.2f} x C ({mine.cpu:.2f} s CPU), {mine.cpu / restic.cpu:.2f} x restic",
        "<= 1.25 x C, <= 0.8 x restic", mine.cpu <= 1.25 * limit.cpu and mine.cpu <= 0.8 * restic.cpu)
    mine, restic = least(verifies), least(their_checks)
    report("verify", f"{mine.cpu / restic.cpu:.2f} x restic check --read-data ({mine.cpu:.2f} s CPU)", "<= 0.6 x", mine.cpu <= 0.6 * restic.cpu)
    mine, hash = least(scrubs), least(hashes)
    report("scrub", f"{mine.cpu / hash.cpu:.2f} x SHA-256 of what is stored ({mine.cpu:.2f} s CPU)", "<= 1.2 x", mine.cpu <= 1.2 * hash.cpu)
    return [*ours, *more, *restores, *verifies, *scrubs, *(pair[0] for pair in unknown)]


def sparse_volumes(place, report, turns):
    runs = []
    for name, size, data in (("10 GiB with 256 MiB", 10 << 30, 256 * MIB), ("1 TiB with 1 GiB", 1 << 40, 1 << 30)):
        image = place.path("sparse")
        sparse(image, size, place.path("image"), data)
        ours, limits, restores = [], [], []
        for _ in range(turns):
            ours.append(place.engine("backup", place.empty("ours"), image))
            limits.append(place.limit("b", image, place.empty("limit")))
            restores.append(place.engine("restore", place.path("ours"), place.path("target")))
            share = allocated(place.path("target")) / data
            os.unlink(place.path("target"))
        mine, limit = least(ours), least(limits)
        report(
            f"sparse {name}", f"{mine.cpu / limit.cpu:.2f} x C ({mine.cpu:.2f} s CPU), restored in {least(restores).cpu:.2f} s, allocates {share:.3f} x",
            "<= 1.5 x C, allocates <= 1.05 x", mine.cpu <= 1.5 * limit.cpu and share <= 1.05)
        runs += [*ours, *restores]
    with open(place.path("sparse"), "wb") as file:
        file.truncate(64 << 40)
        for number in range(64):
            file.seek(number << 40)
            file.write(os.urandom(MIB))
    runs.append(place.engine("backup", place.empty("ours"), place.path("sparse")))
    report("64 TiB with 64 MiB", f"{runs[-1].cpu:.2f} s CPU, {runs[-1].memory:.0f} MB", "<= 128 MB", runs[-1].memory <= 128)
    os.unlink(place.path("sparse"))
    return runs


def chunked(place, report, turns, chunks):
    runs = []
    for algorithm, goal in (("zlib", 6), ("zstd", 3), ("none", 2.5)):
        ours, theirs = [], []
        # Cinder takes half a minute for zlib.
        for _ in range(min(turns, 2) if algorithm == "zlib" else turns):
            ours.append(place.engine("chunked-backup", place.empty("chunked"), place.path("image"), algorithm))
            runs.append(place.engine("chunked-restore", place.path("chunked"), place.path("target"), chunks * MIB))
            os.unlink(place.path("target"))
            if CINDER.exists():
                call = {"do": "backup", "algorithm": algorithm, "image": place.path("image"), "root": place.empty("cinder"),
                        "backup": {"id": "aaaaaaaa-0000-0000-0000-000000000001", "volume_id": "bbbbbbbb-0000-0000-0000-000000000001"}}
                said = subprocess.run([CINDER, HERE.parent / "Oracle/chunked_backups.py"], input=json.dumps(call) + "\n", capture_output=True, text=True)
                theirs.append(json.loads(said.stdout.splitlines()[-1]))
                shutil.rmtree(place.path("cinder"))
        runs += ours
        mine = least(ours)
        if not theirs:
            continue
        wall, cpu = min(said["seconds"] for said in theirs), min(said["cpu"] for said in theirs)
        report(
            f"Cinder's format, {algorithm}",
            f"{wall / mine.wall:.1f} x faster than Cinder 29 ({mine.wall:.2f} s; CPU {cpu / mine.cpu:.1f} x less), {mine.memory:.0f} MB (Cinder {theirs[0]['memory'] / MIB:.0f})",
            f">= {goal} x", wall >= goal * mine.wall)
    return runs


class Mounted:
    """A file system of a file, mounted by the kernel; needs root and a loop device."""

    def __init__(self, image, point):
        self.image, self.point = image, point

    def __enter__(self):
        subprocess.run(["mount", "-o", "loop,noatime", self.image, self.point], check=True)
        return pathlib.Path(self.point)

    def __exit__(self, *_):
        subprocess.run(["umount", self.point], check=True)


def log_lines(chance, day, count):
    return "".join(
        f"2026-11-{day}T{number % 24:02d}:{number // 24 % 60:02d} host app[{chance.randrange(9999)}]: request {chance.getrandbits(64):016x} "
        f"took {chance.random() * 100:.3f} ms status 200\n" for number in range(count))


def live_a_day(root, chance, scale):
    """What changes on a server in a day: pages of a database, some of its parts more often than others; logs, mails, files that go, files
    that are touched."""
    with open(root / "app.log", "a") as file:
        file.write(log_lines(chance, 29, 60_000 // scale))
    pages = (root / "table.ibd").stat().st_size // 16384
    with open(root / "table.ibd", "r+b") as file:
        for _ in range(330 // scale):
            file.seek(int(pages * chance.random() ** 2) * 16384)
            file.write(chance.randbytes(16384))
    (root / "home").mkdir()
    for number in range(1500 // scale):
        (root / f"home/mail{number}").write_bytes(chance.randbytes(chance.randint(500, 12_000)))
    documents = sorted(path for path in (root / "doc").rglob("*") if path.is_file() and not path.is_symlink())
    chance.shuffle(documents)
    for path in documents[:300 // scale]:
        path.unlink()
    for path in documents[300 // scale:2300 // scale]:
        path.touch()


def day_of_work(place, report, quick):
    """A real ext4 with programs and texts, a database and logs, and the same after a day, both written by the kernel."""
    image, later, point = place.path("image"), place.path("later"), place.empty("mounted")
    chance, scale = random.Random(17), 4 if quick else 1
    with open(image, "wb") as file:
        file.truncate(4 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    try:
        with Mounted(image, point) as root:
            for name, source in (("doc", "/usr/share/doc"), ("share", "/usr/share"), ("lib", "/usr/lib/python3"), ("bin", "/usr/bin")):
                most, total = (600 * MIB if name == "share" else 300 * MIB) // scale, 0
                for path in sorted(pathlib.Path(source).rglob("*")):
                    if not path.is_file() or path.is_symlink() or (name == "share" and path.is_relative_to("/usr/share/doc")):
                        continue
                    total += path.stat().st_size
                    if total > most:
                        break
                    target = root / name / path.relative_to(source)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, target)
            with open(root / "table.ibd", "wb") as file:
                for _ in range(256 // scale):
                    file.write(chance.randbytes(MIB))
            (root / "app.log").write_text(log_lines(chance, 28, 400_000 // scale))
    except (subprocess.CalledProcessError, PermissionError) as error:
        print(f"bench: no day of work on ext4: {error} (root and loop devices are needed)", file=sys.stderr)
        return
    subprocess.run(["cp", "--sparse=always", image, later], check=True)
    with Mounted(later, point) as root:
        live_a_day(root, chance, scale)
    place.engine("backup", place.empty("ours"), image)
    place.init_restic()
    with open(image, "rb") as file:
        place.restic("backup", "--stdin", "--stdin-filename", "volume", stdin=file)
    before = stored(place.path("ours")), stored(place.path("restic"))
    more = place.engine("backup", place.path("ours"), later)
    with open(later, "rb") as file:
        place.restic("backup", "--stdin", "--stdin-filename", "volume", stdin=file)
    mine, theirs = stored(place.path("ours")) - before[0], stored(place.path("restic")) - before[1]
    report(
        "stored of a day of work on ext4",
        f"{mine / theirs:.2f} x restic ({mine / MIB:.0f} MiB in {more.number('new'):.0f} chunks, restic {theirs / MIB:.0f} MiB; "
        f"the first backup {before[0] / MIB:.0f} MiB, {before[0] / before[1]:.2f} x)",
        "<= 0.85 x", mine <= 0.85 * theirs)


def measure(binary, engine, limit, report, quick):
    chunks, turns = (256, 1) if quick else (1024, 3)
    with tempfile.TemporaryDirectory(prefix="clinker-bench-", dir="/dev/shm") as directory:
        place = Place(directory, engine, limit)
        runs = repository(place, report, turns, chunks)
        runs += sparse_volumes(place, report, turns)
        runs += chunked(place, report, turns, chunks)
        most = max(run.memory for run in runs)
        report("memory of any of these", f"{most:.0f} MB", "<= 128 MB", most <= 128)
        backup_service.measure(binary, place, report, quick)
        day_of_work(place, report, quick)


if __name__ == "__main__":
    def tell(name, value, target, met):
        print(f"| {name} | {value} | {target} | {'yes' if met else 'NO'} |", flush=True)

    # The service refuses secrets that others can read.
    os.umask(0o077)
    measure(sys.argv[1], sys.argv[2], sys.argv[3], tell, "--quick" in sys.argv)
