#!/usr/bin/env python3
"""server.py DIRECTORY PORT [KEYSTONE_PORT]: a real Barbican on 127.0.0.1, with a database and keys of its own in DIRECTORY.

With KEYSTONE_PORT its users are those of Integration/keystone/server.py there. Without, in the place of Keystone's middleware stands one
that believes the tokens of DIRECTORY/tokens.json, read at each request: a token to its project, user and roles; the token `*` stands for
all that are not there. When DIRECTORY/ready is there, it serves, until its standard input ends. Runs with the Python that has Barbican.
"""
import base64, json, os, pathlib, sys, threading

directory, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
configuration = directory / "barbican.conf"
configuration.write_text(
    f"[DEFAULT]\nlog_file = {directory}/barbican.log\nhost_href = http://127.0.0.1:{port}\ndb_auto_create = true\n"
    f"[database]\nconnection = sqlite:///{directory}/barbican.db\n"
    f"[simple_crypto_plugin]\nkek = {base64.urlsafe_b64encode(os.urandom(32)).decode()}\n")
# Each of Barbican's modules looks for the file anew while it is imported, first in the home directory.
os.environ["HOME"] = str(directory)
keystone_port = sys.argv[3] if len(sys.argv) > 3 else None
sys.argv = ["barbican-api"]

from barbican.api import app
from barbican.api.middleware import context, microversion
import waitress


class Tokens:
    HEADERS = {"project": "HTTP_X_PROJECT_ID", "user": "HTTP_X_USER_ID", "roles": "HTTP_X_ROLES"}

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        tokens = json.loads((directory / "tokens.json").read_text())
        known = tokens.get(environ.get("HTTP_X_AUTH_TOKEN", ""), tokens.get("*"))
        if known is None:
            start_response("401 Unauthorized", [("Content-Type", "text/plain"), ("WWW-Authenticate", "Keystone uri=\"http://127.0.0.1\"")])
            return [b"Authentication required"]
        environ["HTTP_X_IDENTITY_STATUS"] = "Confirmed"
        for name, header in self.HEADERS.items():
            environ[header] = known[name]
        return self.application(environ, start_response)


class Version:
    """What stands before the application in Barbican's own pipeline."""

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        if not environ["PATH_INFO"].startswith("/v1/"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b""]
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/v1", environ["PATH_INFO"][3:]
        return self.application(environ, start_response)


def keystone(application, port):
    from keystonemiddleware import auth_token

    return auth_token.AuthProtocol(application, {
        "www_authenticate_uri": f"http://127.0.0.1:{port}/v3", "auth_url": f"http://127.0.0.1:{port}/v3", "auth_type": "password",
        "username": "glance", "password": "glance-secret", "user_domain_name": "Default", "project_name": "service",
        "project_domain_name": "Default"})


application = context.ContextMiddleware(microversion.MicroversionMiddleware(app.create_main_app({})))
application = Version(keystone(application, keystone_port) if keystone_port else Tokens(application))
server = waitress.create_server(application, host="127.0.0.1", port=port, threads=4)
threading.Thread(target=server.run, daemon=True).start()
(directory / "ready").write_text("")
sys.stdin.read()
os._exit(0)
