#!/usr/bin/env python3
"""server.py DIRECTORY PORT PLACEMENT_PORT NETWORK_PORT KEYSTONE_PORT: a real Nova on 127.0.0.1: its API, conductor, scheduler and compute
service in one process, with Nova's own driver that has no hypervisor, and a real Placement beside them.

Its users are those of keystone/server.py, and it asks the volume service of Keystone's catalogue. There is no Neutron: servers have no
ports. When DIRECTORY/ready is there, it serves, until its standard input ends. `server.py --databases DIRECTORY` only makes the databases.
Runs with the Python that has Nova.
"""
import json, os, pathlib, socket, subprocess, sys, threading, time


def write_options(directory, placement, network, keystone):
    def account(user):
        return (
            f"auth_url = http://127.0.0.1:{keystone}/v3\nauth_type = password\nusername = {user}\npassword = {user}-secret\n"
            "user_domain_name = Default\nproject_name = service\nproject_domain_name = Default\n")

    token = f"[keystone_authtoken]\nwww_authenticate_uri = http://127.0.0.1:{keystone}/v3\n{account('nova')}"
    (directory / "instances").mkdir(parents=True, exist_ok=True)
    (directory / "policy.yaml").write_text("{}\n")
    (directory / "nova.conf").write_text(
        f"[DEFAULT]\nhost = compute\nmy_ip = 127.0.0.1\nstate_path = {directory}\nlog_file = {directory}/nova.log\n"
        "compute_driver = fake.FakeDriver\ntransport_url = fake:/\n"
        f"[api_database]\nconnection = sqlite:///{directory}/api.db\n[database]\nconnection = sqlite:///{directory}/cell.db\n"
        f"[oslo_concurrency]\nlock_path = {directory}/locks\n[oslo_policy]\npolicy_file = {directory}/policy.yaml\n"
        f"{token}[placement]\nvalid_interfaces = internal\nendpoint_override = http://127.0.0.1:{placement}\n{account('nova')}"
        f"[cinder]\ncatalog_info = block-storage::internalURL\n{account('nova')}"
        f"[service_user]\nsend_service_user_token = true\n{account('nova')}"
        f"[neutron]\nendpoint_override = http://127.0.0.1:{network}\n{account('nova')}[glance]\nendpoint_override = http://127.0.0.1:9\n")
    (directory / "placement.conf").write_text(
        f"[placement_database]\nconnection = sqlite:///{directory}/placement.db\nsync_on_startup = true\n{token}")


def make_databases(directory):
    from nova import config, context, objects
    from nova.db import migration

    config.parse_args(["nova"], default_config_files=[str(directory / "nova.conf")])
    objects.register_all()
    migration.db_sync(database="api")
    admin = context.get_admin_context()
    for name, uuid in (("cell0", objects.CellMapping.CELL0_UUID), ("cell", "10000000-0000-4000-8000-000000000001")):
        mapping = objects.CellMapping(admin, uuid=uuid, name=name, transport_url="fake:/", database_connection=f"sqlite:///{directory}/{name}.db")
        mapping.create()
        with context.target_cell(admin, mapping) as targeted:
            migration.db_sync(context=targeted)


def no_networks(environ, start_response):
    """Every list that Nova asks Neutron for is empty."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({environ["PATH_INFO"].rstrip("/").rpartition("/")[2]: []}).encode()]


def serve(application, listener):
    import waitress

    threading.Thread(target=lambda: waitress.serve(application, sockets=[listener], threads=8, _quiet=True), daemon=True).start()


def main():
    if sys.argv[1] == "--databases":
        return make_databases(pathlib.Path(sys.argv[2]))
    directory, (port, placement, network, keystone) = pathlib.Path(sys.argv[1]), map(int, sys.argv[2:6])
    # Before the half minute in which somebody else might take the ports.
    api, placements, networks = (socket.create_server(("127.0.0.1", each)) for each in (port, placement, network))
    write_options(directory, placement, network, keystone)
    subprocess.run([sys.executable, __file__, "--databases", str(directory)], check=True)
    sys.argv = ["nova-api"]
    os.environ["OS_PLACEMENT_CONFIG_DIR"] = os.environ["OS_NOVA_CONFIG_DIR"] = str(directory)
    os.environ["OS_NOVA_CONFIG_FILES"] = f"{sys.prefix}/etc/nova/api-paste.ini;nova.conf"
    from placement.wsgi.api import application as placement_application

    serve(placement_application, placements)
    serve(no_networks, networks)
    from nova.wsgi.osapi_compute import application
    import os_vif
    from nova import context, objects, service
    from nova.compute import rpcapi as compute
    from nova.conductor import rpcapi as conductor
    from nova.objects import host_mapping
    from nova.scheduler import rpcapi as scheduler

    objects.register_all()
    os_vif.initialize()
    for binary, topic in (("nova-conductor", conductor.RPC_TOPIC), ("nova-scheduler", scheduler.RPC_TOPIC), ("nova-compute", compute.RPC_TOPIC)):
        service.Service.create(binary=binary, topic=topic).start()
    while not host_mapping.discover_hosts(context.get_admin_context()):
        time.sleep(0.2)
    serve(application, api)
    (directory / "ready").touch()
    # Whoever started it is gone when the standard input ends.
    sys.stdin.buffer.read()
    os._exit(0)


main()
