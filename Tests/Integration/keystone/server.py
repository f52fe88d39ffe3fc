#!/usr/bin/env python3
"""server.py DIRECTORY PORT: a real Keystone on 127.0.0.1 with users for tests.

Projects alpha, beta and service; users with their role on a project: root (admin, alpha), alice (member, alpha), rita (reader,
alpha), norma (custom, alpha), bob (member, beta), nova (service, service), clinker (service, service; Clinker's own account), glance
(admin, service; Glance's own account, and Clinker's where images are its work), cinder (admin and service, service; Clinker's where
Nova is), and sysadmin (admin on the system). Every password is the user's name and "-secret". When DIRECTORY/ready.json is there, it
serves, until its standard input ends.
Runs with the Python that has Keystone.
"""
import base64, http.client, json, os, pathlib, subprocess, sys, threading, time

directory, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
binaries = pathlib.Path(sys.executable).parent
config = directory / "keystone.conf"
USERS = [
    ("root", "alpha", "admin"), ("alice", "alpha", "member"), ("rita", "alpha", "reader"), ("norma", "alpha", "custom"), ("bob", "beta", "member"),
    ("nova", "service", "service"), ("clinker", "service", "service"),
    ("glance", "service", "admin"), ("cinder", "service", "admin"),
]


def prepare():
    (directory / "fernet").mkdir(parents=True, exist_ok=True)
    (directory / "credential").mkdir(exist_ok=True)
    config.write_text(
        f"[DEFAULT]\nlog_file = {directory}/keystone.log\n[database]\nconnection = sqlite:///{directory}/keystone.db\n"
        f"[token]\nprovider = fernet\nexpiration = 3600\nallow_expired_window = 172800\n[fernet_tokens]\nkey_repository = {directory}/fernet\n"
        f"[credential]\nkey_repository = {directory}/credential\n[identity]\npassword_hash_rounds = 4\n[cache]\nenabled = true\nbackend = dogpile.cache.memory\n")

    def manage(*arguments):
        subprocess.run([binaries / "keystone-manage", "--config-file", str(config), *arguments], check=True, capture_output=True)

    manage("db_sync")
    for kind in ("fernet_setup", "credential_setup"):
        manage(kind, "--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid()))
    manage("bootstrap", "--bootstrap-password", "admin-secret", "--bootstrap-internal-url", f"http://127.0.0.1:{port}/v3", "--bootstrap-public-url", f"http://127.0.0.1:{port}/v3", "--bootstrap-region-id", "RegionOne")


def ask(method, path, body=None, token=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"}
    if token:
        headers["X-Auth-Token"] = token
    connection.request(method, f"/v3{path}", json.dumps(body) if body else None, headers)
    response = connection.getresponse()
    text = response.read()
    if response.status >= 300:
        raise SystemExit(f"keystone: {method} {path}: {response.status} {text}")
    return json.loads(text or b"{}"), response.headers


def populate():
    _, headers = ask("POST", "/auth/tokens", {"auth": {
        "identity": {"methods": ["password"], "password": {"user": {"name": "admin", "domain": {"id": "default"}, "password": "admin-secret"}}},
        "scope": {"project": {"name": "admin", "domain": {"id": "default"}}}}})
    token = headers["X-Subject-Token"]
    roles = {role["name"]: role["id"] for role in ask("GET", "/roles", token=token)[0]["roles"]}
    for name in ("admin", "member", "reader", "service", "custom"):
        if name not in roles:
            roles[name] = ask("POST", "/roles", {"role": {"name": name}}, token)[0]["role"]["id"]
    projects = {name: ask("POST", "/projects", {"project": {"name": name, "domain_id": "default"}}, token)[0]["project"]["id"] for name in ("alpha", "beta", "service")}
    users = {}

    def user(name):
        body = {"user": {"name": name, "domain_id": "default", "password": f"{name}-secret"}}
        users[name] = ask("POST", "/users", body, token)[0]["user"]["id"]

    for name, project, role in USERS:
        user(name)
        ask("PUT", f"/projects/{projects[project]}/users/{users[name]}/roles/{roles[role]}", token=token)
    ask("PUT", f"/projects/{projects['service']}/users/{users['cinder']}/roles/{roles['service']}", token=token)
    user("sysadmin")
    ask("PUT", f"/system/users/{users['sysadmin']}/roles/{roles['admin']}", token=token)
    return {"projects": projects, "users": users, "expired": expired(users["alice"], projects["alpha"])}


def expired(user, project):
    """A token that was good until an hour ago, made as Keystone makes its own."""
    from keystone.token import token_formatters

    until = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() - 3600))
    audit = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
    return token_formatters.TokenFormatter().create_token(
        user, until, [audit], token_formatters.ProjectScopedPayload, methods=["password"], project_id=project)


def main():
    fresh = not config.exists()
    if fresh:
        prepare()
    sys.argv = ["keystone"]
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = str(config)
    os.environ["OS_KEYSTONE_CONFIG_DIR"] = str(directory)
    from keystone.server.wsgi import initialize_public_application
    import waitress

    application = initialize_public_application()
    threading.Thread(target=lambda: waitress.serve(application, listen=f"127.0.0.1:{port}", threads=8, _quiet=True), daemon=True).start()
    while True:
        try:
            http.client.HTTPConnection("127.0.0.1", port, timeout=5).request("GET", "/v3")
            break
        except OSError:
            time.sleep(0.05)
    if fresh:
        (directory / "ready.tmp").write_text(json.dumps(populate()))
        (directory / "ready.tmp").rename(directory / "ready.json")
    # Whoever started it is gone when the standard input ends.
    sys.stdin.buffer.read()
    os._exit(0)


main()
