#!/usr/bin/env python3
"""server.py DIRECTORY PORT [KEYSTONE_PORT]: a real Glance on 127.0.0.1 with a store of files, or, where the environment's GLANCE_CEPH_CONF
names a cluster's configuration, of images in its pool `images`, whose locations it tells, or, with GLANCE_CINDER, of volumes in Ceph of the
Block Storage service in Keystone's catalogue, whose locations it tells too.

With KEYSTONE_PORT its users are those of keystone/server.py there, and it validates tokens with an account of that Keystone; without, it
asks nobody who he is and lets everybody do everything. When DIRECTORY/ready is there, it serves, until its standard input ends.
Runs with the Python that has Glance.
"""
import glob, http.client, os, pathlib, sys, threading, time

directory, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
keystone = sys.argv[3] if len(sys.argv) > 3 else None
ceph = os.environ.get("GLANCE_CEPH_CONF")
cinder = "GLANCE_CINDER" in os.environ
config, pipeline = directory / "glance-api.conf", directory / "glance-api-paste.ini"

PIPELINE = """[composite:glance-api]
paste.composite_factory = glance.api:root_app_factory
/: api
/healthcheck: healthcheck
[pipeline:api]
pipeline = versionnegotiation {authentication} rootapp
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app
[app:apiversions]
paste.app_factory = glance.api.versions:create_resource
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
[filter:unauthenticated-context]
paste.filter_factory = glance.api.middleware.context:UnauthenticatedContextMiddleware.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
delay_auth_decision = true
[app:healthcheck]
paste.app_factory = oslo_middleware:Healthcheck.app_factory
backends =
"""


def prepare():
    (directory / "images").mkdir(parents=True, exist_ok=True)
    (directory / "locks").mkdir(exist_ok=True)
    pipeline.write_text(PIPELINE.format(authentication="authtoken context" if keystone else "unauthenticated-context"))
    if not keystone:
        rules = ("get_image_location", "set_image_location", "delete_image_location", "get_images", "get_image", "add_image", "delete_image", "modify_image", "download_image", "upload_image", "publicize_image", "communitize_image")
        (directory / "policy.yaml").write_text("".join(f'"{rule}": ""\n' for rule in rules))
    store, kind = ("ceph", "rbd") if ceph else ("volumes", "cinder") if cinder else ("files", "file")
    if ceph or cinder:
        # Of the system's Python, of the same version: there is no other way to have them.
        modules = directory / "modules"
        modules.mkdir()
        for name in ("rbd", "rados"):
            for path in glob.glob(f"/usr/lib/python3/dist-packages/{name}.*.so"):
                (modules / os.path.basename(path)).symlink_to(path)
        sys.path.append(str(modules))
    text = (
        f"[DEFAULT]\nlog_file = {directory}/glance.log\nenabled_backends = {store}:{kind}\nworkers = 1\n"
        f"node_staging_uri = file://{directory}/staging\nenabled_import_methods = [web-download]\n"
        f"[database]\nconnection = sqlite:///{directory}/glance.db\n"
        f"[glance_store]\ndefault_backend = {store}\n[files]\nfilesystem_store_datadir = {directory}/images\n"
        f"[os_glance_tasks_store]\nfilesystem_store_datadir = {directory}/tasks\n[os_glance_staging_store]\nfilesystem_store_datadir = {directory}/staging\n"
        f"[oslo_policy]\npolicy_file = {directory}/policy.yaml\n[oslo_concurrency]\nlock_path = {directory}/locks\n[paste_deploy]\nconfig_file = {pipeline}\n")
    if ceph or cinder:
        text = text.replace("[DEFAULT]\n", "[DEFAULT]\nshow_image_direct_url = true\nshow_multiple_locations = true\n", 1)
    if cinder:
        text += (
            f"[volumes]\ncinder_store_auth_address = http://127.0.0.1:{keystone}/v3\ncinder_store_user_name = glance\n"
            "cinder_store_password = glance-secret\ncinder_store_project_name = service\n"
            # Whoever reads at the same time may be slow.
            "cinder_state_transition_timeout = 180\ncinder_attachment_retry_attempts = 20\n")
    if ceph:
        text += f"[ceph]\nrbd_store_ceph_conf = {ceph}\nrbd_store_user = glance\nrbd_store_pool = images\n"
    if keystone:
        text += (
            f"[keystone_authtoken]\nwww_authenticate_uri = http://127.0.0.1:{keystone}/v3\nauth_url = http://127.0.0.1:{keystone}/v3\n"
            "auth_type = password\nusername = glance\npassword = glance-secret\nuser_domain_name = Default\nproject_name = service\n"
            "project_domain_name = Default\n")
    config.write_text(text)


def main():
    fresh = not config.exists()
    if fresh:
        prepare()
    sys.argv = ["glance-api"]
    os.environ["OS_GLANCE_CONFIG_FILES"] = str(config)
    os.environ["OS_GLANCE_CONFIG_DIR"] = str(directory)
    if cinder:
        # What needs rights of root is done here, not by a daemon that sudo starts.
        from os_brick import privileged

        privileged.default.set_client_mode(False)
    from glance.common import config as options
    from glance.common import wsgi_app

    application = wsgi_app.init_app()
    if fresh:
        from glance.db.sqlalchemy import api, models

        models.register_models(api.get_engine())
    import waitress

    serve = lambda: waitress.serve(application, listen=f"127.0.0.1:{port}", threads=8, max_request_body_size=1 << 40, _quiet=True)  # noqa: E731
    threading.Thread(target=serve, daemon=True).start()
    while True:
        try:
            http.client.HTTPConnection("127.0.0.1", port, timeout=5).request("GET", "/healthcheck")
            break
        except OSError:
            time.sleep(0.05)
    (directory / "ready").touch()
    # Whoever started it is gone when the standard input ends.
    sys.stdin.buffer.read()
    os._exit(0)


main()
