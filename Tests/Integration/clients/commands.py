"""commands.py URL CEPH_CONF EXPORT: the openstack and cinder commands in one process, for Python needs longer to start than a command to run.
A line of standard input is a command, a line of standard output says how it ended. A line

    ask METHOD PATH BODY EXPRESSION

is a request of its own: the answer is what the expression makes of its JSON, d."""
import contextlib
import json
import shlex
import sys
import urllib.request

from cinderclient import shell as cinder
from openstackclient import shell as openstack

project = "0123456789abcdef0123456789abcdef"
url, ceph, export = sys.argv[1:]


def place(attachment):
    """The attachment, and where qemu-img finds its volume: the format and the file."""
    info = attachment["connection_info"]
    kind = info["driver_volume_type"]
    if kind == "local":
        where = "raw " + info["device_path"]
    elif kind == "rbd":
        assert info["hosts"] and info["ports"] and info["auth_enabled"] and info["secret_uuid"], info
        where = f"raw rbd:{info['name']}:id={info['auth_username']}:conf={ceph}"
    elif kind == "nfs":
        assert info["export"].endswith(":/export"), info
        where = f"{info['format']} {export}/{info['name']}"
    elif kind == "iscsi":
        user = f"{info['auth_username']}%{info['auth_password']}"
        where = f"raw iscsi://{user}@{info['target_portal']}/{info['target_iqn']}/{info['target_lun']}"
    return f"{attachment['id']} {where}"


def ask(method, path, body, expression):
    headers = {"X-Auth-Token": f"admin:{project}", "OpenStack-API-Version": "volume 3.71", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v3/{project}{path}", body.encode() or None, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
    return eval(expression, {"place": place, "d": json.loads(text) if text else None})


def run(program, arguments):
    try:
        if program == "openstack":
            options = ["--os-auth-type", "none", "--os-endpoint", f"{url}/v3/{project}", "--os-volume-api-version", "3.71"]
            return openstack.OpenStackShell().run(options + arguments)
        options = ["--os-auth-type", "noauth", "--os-endpoint", f"{url}/v3", "--os-project-id", project, "--os-user-id", "admin"]
        return cinder.OpenStackCinderShell().main(options + ["--os-volume-api-version", "3.71"] + arguments) or 0
    except SystemExit as end:
        return end.code or 0
    except Exception as error:  # what the command itself would have printed
        print(f"{program}: {error}", file=sys.stderr)
        return 1


for line in sys.stdin:
    program, *arguments = shlex.split(line)
    if program == "ask":
        try:
            print(0, ask(*arguments), flush=True)
        except Exception as error:
            print(1, f"{' '.join(arguments)}: {error}", flush=True)
        continue
    # What a command prints goes where errors go: the answers are alone here.
    with contextlib.redirect_stdout(sys.stderr):
        status = run(program, arguments)
    print(status, flush=True)
