"""Both servers: Cinder 29's API, and Clinker with the same names of hosts and the same users."""
import http.client
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENV = ROOT / ".oracle"
PASSWORD = "oracle"
# bcrypt of PASSWORD at the lowest cost: a thousand users are checked in no time.
HASH = "$2y$04$jRxJc4.GcQCpxbM009jEjuWSFBcXCh2Oj4XPMEmQ4f22z1o8O/Gvi"


def projects(count):
    return ["%032x" % (0xC0FFEE00000000000000000000000000 + number) for number in range(count)]


CINDER = """[DEFAULT]
auth_strategy = noauth
state_path = {state}
transport_url = fake://
my_ip = 127.0.0.1
api_paste_config = {venv}/etc/cinder/api-paste.ini
resource_query_filters_file = {venv}/etc/cinder/resource_filters.json
rpc_response_timeout = 1
host = judge
enabled_backends = fast,big
default_volume_type = __DEFAULT__
quota_volumes = -1
quota_snapshots = -1
quota_gigabytes = -1
[fast]
volume_backend_name = fast
[big]
volume_backend_name = big
[database]
connection = sqlite:///{state}/cinder.db
[oslo_concurrency]
lock_path = {state}/locks
[coordination]
backend_url = file://{state}
[oslo_middleware]
enable_proxy_headers_parsing = true
"""

CLINKER = """[DEFAULT]
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = {port}
auth_strategy = http_basic
http_basic_auth_user_file = {state}/users
host = judge
backup_driver = posix
# Of the bytes of a backup nothing is compared here: few blocks and few hashes of them.
backup_file_size = 1073741824
backup_sha_block_size_bytes = 16777216
enabled_backends = fast,big
default_volume_type = __DEFAULT__
quota_volumes = -1
quota_snapshots = -1
quota_gigabytes = -1
[fast]
volume_driver = file
volume_backend_name = fast
[big]
volume_driver = file
volume_backend_name = big
max_over_subscription_ratio = 1.0
[oslo_middleware]
enable_proxy_headers_parsing = true
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Servers:
    """One pair, with directories of its own; gone with `stop`."""

    def __init__(self, binary, projects, template=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="clinker-oracle-"))
        os.chmod(self.directory, 0o700)
        self.processes = []
        self.cinder = free_port()
        self.clinker = free_port()
        try:
            self._cinder(template)
            self._clinker(binary, projects)
        except BaseException:
            self.stop()
            raise

    def _cinder(self, template):
        state = self.directory / "cinder"
        (state / "locks").mkdir(parents=True)
        self.configuration = state / "cinder.conf"
        self.configuration.write_text(CINDER.format(state=state, venv=VENV))
        self.database = state / "cinder.db"
        if template:
            shutil.copyfile(template, self.database)
        else:
            done = subprocess.run(
                [VENV / "bin/cinder-manage", "--config-file", self.configuration, "db", "sync"], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit("cinder-manage db sync: " + done.stderr[-2000:])
        self._start("cinder", [VENV / "bin/python", pathlib.Path(__file__).with_name("judge.py"), self.configuration, self.cinder])

    def _clinker(self, binary, projects):
        state = self.directory / "clinker"
        state.mkdir()
        (state / "users").write_text("".join(
            "%s-%s:%s:%s:%s\n" % (name, project, HASH, project, role)
            for project in projects for name, role in (("adm", "admin"), ("mem", "member"))))
        configuration = state / "clinker.conf"
        configuration.write_text(CLINKER.format(state=state, port=self.clinker))
        os.chmod(configuration, 0o600)
        os.chmod(state / "users", 0o600)
        self._start("clinker", [binary, "serve", "--config", configuration, "--state-dir", state / "state"])

    def _start(self, name, command):
        log = open(self.directory / (name + ".log"), "wb")
        self.processes.append(subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))
        log.close()

    def wait(self):
        for process, port, name in ((self.processes[0], self.cinder, "cinder"), (self.processes[1], self.clinker, "clinker")):
            until = time.monotonic() + 60
            while True:
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                    connection.request("GET", "/")
                    if connection.getresponse().status == 300:
                        break
                except OSError:
                    pass
                if time.monotonic() > until or process.poll() is not None:
                    raise SystemExit("%s did not start:\n%s" % (name, self.log(name)))
                time.sleep(0.05)

    def log(self, name):
        return (self.directory / (name + ".log")).read_text(errors="replace")[-4000:]

    def stop(self, keep=False):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)
