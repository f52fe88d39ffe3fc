"""`clinker serve` inside the machine, and what the scenarios ask of it."""
import faulthandler, http.client, json, os, pathlib, signal, subprocess, time

PROJECT = "0123456789abcdef0123456789abcdef"

# Where a script that takes too long stands; the machine's first process tells of the others.
if seconds := os.environ.get("SECONDS_GIVEN"):
    faulthandler.dump_traceback_later(int(seconds) - 20)


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, **options).stdout


def until(condition, seconds, what):
    limit = time.monotonic() + seconds
    pause = 0.02
    while not (value := condition()):
        if time.monotonic() > limit:
            raise SystemExit(f"{what() if callable(what) else what}: not within {seconds} s")
        # The machine has one processor: who asks again and again takes it from what is waited for.
        time.sleep(pause)
        pause = min(pause * 1.5, 0.3)
    return value


def start_tgtd():
    """The daemon, when it answers."""
    daemon = subprocess.Popen(["tgtd", "-f", "-C", "0", "-t", "2", "--iscsi", "portal=127.0.0.1:3260"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: subprocess.run(["tgtadm", "--lld", "iscsi", "--mode", "system", "--op", "show"], capture_output=True).returncode == 0, 30, "tgtd")
    return daemon


def start_nfs(directory, access="RW"):
    """An NFS server on 127.0.0.1, which exports a folder of the directory."""
    # getaddrinfo wants an address besides 127.0.0.1.
    subprocess.run(["ip", "address", "replace", "127.0.0.2/8", "dev", "lo"], check=True)
    run("bash", str(pathlib.Path(__file__).resolve().parent.parent / "Storage/nfs"), "start", directory, "18842", env={**os.environ, "NFS_ACCESS": access})


def parents():
    """Every process with its parent."""
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, which may hold anything, is in parentheses.
            yield int(path.parent.name), int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue


def send(what, pid):
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        pass


class Service:
    def __init__(self, binary, state, volumes=None, port=18776, backends=None, options=""):
        """`backends`: sections by their names; one of files if not given. `options`: more lines of [DEFAULT]."""
        self.binary, self.state, self.port = binary, state, port
        self.volumes = volumes or f"{state}/volumes"
        self.config = f"/run/clinker-{port}.conf"
        self.log = f"/run/clinker-{port}.log"
        backends = backends or {"file": f"volume_driver = file\nfile_directory = {self.volumes}\nmax_over_subscription_ratio = 1000000\n"}
        pathlib.Path(self.config).write_text(
            f"[DEFAULT]\nosapi_volume_listen = 127.0.0.1\nosapi_volume_listen_port = {port}\nauth_strategy = noauth\nhost = node\n"
            f"enabled_backends = {','.join(backends)}\nquota_volumes = -1\nquota_gigabytes = -1\nreport_interval = 1\nservice_down_time = 5\n{options}\n"
            + "".join(f"[{name}]\n{section}\n" for name, section in backends.items()))
        self.backends = len(backends)
        self.process = None

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([self.binary, "serve", "--config", self.config, "--state-dir", self.state], stdout=log, stderr=log)

        def answers():
            if self.process.poll() is not None:
                raise SystemExit(f"the service ended:\n{pathlib.Path(self.log).read_text()[-3000:]}")
            try:
                return len(self.ask("GET", "/scheduler-stats/get_pools")[1]["pools"]) >= self.backends
            except OSError:
                return False

        until(answers, 120, "a pool of each backend")

    def answers(self):
        try:
            self.ask("GET", "/scheduler-stats/get_pools")
            return True
        except OSError:
            return False

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json", "OpenStack-API-Version": "volume 3.71"}
        connection.request(method, f"/v3/{PROJECT}{path}", json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        text = response.read()
        try:
            return response.status, json.loads(text or b"{}")
        except ValueError:
            return response.status, {"text": text.decode(errors="replace")}

    def create(self, **fields):
        status, answer = self.ask("POST", "/volumes", {"volume": {"size": 1, **fields}})
        if status != 202:
            raise SystemExit(f"create: {status} {answer}")
        return answer["volume"]["id"]

    def volume(self, identity):
        status, answer = self.ask("GET", f"/volumes/{identity}")
        return answer["volume"] if status == 200 else None

    def wait(self, identity, status, seconds=60):
        def found():
            return (self.volume(identity) or {}).get("status")

        until(lambda: found() == status, seconds, lambda: f"volume {identity} {status} (it is {found()})")

    def ask_for_backups(self, path, body):
        """What is asked of the service of backups, which is not there before its first heartbeat, nor when a slow machine delayed the last."""
        said = {}

        def accepted():
            said["status"], said["answer"] = self.ask("POST", path, body)
            if said["status"] == 202:
                return True
            if "cinder-backup could not be found" not in str(said["answer"]):
                raise SystemExit(f"{path} {body}: {said}")
            return False

        until(accepted, 120, lambda: f"{path}: {said}")
        return said["answer"]

    def back_up(self, volume, **fields):
        return self.ask_for_backups("/backups", {"backup": {"volume_id": volume, **fields}})["backup"]["id"]

    def backup(self, identity):
        status, answer = self.ask("GET", f"/backups/{identity}")
        return answer["backup"] if status == 200 else None

    def wait_backup(self, identity, status, seconds=240):
        def found():
            return (self.backup(identity) or {}).get("status")

        until(lambda: found() == status, seconds, lambda: f"backup {identity} {status} (it is {self.backup(identity)})")

    def restore(self, identity):
        """Into a new volume."""
        answer = self.ask_for_backups(f"/backups/{identity}/restore", {"restore": {}})
        self.wait_backup(identity, "available")
        self.wait(answer["restore"]["volume_id"], "available", 240)
        return answer["restore"]["volume_id"]

    def path(self, identity):
        return f"{self.volumes}/volume-{identity}"

    def settle(self):
        moving = ("creating", "deleting", "extending")
        for kind, seconds in (("volumes", 60), ("backups", 240)):
            until(lambda: not any(v["status"] in moving for v in self.ask("GET", f"/{kind}/detail?limit=1000")[1].get(kind, [])), seconds, f"the {kind} settle")

    def check(self):
        """The database is whole, and nothing disagrees with anything."""
        for command in (["db", "check"], ["doctor"]):
            done = subprocess.run([self.binary, *command, "--config", self.config, "--state-dir", self.state], capture_output=True, text=True)
            if done.returncode != 0:
                raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def kill(self):
        """Everything at once, as a power cut does."""
        pids = [self.process.pid]
        found = pids
        while found:
            for pid in found:
                # Standing still it starts no other.
                send(signal.SIGSTOP, pid)
            found = [pid for pid, parent in parents() if parent in pids and pid not in pids]
            pids += found
        for pid in pids:
            send(signal.SIGKILL, pid)
        self.process.wait()
        until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids), 20, "every process is dead")
