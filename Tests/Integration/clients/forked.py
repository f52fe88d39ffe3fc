"""forked.py DIRECTORY: makes DIRECTORY/openstack and DIRECTORY/cinder, which run these commands in forks of this process.

Python needs three quarters of a command's time to start and to load what the command is made of: that is done once here. A
command gets its caller's arguments, environment, folder and descriptors, and its status goes back. Ends with its input."""
import logging
import marshal
import os
import select
import signal
import socket
import sys
import traceback

CALLER = """#!{python} -IS
import marshal, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({path!r})
call = marshal.dumps(({program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)))
socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
server.sendall(call)
status = server.recv(1)
os._exit(status[0] if status else 255)
"""


def load():
    """Imports what most commands need."""
    import cinderclient.shell
    import cinderclient.v3.client
    import cinderclient.v3.shell
    import importlib.metadata
    import keystoneauth1.identity
    import keystoneauth1.loading
    import openstack.block_storage.v3._proxy
    import openstack.connection
    import openstackclient.shell

    for group in ("openstack.cli", "openstack.cli.base", "openstack.common", "openstack.volume.v3", "cliff.formatter.list", "cliff.formatter.show"):
        for entry in importlib.metadata.entry_points(group=group):
            entry.load()


def run(connection):
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    size, call = int.from_bytes(head, "big"), b""
    while len(call) < size:
        call += connection.recv(size - len(call))
    program, arguments, folder, environment = marshal.loads(call)
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program, *arguments]
    # What was loaded may have set up logging, which a command does for itself.
    logging.root.handlers.clear()
    status = 255
    try:
        if program == "openstack":
            import openstackclient.shell
            status = openstackclient.shell.main(arguments)
        else:
            import cinderclient.shell
            status = cinderclient.shell.main()
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([(status or 0) & 255]))
        os._exit(0)


directory = os.path.abspath(sys.argv[1])
# Messages begin with it.
sys.argv[0] = "openstack"
os.makedirs(directory, exist_ok=True)
path = directory + "/socket"
server = socket.socket(socket.AF_UNIX)
server.bind(path)
load()
server.listen(16)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for program in ("openstack", "cinder"):
    with open(f"{directory}/.{program}", "w") as file:
        file.write(CALLER.format(python=os.path.realpath(sys.executable), path=path, program=program))
        os.fchmod(file.fileno(), 0o755)
    os.rename(f"{directory}/.{program}", f"{directory}/{program}")

# A thread would be lost to the forks: the input is watched between two commands.
while True:
    for ready in select.select([server, sys.stdin], [], [])[0]:
        if ready is sys.stdin:
            if not os.read(0, 1):
                os._exit(0)
            continue
        connection, _ = server.accept()
        if os.fork() == 0:
            # Whom a command starts and waits for must be there to be waited for.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            server.close()
            run(connection)
        connection.close()
