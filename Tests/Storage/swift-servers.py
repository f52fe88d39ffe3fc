"""swift-servers.py DIRECTORY PORT TOKEN_LIFE LARGEST: all of OpenStack Swift in one process; Tests/Storage/swift says what it offers."""
import getpass
import logging
import os
import sys
import time
import types

import eventlet

directory, port, token_life, largest = os.path.abspath(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]


def write(name, text):
    with open(os.path.join(directory, name), "w") as file:
        file.write(text)


write("swift.conf", f"[swift-hash]\nswift_hash_path_suffix = clinker\n[swift-constraints]\nmax_file_size = {largest}\n")

from swift.common import utils  # noqa: E402

utils.SWIFT_CONF_FILE = os.path.join(directory, "swift.conf")
utils.monkey_patch()
utils.validate_hash_conf()

from swift.common import storage_policy, wsgi  # noqa: E402
from swift.common.ring.builder import RingBuilder  # noqa: E402


class Memory:
    """What servers keep in a memcached: here there is one process, whose memory is shared."""

    def __init__(self):
        self.values = {}

    def get(self, key, *more, **options):
        value, end = self.values.get(key, (None, 0))
        return value if not end or end > time.time() else None

    def set(self, key, value, *more, **options):
        life = options.get("time")
        self.values[key] = (value, time.time() + life if life else 0)

    def incr(self, key, delta=1, *more, **options):
        value = (self.get(key) or 0) + delta
        self.set(key, value)
        return value

    def decr(self, key, delta=1, *more, **options):
        return self.incr(key, -delta)

    def delete(self, key, *more, **options):
        self.values.pop(key, None)


def memory_filter(global_conf, **local):
    memory = Memory()

    def make(app):
        def called(env, start_response):
            env["swift.cache"] = memory
            return app(env, start_response)
        return called
    return make


module = types.ModuleType("shared_memory")
module.memory_filter = memory_filter
module.log = lambda conf, name, to_console, route, fmt, logger, adapted: logger.addHandler(logging.StreamHandler())
sys.modules["shared_memory"] = module

common = f"""
bind_ip = 127.0.0.1
user = {getpass.getuser()}
swift_dir = {directory}
devices = {directory}/devices
mount_check = false
workers = 0
log_level = ERROR
log_address = /nowhere
log_custom_handlers = shared_memory.log
fallocate_reserve = 0
"""
os.makedirs(directory + "/devices/one", exist_ok=True)
servers = {"account": port + 1, "container": port + 2, "object": port + 3}
for kind, at in servers.items():
    ring = RingBuilder(4, 1, 0)
    ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": at, "device": "one", "weight": 1.0})
    ring.rebalance()
    ring.get_ring().save(f"{directory}/{kind}.ring.gz")
    write(f"{kind}.conf", f"[DEFAULT]\nbind_port = {at}{common}[pipeline:main]\npipeline = {kind}-server\n[app:{kind}-server]\nuse = egg:swift#{kind}\n")
write("proxy.conf", f"""[DEFAULT]
bind_port = {port}{common}[pipeline:main]
pipeline = catch_errors cache listing_formats bulk s3api tempauth copy slo dlo symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:cache]
paste.filter_factory = shared_memory:memory_filter
[filter:tempauth]
use = egg:swift#tempauth
token_life = {token_life}
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = no
check_bucket_owner = no
auth_pipeline_check = no
min_segment_size = 1
[filter:slo]
use = egg:swift#slo
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:copy]
use = egg:swift#copy
[filter:dlo]
use = egg:swift#dlo
[filter:symlink]
use = egg:swift#symlink
""")
storage_policy.reload_storage_policies()
from swift.common import constraints  # noqa: E402

constraints.reload_constraints()
# One hub a thread for all of them: each would take a new one.
eventlet.hubs.use_hub(utils.get_hub())
use_hub = eventlet.hubs.use_hub
eventlet.hubs.use_hub = lambda *names: None if hasattr(eventlet.hubs._threadlocal, "Hub") else use_hub(*names)
started = []
for kind, at in [*servers.items(), ("proxy", port)]:
    conf, logger, global_conf, strategy = wsgi.check_config(f"{directory}/{kind}.conf", f"{kind}-server")
    listener = eventlet.listen(("127.0.0.1", at), backlog=512)
    started.append(eventlet.spawn(wsgi.run_server, conf, logger, listener, global_conf=global_conf))
for server in started:
    server.wait()
