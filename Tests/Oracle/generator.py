"""The requests: whole ones for every operation that exists on both sides, then random ones until there are enough.

A scenario is a function that works in a project of its own; what it prepares is compared like what it asks."""
import contextlib
import json
import random
import urllib.parse

# What a text, a number, a flag, a list may be given instead of what it should be; at its limits and over them.
TEXTS = ["", " ", "x", "x" * 255, "x" * 256, "  spaces  ", "é" * 255, "é" * 256, "a/b:c d", "<b>%s</b>", "\U0001F600", "tab\there", "line\nline"]
ODD = [None, True, False, 0, 1, -1, 1.5, 2**31 - 1, 2**31, 2**63, "", "abc", "1", "0", "-1", "true", "x" * 256, [], ["a"], {}, {"a": "b"}]
NOBODY = "11111111-2222-4333-8444-555555555555"
UUIDS = [NOBODY, NOBODY.upper(), NOBODY.replace("-", ""), "not-a-uuid", "{v1}", " {v1} "]
STATES = [
    "available", "creating", "error", "error_deleting", "error_managing", "managing", "attaching", "in-use", "detaching", "maintenance",
    "restoring-backup", "error_restoring", "reserved", "awaiting-transfer", "backing-up", "error_backing-up", "error_extending",
    "downloading", "uploading", "retyping", "extending"]
BORDERS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 21, 22, 23, 26, 27, 28, 29, 30, 31, 33, 34, 35, 36, 39, 40, 41, 42, 44, 45,
           46, 47, 48, 49, 52, 53, 54, 59, 60, 61, 62, 63, 64, 65, 66, 68, 69, 70, 71]

SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


def q(**values):
    return urllib.parse.urlencode([(name, value) for name, value in values.items()])


def copy_with(body, path, value, absent=False):
    """The body with another value at a path of names."""
    body = json.loads(json.dumps(body))
    inner = body
    for name in path[:-1]:
        inner = inner[name]
    if absent:
        inner.pop(path[-1], None)
    else:
        inner[path[-1]] = value
    return body


def variants(body, members, extra=True):
    """Every member of a body absent, null, of every type, at and over its limits; members: path -> values beside ODD."""
    for path, more in members.items():
        path = tuple(path.split("/"))
        yield copy_with(body, path, None, absent=True)
        for value in ODD + list(more):
            yield copy_with(body, path, value)
    for path in sorted({tuple(path.split("/")[:depth]) for path in members for depth in range(1, len(path.split("/")))}):
        for value in (None, [], "abc", 5, {}):
            yield copy_with(body, path, value)
        yield copy_with(body, path, None, absent=True)
        if extra:
            yield copy_with(body, path + ("unknown_member",), "x")
    if extra:
        yield dict(body, unknown="x")


class Scene:
    """A scenario's view of the two servers."""

    def __init__(self, pair, rng, thorough=False):
        self.pair = pair
        self.rng = rng
        self.thorough = thorough
        self.ask = pair.ask

    def some(self, items, share):
        """A part of what may be asked, by the seed; all of it where there is time."""
        return [item for item in items if self.rng.random() < share or self.thorough]

    def volume(self, bind="v1", **members):
        self.pair.ask("POST", "/volumes", {"volume": dict(dict(size=1), **members)}, bind=bind)

    def snapshot(self, bind="s1", volume="v1", **members):
        self.pair.ask("POST", "/snapshots", {"snapshot": dict(dict(volume_id="{%s}" % volume), **members)}, bind=bind)

    def action(self, name, value, volume="v1", **options):
        return self.pair.ask("POST", "/volumes/{%s}/action" % volume, {name: value}, **options)

    @contextlib.contextmanager
    def elsewhere(self):
        """What is asked within is asked in another project."""
        own, self.pair.project = self.pair.project, self.pair.elsewhere
        yield
        self.pair.project = own

    def reset(self, status, volume="v1", **more):
        self.action("os-reset_status", dict(more, status=status), volume)


# MARK: volumes


VOLUME = {"volume": {"size": 1, "name": "n"}}
VOLUME_MEMBERS = {
    "volume/size": ["2", " 1", "1 ", "01", 2147483647 + 1, "2147483648"], "volume/name": TEXTS, "volume/description": TEXTS,
    "volume/display_name": TEXTS, "volume/display_description": TEXTS,
    "volume/volume_type": ["__DEFAULT__", "no such type", NOBODY, "x" * 255],
    "volume/metadata": [{"k": "v"}, {"k": None}, {"k": 1}, {"": "v"}, {"k": "x" * 255}, {"k": "x" * 256}, {"x" * 255: "v"}, {"x" * 256: "v"}, {"ä": "v"}, {"a b:c/d.e-f_g": ""}],
    "volume/snapshot_id": UUIDS, "volume/source_volid": UUIDS, "volume/consistencygroup_id": UUIDS,
    "volume/availability_zone": ["nova", "no such zone", "x" * 255, " "], "volume/multiattach": ["yes", "On", "maybe"],
    "volume/group_id": [NOBODY], "volume/backup_id": UUIDS, "OS-SCH-HNT:scheduler_hints": [{"same_host": NOBODY}],
}


@scenario
def volume_bodies(s):
    s.volume()
    for body in variants(VOLUME, VOLUME_MEMBERS):
        s.ask("POST", "/volumes", body)


@scenario
def volume_bodies_of_members(s):
    s.volume()
    for version in ("3.0", "3.13", "3.47", "3.53"):
        for body in s.some(variants(VOLUME, {"volume/size": [], "volume/group_id": [], "volume/backup_id": [], "volume/multiattach": []}), 0.5):
            s.ask("POST", "/volumes", body, version=version, user="mem")


@scenario
def volume_sources(s):
    s.volume(size=2)
    s.snapshot()
    s.volume("v2")
    sources = {"snapshot_id": "{s1}", "source_volid": "{v2}"}
    for version in ("3.0", "3.47", "3.71"):
        for body in ({**sources}, {**sources, "size": 2}, {"snapshot_id": "{s1}", "source_volid": None}, {"snapshot_id": "{s1}", "size": 1},
                     {"snapshot_id": "{s1}", "size": 3}, {"snapshot_id": "{s1}"}, {"source_volid": "{v1}"}, {"source_volid": "{v1}", "size": 1},
                     {"source_volid": "{v1}", "size": 3}, {"source_volid": "{v2}", "source_replica": NOBODY}, {}, {"size": None},
                     {"snapshot_id": "{v1}"}, {"source_volid": "{s1}"}, {"snapshot_id": "", "size": 1}, {"source_volid": "", "size": 1},
                     {"snapshot_id": "{s1}", "availability_zone": "elsewhere"}, {"source_volid": "{v1}", "volume_type": "no such"},
                     {"source_volid": "{v1}", "backup_id": NOBODY}):
            for user in ("adm", "mem"):
                s.ask("POST", "/volumes", {"volume": body}, version=version, user=user)
    for state in STATES:
        s.reset(state)
        s.ask("POST", "/volumes", {"volume": {"source_volid": "{v1}"}})
    for state in ("available", "error", "creating", "deleting", "error_deleting", "backing-up", "restoring", "unmanaging"):
        s.ask("POST", "/snapshots/{s1}/action", {"os-reset_status": {"status": state}})
        s.ask("POST", "/volumes", {"volume": {"snapshot_id": "{s1}"}})


UPDATE_MEMBERS = {
    "volume/name": TEXTS, "volume/description": TEXTS, "volume/display_name": TEXTS, "volume/display_description": TEXTS,
    "volume/metadata": [{"k": "v"}, {"k": None}, {"": "v"}, {"k": "x" * 256}],
}


@scenario
def volume_updates(s):
    s.volume(metadata={"a": "b"})
    for version in s.some(("3.0", "3.52", "3.53"), 0.5) + ["3.71"]:
        for body in variants({"volume": {"name": "n"}}, UPDATE_MEMBERS if version == "3.71" else {"volume/name": []}):
            s.ask("PUT", "/volumes/{v1}", body, version=version, user=s.rng.choice(("adm", "mem")))
    for identifier in (NOBODY, "nothing", "%20", "{s1}"):
        s.ask("PUT", "/volumes/" + identifier, {"volume": {"name": "n"}})
    for state in STATES:
        s.reset(state)
        s.ask("PUT", "/volumes/{v1}", {"volume": {"name": "in " + state}})


@scenario
def volume_views(s):
    s.volume(name="view", description="text", metadata={"a": "b"})
    s.volume("v2")
    s.action("os-update_readonly_flag", {"readonly": True}, "v2")
    for version in BORDERS:
        for user in ("adm", "mem"):
            for path in ("/volumes/{v1}", "/volumes/detail", "/volumes", "/volumes/{v2}"):
                if path == "/volumes/{v1}" or s.rng.random() < 0.3:
                    s.ask("GET", path, version="3.%d" % version, user=user)
    for state in STATES:
        s.reset(state)
        s.ask("GET", "/volumes/{v1}", user="mem")
    for identifier in (NOBODY, "nothing", "%20", "{v1}.json", "{v1}/", "detail.json", "detail/", ""):
        for method in ("GET", "DELETE"):
            s.ask(method, "/volumes/" + identifier, user=s.rng.choice(("adm", "mem")))


VOLUME_FILTERS = {
    "name": ["alpha", "Alpha", "None", "", "'alpha'", "['alpha', 'beta']", "alp", "alpha,beta", '"alpha"', "a%", "a_pha", "100%"],
    "name~": ["alp", "ALP", "", "%", "_", "a%a", "None", "\\", "'"], "status": ["available", "error", "Available", "", "None", "['available', 'error']"],
    "status~": ["avail", ""], "metadata": ["{'a': 'b'}", '{"a": "b"}', "{'a': 'c'}", "{}", "", "abc", "{'a'}", "['a']", "{'a': None}", "{'a': 1}", "{'readonly': 'True'}", "{'a': 'b', 'c': 'd'}", "None"],
    "bootable": ["true", "false", "True", "1", "0", "t", "yes", "abc", "", "None"], "migration_status": ["None", "", "error", "none", "success"],
    "availability_zone": ["nova", "other", "", "None"], "availability_zone~": ["nov"], "group_id": ["None", "", NOBODY], "size": ["1", "2", "abc", "", "1.0", "01", "-1", "None", "['1', '2']"],
    "created_at": ["", "abc", "gt:2020-01-01T00:00:00", "lt:2020-01-01", "gt:2020-01-01T00:00:00,lt:2120-01-01", "gt", "gt:", "2020-01-01", "neq:2020-01-01T00:00:00+02:00", "foo:2020-01-01", "gt:2020-02-30", "None", "gt:2020-01-01,", "gte:2020-01-01T00:00:00Z", "eq:20200101T000000", "gt:2020-01", "gt:2020", "gt:2020-W01"],
    "updated_at": ["gt:2020-01-01", "lt:2020-01-01", "abc", ""], "consumes_quota": ["true", "false", "abc", "", "1"],
    "id": ["{v1}", NOBODY, "['{v1}', '{v2}']", "abc", "", "None"], "display_name": ["alpha", ""], "display_description": ["text"], "description": ["text", "None"], "description~": ["tex"],
    "host": ["judge@fast#files", "judge@fast", "judge", "x"], "user_id": ["adm-{project}", "x"], "project_id": ["{project}", "x"], "volume_type_id": ["x", "None"], "volume_type": ["__DEFAULT__"],
    "attach_status": ["detached", "attached"], "multiattach": ["True", "False", "abc"], "encryption_key_id": ["None"], "replication_status": ["None", "x"], "service_uuid": ["x"], "bogus": ["x", ""],
    "bogus~": ["x"], "glance_metadata": ["{'a': 'b'}", "", "abc", "{}"], "snapshot_id": ["None", "{s1}", "x"], "source_volid": ["None"], "deleted": ["True", "False", "abc"], "cluster_name": ["x"],
    "limit": ["0", "1", "2", "3", "1000", "1001", "-1", "abc", "", "1.5", "99999999999999999999", " 1", "1 ", "+1", "0x1"], "offset": ["0", "1", "2", "100", "-1", "abc", "", "2147483647", "2147483648"],
    "marker": ["{v1}", "{v2}", NOBODY, "abc", "", "None"], "with_count": ["true", "false", "abc", "", "1", "True"], "all_tenants": ["1", "0", "true", "abc", "", "2", "None", "yes"],
    "sort": ["", "name", "name:asc", "name:desc", "size:asc,name:desc", "bogus", "name:up", ":asc", "name:", ",", "name,", "created_at", "id:asc", "status", "metadata", "name:asc:desc", " name : asc ", "bootable", "host", "volume_type_id", "display_name", "availability_zone", "updated_at", "attach_status", "project_id", "user_id", "encryption_key_id", "name,name", "NAME"],
    "sort_key": ["name", "bogus", "size", "", "created_at", "display_name"], "sort_dir": ["asc", "desc", "up", "", "ASC"],
}


def volumes_to_list(s):
    s.volume("v1", name="alpha", description="text", metadata={"a": "b"})
    s.volume("v2", name="beta", size=2, metadata={"a": "b", "c": "d"})
    s.volume("v3", size=2)
    s.volume("v4", name="None", size=3)
    s.volume("v5", name="100%")
    s.reset("error", "v5")
    s.snapshot()


@scenario
def volume_filters(s):
    volumes_to_list(s)
    for key, values in VOLUME_FILTERS.items():
        for value in values:
            for user in ("adm", "mem"):
                # Of every project's volumes those of this one: others are not made alike.
                more = {"project_id": "{project}"} if key == "all_tenants" and user == "adm" else {}
                s.ask("GET", s.rng.choice(("/volumes?", "/volumes/detail?")) + q(**{key: value}, **more), user=user)
    for version in s.some(BORDERS, 0.3):
        for key in ("name", "name~", "status", "metadata", "bootable", "group_id", "created_at", "consumes_quota", "glance_metadata", "bogus", "with_count", "host"):
            s.ask("GET", "/volumes?" + q(**{key: s.rng.choice(VOLUME_FILTERS[key])}), user=s.rng.choice(("adm", "mem")), version="3.%d" % version)
    for query in ("sort=name&sort_key=name", "sort=name&sort_dir=asc", "name=alpha&name=beta", "limit=1&limit=2", "sort_key=name&sort_dir=asc", "sort_key=size&sort_key=name&sort_dir=asc&sort_dir=desc",
                  "marker={v1}&limit=1", "marker={v2}&sort=name:asc", "limit=2&sort=size:asc", "offset=1&limit=2", "offset=2&marker={v4}", "name", "name=", "=x", "&&", "a=b=c", "%zz", "name=%ff", "name=%00", "limit=1&bogus=x"):
        for user in ("adm", "mem"):
            s.ask("GET", "/volumes?" + query, user=user)
    for query in ("", "all_tenants=1", "all_tenants=abc", "all_tenants=", "name=alpha", "bogus=x"):
        for version in ("3.11", "3.12", "3.35", "3.36", "3.71"):
            s.ask("GET", "/volumes/summary?" + query, user=s.rng.choice(("adm", "mem")), version=version) if "all_tenants=1" not in query else None


@scenario
def volume_filters_at_random(s):
    volumes_to_list(s)
    keys = [key for key in VOLUME_FILTERS if key != "all_tenants"]
    for _ in range(600 if s.thorough else 120):
        pairs = []
        for key in s.rng.sample(keys, s.rng.randint(2, 3)):
            pairs.append((key, s.rng.choice(VOLUME_FILTERS[key])))
        s.ask("GET", s.rng.choice(("/volumes?", "/volumes/detail?")) + urllib.parse.urlencode(pairs),
              user=s.rng.choice(("adm", "mem")), version="3.%d" % s.rng.choice((71, 71, 71, s.rng.choice(BORDERS))))


# MARK: actions of volumes


ACTIONS = {
    "os-attach": ({"mountpoint": "/dev/vdb", "host_name": "h"}, {"instance_uuid": UUIDS, "mountpoint": TEXTS, "host_name": TEXTS, "mode": ["rw", "ro", "RO"]}),
    "os-detach": ({}, {"attachment_id": UUIDS}),
    "os-reserve": ({}, {}), "os-unreserve": ({}, {}), "os-begin_detaching": ({}, {}), "os-roll_detaching": ({}, {}),
    "os-extend": ({"new_size": 5}, {"new_size": [2, "3", "abc", 2147483647]}),
    "os-retype": ({"new_type": "__DEFAULT__"}, {"new_type": TEXTS + UUIDS, "migration_policy": ["never", "on-demand", "x"]}),
    "os-set_bootable": ({"bootable": True}, {"bootable": ["yes", "maybe"]}),
    "os-update_readonly_flag": ({"readonly": True}, {"readonly": ["yes", "maybe"]}),
    "os-reset_status": ({"status": "available"}, {"status": STATES + ["deleting", "AVAILABLE", "bogus"], "attach_status": ["attached", "detached", "bogus"], "migration_status": ["none", "error", "bogus", "migrating"]}),
    "revert": ({"snapshot_id": "{s1}"}, {"snapshot_id": UUIDS}),
    "os-migrate_volume": ({"host": "judge@nowhere"}, {"host": ["", "judge@big#big"], "force_host_copy": ["yes", "maybe"], "lock_volume": ["maybe"], "cluster": ["c"]}),
    "os-migrate_volume_completion": ({"new_volume": NOBODY}, {"new_volume": UUIDS, "error": ["true", "maybe"]}),
    "os-extend_volume_completion": ({}, {"error": ["true", "maybe"]}),
    "os-force_detach": ({"connector": None}, {"attachment_id": UUIDS}),
    "os-terminate_connection": ({"connector": {}}, {}),
    "os-initialize_connection": ({"connector": "x"}, {}),
    "os-force_delete": ({}, {}), "os-unmanage": ({}, {}),
}
# Those that a backend would have to answer, and the judge has none.
WITH_BACKEND = {"os-attach", "os-detach", "os-force_detach", "os-terminate_connection", "os-initialize_connection", "os-migrate_volume", "os-unmanage", "revert", "os-retype"}


@scenario
def action_bodies(s):
    s.volume()
    s.snapshot()
    for name, (body, members) in ACTIONS.items():
        if name in ("os-force_delete", "os-unmanage", "os-terminate_connection", "os-initialize_connection", "os-force_detach"):
            continue
        for value in variants({"a": body}, {"a/" + member: values for member, values in members.items()}):
            if "unknown" in value:
                continue
            if name in WITH_BACKEND and valid(name, value.get("a")):
                continue
            request = {name: value["a"]} if "a" in value else {}
            s.ask("POST", "/volumes/{v1}/action", request, user=s.rng.choice(("adm", "adm", "mem")))
            if s.pair.diverged:
                s.pair.diverged = False
                s.volume()
                s.snapshot()
        s.reset("available", attach_status="detached")
    for body in ({}, {"os-reserve": {}, "os-unreserve": {}}, {"bogus": {}}, {"os-reserve": None}, {"os-reserve": []}, {"os-reserve": "x"}, {"os-unreserve": 5}, [], "x", None, 5):
        s.ask("POST", "/volumes/{v1}/action", raw=json.dumps(body))
    for name in ACTIONS:
        for version in ("3.0", "3.39", "3.40", "3.71"):
            s.ask("POST", "/volumes/%s/action" % NOBODY, {name: ACTIONS[name][0]}, version=version, user=s.rng.choice(("adm", "mem")))
    s.ask("POST", "/volumes//action", {"os-reserve": {}})
    s.ask("POST", "/volumes/action", {"os-reserve": {}})


def valid(name, value):
    """Whether a backend would have to answer."""
    if not isinstance(value, dict):
        return True
    if name == "os-attach":
        return isinstance(value.get("mountpoint"), str) and value.get("mode", "rw") in ("rw", "ro") and "unknown_member" not in value
    if name == "os-detach":
        return True
    if name == "revert":
        return value.get("snapshot_id") == "{s1}"
    if name == "os-migrate_volume":
        return "big" in str(value.get("host"))
    return False


@scenario
def action_states(s):
    s.volume()
    s.snapshot()
    s.volume("v2")
    names = [name for name in ACTIONS if name not in WITH_BACKEND and name not in ("os-force_delete", "os-reset_status")]
    for state in STATES:
        for attach in ("detached", "attached") if state in ("in-use", "available") else ("detached",):
            for name in names:
                s.reset(state, "v2", attach_status=attach)
                s.action(name, ACTIONS[name][0] if name != "os-extend" else {"new_size": 100 + s.rng.randint(1, 100)}, "v2", user=s.rng.choice(("adm", "mem")))
                if s.pair.diverged:
                    s.pair.diverged = False
                    s.volume("v2")


@scenario
def completions(s):
    """What Nova says when it has copied or extended a volume, in the states that administrators can set."""
    s.volume()
    s.volume("v2")
    for first in ("none", "starting", "migrating", "completing", "success", "error"):
        s.reset("available", "v1", migration_status=first)
        for second in ("none", "migrating", "error"):
            s.reset("available", "v2", migration_status=second)
            for body in ({"new_volume": "{v2}"}, {"new_volume": "{v2}", "error": True}, {"new_volume": "{v1}"}, {"new_volume": "{v2}", "error": "false"}):
                s.action("os-migrate_volume_completion", body, "v1", user=s.rng.choice(("adm", "adm", "mem")), version=s.rng.choice(("3.0", "3.71")))
        for state in ("available", "extending", "error_extending", "in-use"):
            s.reset(state, "v1")
            for body in ({}, {"error": True}, {"error": None}, {"error": "no"}, {"error": 1}, {"bogus": 1}):
                s.action("os-extend_volume_completion", body, "v1", user=s.rng.choice(("adm", "adm", "mem")), version=s.rng.choice(("3.0", "3.70", "3.71")))


@scenario
def deletion_states(s):
    for state in STATES:
        for attach in ("detached", "attached") if state in ("in-use", "available", "error") else ("detached",):
            for how in ("delete", "cascade", "force", "os-force_delete"):
                s.volume("v2")
                s.reset(state, "v2", attach_status=attach)
                user = s.rng.choice(("adm", "mem"))
                if how == "os-force_delete":
                    s.action(how, {}, "v2", user=user)
                else:
                    s.ask("DELETE", "/volumes/{v2}" + {"delete": "", "cascade": "?cascade=true", "force": "?force=true"}[how], user=user, version=s.rng.choice(("3.71", "3.0", "3.22", "3.23")))
                s.ask("GET", "/volumes/{v2}")
    s.volume()
    s.snapshot()
    for query in ("", "force=true", "cascade=abc", "force=abc", "cascade=false", "cascade=", "force=", "bogus=1", "cascade=True&force=False"):
        s.ask("DELETE", "/volumes/{v1}?" + query)
        if s.pair.diverged:
            s.pair.diverged = False
            s.volume()
            s.snapshot()
    s.ask("DELETE", "/volumes/{v1}?cascade=1")
    s.ask("GET", "/volumes/{v1}")
    s.ask("DELETE", "/volumes/" + NOBODY)


# MARK: metadata


@scenario
def metadata(s):
    s.volume(metadata={"a": "b"})
    s.snapshot(metadata={"a": "b"})
    maps = [{"k": "v"}, {"k": None}, {"k": 1}, {"": "v"}, {"k": "x" * 255}, {"k": "x" * 256}, {"x" * 255: "v"}, {"x" * 256: "v"}, {"ä": "v"}, {"k": "ä"}, {"a b": "c", "d": "e"}, {}]
    for base in ("/volumes/{v1}/metadata", "/snapshots/{s1}/metadata"):
        for method in ("POST", "PUT"):
            for body in variants({"metadata": {"x": "y"}}, {"metadata": maps}):
                s.ask(method, base, body, user=s.rng.choice(("adm", "mem")))
            s.ask(method, base)
            s.ask(method, base, raw="")
            s.ask(method, base, raw="{")
            s.ask(method, base, raw="[]")
        for body in variants({"meta": {"k": "v"}}, {"meta": maps}):
            s.ask("PUT", base + "/k", body, user=s.rng.choice(("adm", "mem")))
        for path in ("", "/a", "/k", "/nothing", "/%20", "/" + "x" * 255, "/" + "x" * 256, "/a/b", "/"):
            for method in ("GET", "DELETE", "PUT", "POST"):
                body = {"meta": {urllib.parse.unquote(path[1:]): "v"}} if method == "PUT" and path else {"metadata": {"z": "z"}} if method in ("PUT", "POST") else None
                s.ask(method, base + path, body, user=s.rng.choice(("adm", "mem")), version=s.rng.choice(("3.0", "3.14", "3.15", "3.71")))
        for method in ("GET", "DELETE", "PUT"):
            s.ask(method, base.replace("{v1}", NOBODY).replace("{s1}", NOBODY) + "/k", {"meta": {"k": "v"}} if method == "PUT" else None)
        s.ask("GET", base.replace("{v1}", NOBODY).replace("{s1}", NOBODY))
        for match in ('"abc"', "*", "abc", ""):
            s.ask("PUT", base, {"metadata": {"e": "t"}}, headers=[("If-Match", match)])
    for state in STATES:
        s.reset(state)
        for method, path, body in (("POST", "", {"metadata": {"p": "q"}}), ("PUT", "/p", {"meta": {"p": "r"}}), ("DELETE", "/p", None)):
            s.ask(method, "/volumes/{v1}/metadata" + path, body, user="mem")


# MARK: snapshots


SNAPSHOT_FILTERS = {
    "name": ["one", "None", "", "['one', 'two']", "'one'"], "name~": ["on", "", "%"], "status": ["available", "", "None", "['available']"], "status~": ["avail"], "volume_id": ["{v1}", "{v2}", NOBODY, "", "abc", "['{v1}']"],
    "metadata": ["{'a': 'b'}", "{'a': 'c'}", "abc", "{}", ""], "availability_zone": ["nova", "x", ""], "consumes_quota": ["true", "abc", ""], "id": ["{s1}", "abc"], "display_name": ["one"], "description": ["text"],
    "user_id": ["adm-{project}"], "project_id": ["{project}", "x"], "volume_size": ["1", "2", "abc"], "progress": ["100%", "x"], "bogus": ["x"], "bogus~": ["x"], "created_at": ["gt:2020-01-01", "abc", ""], "group_snapshot_id": ["None"],
    "limit": ["0", "1", "2", "-1", "abc", ""], "offset": ["1", "-1", "abc", ""], "marker": ["{s1}", "{s2}", NOBODY, "abc", ""], "with_count": ["true", "abc", ""], "all_tenants": ["0", "abc", "", "False"],
    "sort": ["", "name", "name:asc", "volume_size:asc", "volume_size", "size", "bogus", "volume_id", "status", "created_at:asc", "id", "display_name", "description", "progress", "updated_at", "project_id", "metadata"], "sort_key": ["name", "id", "bogus", ""], "sort_dir": ["asc", "up"],
    "volume_type_id": ["x"], "size": ["1", "abc"], "encryption_key_id": ["None"], "use_quota": ["True"], "deleted": ["False"], "cgsnapshot_id": ["None"], "provider_id": ["None"],
}


@scenario
def snapshots(s):
    s.volume()
    s.volume("v2", size=2)
    members = {"snapshot/name": TEXTS, "snapshot/display_name": TEXTS, "snapshot/description": TEXTS, "snapshot/volume_id": UUIDS, "snapshot/force": ["yes", "maybe"],
               "snapshot/metadata": [{"k": "v"}, {"k": None}, {"": ""}, {"k": "x" * 256}]}
    for body in variants({"snapshot": {"volume_id": "{v1}"}}, members):
        s.ask("POST", "/snapshots", body, user=s.rng.choice(("adm", "mem")), version=s.rng.choice(("3.71", "3.65", "3.66")))
    for state in STATES:
        s.reset(state)
        for version, force in (("3.0", False), ("3.0", True), ("3.65", "no"), ("3.66", None), ("3.66", True)):
            s.ask("POST", "/snapshots", {"snapshot": {"volume_id": "{v1}"} if force is None else {"volume_id": "{v1}", "force": force}}, version=version)


@scenario
def snapshot_lists(s):
    s.volume()
    s.volume("v2", size=2)
    s.snapshot("s1", name="one", metadata={"a": "b"}, description="text")
    s.snapshot("s2", "v2", name="two")
    s.snapshot("s3")
    s.snapshot("s4", "v2", name="None")
    for key, values in SNAPSHOT_FILTERS.items():
        for value in values:
            for user in s.some(("adm", "mem"), 0.7):
                s.ask("GET", s.rng.choice(("/snapshots?", "/snapshots/detail?")) + q(**{key: value}), user=user)
    for version in BORDERS:
        for user in ("adm", "mem"):
            s.ask("GET", s.rng.choice(("/snapshots", "/snapshots/detail", "/snapshots/{s1}")), version="3.%d" % version, user=user)
            key = s.rng.choice(list(SNAPSHOT_FILTERS))
            if key != "all_tenants":
                s.ask("GET", "/snapshots?" + q(**{key: s.rng.choice(SNAPSHOT_FILTERS[key])}), version="3.%d" % version, user=user)
    for identifier in (NOBODY, "nothing", "", "{s1}/", "{s1}.json", "detail/"):
        s.ask("GET", "/snapshots/" + identifier)
        s.ask("PUT", "/snapshots/" + identifier, {"snapshot": {"name": "n"}})
    for body in variants({"snapshot": {"name": "n"}}, {"snapshot/name": TEXTS, "snapshot/description": TEXTS, "snapshot/display_name": [], "snapshot/display_description": []}):
        s.ask("PUT", "/snapshots/{s1}", body, user=s.rng.choice(("adm", "mem")))


@scenario
def snapshot_states(s):
    s.volume()
    states = ["available", "creating", "error", "deleting", "error_deleting", "backing-up", "restoring", "unmanaging", "deleted", "bogus", "AVAILABLE", "error_bogus"]
    for state in states:
        s.snapshot()
        s.ask("POST", "/snapshots/{s1}/action", {"os-reset_status": {"status": state}})
        s.ask("GET", "/snapshots/{s1}")
        s.ask("PUT", "/snapshots/{s1}", {"snapshot": {"name": "in " + state}})
        s.ask("POST", "/snapshots/{s1}/action", {"os-update_snapshot_status": {"status": "available"}})
        s.ask("POST", "/snapshots/{s1}/action", {"os-reset_status": {"status": state}})
        s.ask("DELETE", "/snapshots/{s1}", user="mem")
        s.pair.diverged = False
    s.snapshot()
    for body in variants({"os-update_snapshot_status": {"status": "creating"}}, {"os-update_snapshot_status/status": ["creating", "available", "error"], "os-update_snapshot_status/progress": ["50%", "100%"]}):
        s.ask("POST", "/snapshots/{s1}/action", body)
    for body in variants({"os-reset_status": {"status": "creating"}}, {"os-reset_status/status": states}):
        s.ask("POST", "/snapshots/{s1}/action", body, user=s.rng.choice(("adm", "adm", "mem")))
    for body in ({"bogus": {}}, {}, {"os-force_delete": None}, {"os-force_delete": 5}):
        s.ask("POST", "/snapshots/%s/action" % NOBODY, body)
    s.ask("POST", "/snapshots/{s1}/action", {"os-force_delete": {}}, user="mem")
    s.ask("POST", "/snapshots/{s1}/action", {"os-force_delete": {}})
    s.ask("GET", "/snapshots/{s1}")


# MARK: attachments


@scenario
def attachments(s):
    s.volume()
    s.volume("v2")
    members = {"attachment/volume_uuid": UUIDS, "attachment/instance_uuid": UUIDS, "attachment/mode": ["rw", "ro", "null", "x"], "attachment/connector": [None]}
    for version in s.some(("3.26", "3.27", "3.53"), 0.4) + ["3.54", "3.71"]:
        for body in variants({"attachment": {"volume_uuid": "{v2}", "instance_uuid": NOBODY}}, members if version == "3.71" else {"attachment/mode": ["rw", "ro"]}):
            if isinstance(body.get("attachment"), dict) and isinstance(body["attachment"].get("connector"), dict):
                continue
            s.ask("POST", "/attachments", body, version=version, user=s.rng.choice(("adm", "mem")))
            if s.rng.random() < 0.3:
                s.volume("v2")
    s.ask("POST", "/attachments", {"attachment": {"volume_uuid": "{v1}", "instance_uuid": NOBODY}}, bind="a1")
    s.volume("v3")
    s.ask("POST", "/attachments", {"attachment": {"volume_uuid": "{v3}"}}, bind="a2", user="mem")
    filters = {"volume_id": ["{v1}", NOBODY, "", "abc"], "status": ["reserved", "", "x"], "instance_id": [NOBODY, "", "x"], "attach_status": ["reserved", "x", ""], "id": ["{a1}"], "bogus": ["x"], "limit": ["0", "1", "abc"], "offset": ["1", "abc"],
               "marker": ["{a1}", NOBODY, "abc"], "sort": ["", "id", "bogus", "volume_id:asc", "created_at"], "all_tenants": ["0", "abc", ""], "attached_host": ["x"], "mountpoint": ["x", "None"], "project_id": ["x"], "name": ["x"], "volume_id~": ["-4"], "status~": ["res"]}
    for path in ("/attachments?", "/attachments/detail?"):
        for key, values in filters.items():
            for value in values:
                s.ask("GET", path + q(**{key: value}), user=s.rng.choice(("adm", "mem")))
    for version in ("3.0", "3.26", "3.27", "3.30", "3.31", "3.44", "3.54", "3.71"):
        for path in ("/attachments", "/attachments/detail", "/attachments/{a1}", "/attachments/" + NOBODY, "/attachments/x", "/attachments/"):
            s.ask("GET", path, version=version, user=s.rng.choice(("adm", "mem")))
    for body in ({"os-complete": {}}, {"os-complete": None}, {"bogus": {}}, {}, {"os-complete": {"x": 1}}):
        for version in ("3.43", "3.44", "3.71"):
            s.ask("POST", "/attachments/{a1}/action", body, version=version, user=s.rng.choice(("adm", "mem")))
    s.ask("GET", "/volumes/{v1}")
    s.ask("POST", "/attachments/%s/action" % NOBODY, {"os-complete": {}})
    for body in ({}, {"attachment": {}}, {"attachment": {"connector": None}}, {"attachment": {"connector": "x"}}, {"attachment": None}, {"attachment": {"connector": {}}}, {"attachment": {"bogus": 1}}, []):
        s.ask("PUT", "/attachments/" + NOBODY, body)
        s.ask("PUT", "/attachments/{a2}", body) if body != {"attachment": {"connector": {}}} else None
    s.ask("DELETE", "/attachments/" + NOBODY)


@scenario
def image_metadata(s):
    s.volume(metadata={"own": "metadata"})
    s.volume("v2")
    show = lambda user="adm": s.action("os-show_image_metadata", {}, user=user)  # noqa: E731
    show()
    s.action("os-unset_image_metadata", {"key": "k"})
    s.action("os-set_image_metadata", {"metadata": {}})
    show("mem")
    values = [{"k": "v"}, {"k": None}, {"k": 1}, {"": "v"}, {"k": ""}, {"k": "x" * 60000}, {"x" * 255: "v"}, {"x" * 256: "v"}, {"ä": "v"}, {"a b:c/d.e-f_g": "v"}, {"a": "1", "b": "2"}]
    for body in variants({"os-set_image_metadata": {"metadata": {"k": "v"}}}, {"os-set_image_metadata/metadata": values}):
        s.ask("POST", "/volumes/{v1}/action", body, user=s.rng.choice(("adm", "mem")), version="3.%d" % s.rng.choice(BORDERS))
    for text in ("x" * 65536, "é" * 33000):
        s.ask("POST", "/volumes/{v1}/action", raw=json.dumps({"os-set_image_metadata": {"metadata": {"k": text}}}, ensure_ascii=False))
    for value in ODD:
        s.action("os-show_image_metadata", value, user=s.rng.choice(("adm", "mem")))
    s.action("os-set_image_metadata", {"metadata": {"k": "v"}})
    for user in ("adm", "mem"):
        show(user)
        for path in ("/volumes/{v1}", "/volumes/detail", "/volumes", "/volumes/{v2}", "/volumes/detail?" + q(glance_metadata="{'k': 'v'}"), "/volumes/{v1}/metadata"):
            s.ask("GET", path, user=user, version="3.%d" % s.rng.choice(BORDERS))
    for body in variants({"os-unset_image_metadata": {"key": "nothing"}}, {"os-unset_image_metadata/key": ["a", "x" * 255, "a b:c/d.e-f_g", "x" * 256]}):
        s.ask("POST", "/volumes/{v1}/action", body, user=s.rng.choice(("adm", "mem")))
    show()
    for state in STATES:
        s.reset(state)
        s.action("os-set_image_metadata", {"metadata": {"in": state}}, user="mem")
        s.action("os-unset_image_metadata", {"key": "nothing"}, user="mem")
        s.action("os-unset_image_metadata", {"key": "in"}, user="mem")
    s.reset("available")
    for name, value in (("os-set_image_metadata", {"metadata": {}}), ("os-show_image_metadata", None), ("os-unset_image_metadata", {"key": "k"})):
        s.ask("POST", "/volumes/%s/action" % NOBODY, {name: value}, user=s.rng.choice(("adm", "mem")))
    s.action("os-set_image_metadata", {"metadata": {"k": "v"}})
    s.snapshot()
    s.ask("POST", "/volumes", {"volume": {"snapshot_id": "{s1}"}}, bind="v3")
    s.ask("POST", "/volumes", {"volume": {"source_volid": "{v1}"}}, bind="v4")


# MARK: transfers


TRANSFERS = ("/volume-transfers", "/os-volume-transfer")


def offered(s, path, body, **options):
    """Offers a volume; what was made, if anything was."""
    before = s.pair.number
    s.ask("POST", path, body, **options)
    return None if s.pair.number == before else options.get("bind") or "made%d" % s.pair.number


@scenario
def transfer_bodies(s):
    s.volume()
    members = {"transfer/volume_id": UUIDS, "transfer/name": TEXTS, "transfer/no_snapshots": ["yes", "maybe", "On"]}
    for body in variants({"transfer": {"volume_id": "{v1}", "name": "n", "no_snapshots": False}}, members):
        path, version = s.rng.choice(TRANSFERS + TRANSFERS[:1]), s.rng.choice(("3.0", "3.54", "3.55", "3.71", "3.71"))
        made = offered(s, path, body, version=version, user=s.rng.choice(("adm", "mem")))
        if made:
            s.ask("DELETE", "%s/{%s}" % (path, made), user="mem")
    for path in TRANSFERS:
        s.ask("POST", path, {"transfer": {"volume_id": "{v1}"}}, bind="t1")
        for body in variants({"accept": {"auth_key": "k"}}, {"accept/auth_key": ["", "x" * 300, "{v1}", 1234567890123456]}):
            s.ask("POST", path + "/{t1}/accept", body, user=s.rng.choice(("adm", "mem")), version=s.rng.choice(("3.0", "3.71")))
        s.ask("DELETE", path + "/{t1}")


@scenario
def transfer_views(s):
    for bind in ("v1", "v2", "v3"):
        s.volume(bind, name=bind)
    s.ask("POST", "/volume-transfers", {"transfer": {"volume_id": "{v1}", "name": " spaces "}}, bind="t1")
    s.ask("POST", "/os-volume-transfer", {"transfer": {"volume_id": "{v2}", "name": "None"}}, bind="t2", user="mem")
    s.ask("POST", "/volume-transfers", {"transfer": {"volume_id": "{v3}", "no_snapshots": True}}, bind="t3", version="3.55")
    for version in BORDERS:
        for path in TRANSFERS:
            for suffix in ("", "/detail", "/{t1}", "/{t3}"):
                s.ask("GET", path + suffix, version="3.%d" % version, user=s.rng.choice(("adm", "mem")))
    filters = {"name": ["None", "spaces", "x", ""], "display_name": ["None"], "id": ["{t1}", NOBODY, ""], "volume_id": ["{v1}", NOBODY], "source_project_id": ["{project}", "x"], "bogus": ["x"],
               "project_id": ["x", "{project}"], "all_tenants": ["0", "abc", ""]}
    for key, values in filters.items():
        for value in values:
            for path in TRANSFERS:
                s.ask("GET", path + "?" + q(**{key: value}), version="3.%d" % s.rng.choice(BORDERS), user="mem" if key == "all_tenants" else s.rng.choice(("adm", "mem")))
    s.ask("GET", "/volume-transfers?" + q(all_tenants="1", project_id="{project}"))
    s.ask("GET", "/volume-transfers/detail?" + q(all_tenants="true", project_id="x"))
    for query in ("limit=1", "limit=2&sort=created_at:asc", "limit=0", "limit=abc", "limit=-1", "offset=1", "offset=abc", "marker={t2}", "marker=" + NOBODY, "sort=id", "sort=display_name:asc", "sort=name", "sort=bogus", "sort=volume_id:up", "sort_key=created_at&sort_dir=asc", "limit=1000"):
        for path in s.some(TRANSFERS, 0.5) + ["/volume-transfers", "/volume-transfers/detail"]:
            s.ask("GET", path + "?" + query, version=s.rng.choice(("3.71", "3.59")), user=s.rng.choice(("adm", "mem")))
    s.ask("GET", "/volume-transfers?limit=1", version="3.58")
    for identifier in (NOBODY, "x", "", "{v1}", "{t1}/", "{t1}.json"):
        for path in TRANSFERS:
            for user in ("adm", "mem"):
                s.ask("GET", path + "/" + identifier, user=user)
            s.ask("DELETE", "/volume-transfers/" + NOBODY, user="mem")
            s.ask("POST", path + "/" + NOBODY + "/accept", {"accept": {"auth_key": "k"}}, user="mem")
    with s.elsewhere():
        for user in ("adm", "mem"):
            s.ask("GET", "/volume-transfers/{t1}", user=user)
            s.ask("GET", "/volume-transfers", user=user)
        s.ask("DELETE", "/volume-transfers/{t1}", user="mem")
    for path in ("/volumes/{v1}", "/volumes/detail"):
        s.ask("GET", path, user="mem")
    for bind in ("t1", "t2", "t3", "t3"):
        s.ask("DELETE", "/volume-transfers/{%s}" % bind, user=s.rng.choice(("adm", "mem")))
    s.ask("GET", "/volumes/detail")


@scenario
def transfer_states(s):
    s.volume()
    for state in STATES:
        s.reset(state)
        made = offered(s, s.rng.choice(TRANSFERS), {"transfer": {"volume_id": "{v1}"}}, user=s.rng.choice(("adm", "mem")))
        if made:
            s.ask("DELETE", "/volume-transfers/{%s}" % made)
    s.reset("available")
    s.snapshot()
    for state in ("creating", "error", "deleting", "error_deleting", "available"):
        s.ask("POST", "/snapshots/{s1}/action", {"os-reset_status": {"status": state}})
        for path in TRANSFERS:
            for more in ({}, {"no_snapshots": True}) if path == TRANSFERS[0] else ({},):
                made = offered(s, path, {"transfer": dict(more, volume_id="{v1}")})
                if made:
                    s.ask("DELETE", path + "/{%s}" % made)
    # What may be done with a volume that is offered.
    s.ask("POST", "/volume-transfers", {"transfer": {"volume_id": "{v1}"}}, bind="t1")
    s.ask("POST", "/volume-transfers", {"transfer": {"volume_id": "{v1}"}}, user="mem")
    for name, value in (("os-extend", {"new_size": 2}), ("os-reserve", {}), ("os-retype", {"new_type": "__DEFAULT__"}), ("os-update_readonly_flag", {"readonly": True}), ("os-set_bootable", {"bootable": True}), ("revert", {"snapshot_id": "{s1}"})):
        s.action(name, value, user="mem")
    for path, body in (("/snapshots", {"snapshot": {"volume_id": "{v1}"}}), ("/attachments", {"attachment": {"volume_uuid": "{v1}"}}), ("/volumes", {"volume": {"source_volid": "{v1}"}})):
        s.ask("POST", path, body, user="mem")
    s.ask("DELETE", "/volumes/{v1}", user="mem")
    s.ask("DELETE", "/volumes/{v1}?cascade=true", user="mem")
    for state in ("maintenance", "error", "available"):
        s.reset(state)
        with s.elsewhere():
            s.ask("POST", "/volume-transfers/{t1}/accept", {"accept": {"auth_key": "{t1_key}"}}, user="mem")
    s.reset("awaiting-transfer")
    s.ask("POST", "/snapshots/{s1}/action", {"os-reset_status": {"status": "error"}})
    with s.elsewhere():
        s.ask("POST", "/volume-transfers/{t1}/accept", {"accept": {"auth_key": "{t1_key}"}}, user="mem")
    s.ask("GET", "/volumes/{v1}")
    s.reset("error")
    s.ask("DELETE", "/volume-transfers/{t1}")
    s.ask("GET", "/volumes/{v1}")


@scenario
def transfers(s):
    for number, path in enumerate(TRANSFERS):
        for user in ("adm", "mem"):
            volume, snapshot, transfer = ("%s%d%s" % (kind, number, user) for kind in ("v", "s", "t"))
            s.volume(volume, name="gift", metadata={"a": "b"})
            s.snapshot(snapshot, volume)
            s.ask("POST", path, {"transfer": {"volume_id": "{%s}" % volume}}, bind=transfer, user=user, version=s.rng.choice(("3.0", "3.55", "3.71")))
            with s.elsewhere():
                s.ask("POST", path + "/{%s}/accept" % transfer, {"accept": {"auth_key": "{%s_key}x" % transfer}}, user=user)
                s.ask("POST", path + "/{%s}/accept" % transfer, {"accept": {"auth_key": "{%s_key}" % transfer}}, user=user, version=s.rng.choice(("3.0", "3.71")))
                s.ask("POST", path + "/{%s}/accept" % transfer, {"accept": {"auth_key": "{%s_key}" % transfer}}, user=user)
                for one in ("adm", "mem"):
                    for what in ("/volumes/{%s}" % volume, "/snapshots/{%s}" % snapshot, "/snapshots/detail", path + "/{%s}" % transfer, path):
                        s.ask("GET", what, user=one)
            s.ask("GET", "/volumes/{%s}" % volume, user="mem")
            s.ask("GET", "/snapshots/{%s}" % snapshot, user="mem")
            s.ask("GET", "/volumes", user="mem")
            with s.elsewhere():
                s.ask("DELETE", "/snapshots/{%s}" % snapshot, user="mem")
                s.ask("DELETE", "/volumes/{%s}" % volume, user="mem")
    # Without its snapshots.
    s.volume("v9")
    s.snapshot("s9", "v9")
    s.ask("POST", "/volume-transfers", {"transfer": {"volume_id": "{v9}", "no_snapshots": True}}, bind="t9", user="mem")
    with s.elsewhere():
        s.ask("POST", "/volume-transfers/{t9}/accept", {"accept": {"auth_key": "{t9_key}"}}, user="mem")
        for what in ("/volumes/{v9}", "/snapshots/{s9}", "/snapshots"):
            s.ask("GET", what, user="mem")
        s.ask("DELETE", "/volumes/{v9}", user="mem")
        s.ask("DELETE", "/volumes/{v9}?cascade=true", user="mem")
    for what in ("/volumes/{v9}", "/snapshots/{s9}", "/snapshots/detail"):
        s.ask("GET", what, user="mem")
    s.ask("DELETE", "/snapshots/{s9}", user="mem")
    with s.elsewhere():
        s.ask("DELETE", "/volumes/{v9}", user="mem")
    # To the project that it is of.
    s.volume("v8")
    s.ask("POST", "/volume-transfers", {"transfer": {"volume_id": "{v8}"}}, bind="t8")
    s.ask("POST", "/volume-transfers/{t8}/accept", {"accept": {"auth_key": "{t8_key}"}}, user="mem")
    s.ask("GET", "/volumes/{v8}")


# MARK: types


@scenario
def types(s):
    token = "%08x" % s.rng.getrandbits(32)
    name = "t" + token
    made = []
    def make(bind, **members):
        s.ask("POST", "/types", {"volume_type": dict(dict(name=name + bind), **members)}, bind=bind)
        made.append(bind)
    make("t1")
    make("t2", description="text", extra_specs={"volume_backend_name": "big", "RESKEY:availability_zones": "nova"})
    make("t3", **{"os-volume-type-access:is_public": False})
    make("t4", extra_specs={"multiattach": "<is> True"})
    members = {"volume_type/name": ["x" * 256, " ", "", name + "t1"], "volume_type/description": ["x" * 256, "", "tab\t"], "volume_type/extra_specs": [{"": "x"}, {"k": None}, {"k": 1}, {"x" * 256: "x"}, {"a b": "x"}, {"k": "x" * 256}],
               "volume_type/os-volume-type-access:is_public": ["yes", "maybe"]}
    number = 0
    for body in variants({"volume_type": {"name": "N"}}, members):
        if isinstance(body.get("volume_type"), dict) and body["volume_type"].get("name") == "N":
            number += 1
            body["volume_type"]["name"] = "%s-%d" % (name, number)
        before = s.pair.number
        s.ask("POST", "/types", body, user="mem" if s.rng.random() < 0.05 else "adm")
        if s.pair.number != before:
            made.append("made%d" % s.pair.number)
    for bind in made[4:]:
        s.ask("DELETE", "/types/{%s}" % bind)
    for body in variants({"volume_type": {"name": name + "u"}}, {"volume_type/name": ["x" * 256, " ", name + "t2"], "volume_type/description": ["x" * 256, "text"], "volume_type/is_public": ["yes", "maybe"]}):
        s.ask("PUT", "/types/{t1}", body)
    s.ask("PUT", "/types/{t1}", {"volume_type": {"name": name + "t1", "is_public": True}})
    s.ask("PUT", "/types/" + NOBODY, {"volume_type": {"name": "x"}})
    listing_keys = {"is_public": ["true", "false", "None", "none", "abc", "", "1"], "extra_specs": ["{'volume_backend_name': 'big'}", "{}", "abc", "", "{'volume_backend_name': 'x'}", "{'RESKEY:availability_zones': 'nova'}", "{'multiattach': '<is> True'}"],
                    "name": [name + "t1", "x", ""], "description": ["text"], "id": ["{t1}", "x"], "bogus": ["x"], "limit": ["1", "0", "abc"], "offset": ["1", "abc"], "marker": ["{t1}", NOBODY], "sort": ["name", "name:asc", "id", "bogus", "", "created_at:asc", "is_public", "description", "updated_at"],
                    "sort_key": ["name"], "sort_dir": ["asc"], "name~": ["t"], "all_tenants": ["1", "abc"], "qos_specs_id": ["None", "x"]}
    for key, values in listing_keys.items():
        for value in values:
            for user in ("adm", "mem"):
                s.ask("GET", "/types?" + q(**{key: value}), user=user, version=s.rng.choice(("3.71", "3.71", "3.0", "3.51", "3.52")))
    for version in BORDERS:
        s.ask("GET", s.rng.choice(("/types", "/types/{t2}", "/types/default")), version="3.%d" % version, user=s.rng.choice(("adm", "mem")))
    for identifier in (NOBODY, "x", "default", "", "{t3}", "{t1}", "{t2}", "{t4}", name + "t1", "default/"):
        for user in ("adm", "mem"):
            s.ask("GET", "/types/" + identifier, user=user)
    specs = "/types/{t1}/extra_specs"
    for body in variants({"extra_specs": {"k": "v"}}, {"extra_specs": [{"k": "v"}, {"k": None}, {"k": 1}, {"": "x"}, {"x" * 256: "x"}, {"a b": "x"}, {"multiattach": "<is> True"}, {"k": "x" * 256}, {"a": "1", "b": "2"}]}):
        s.ask("POST", specs, body, user=s.rng.choice(("adm", "adm", "mem")))
    for body in ({"k": "w"}, {"k": None}, {"other": "w"}, {}, {"k": "a", "l": "b"}, {"k": 1}, {"k": "x" * 256}, [], None):
        s.ask("PUT", specs + "/k", raw=json.dumps(body))
    for path in ("", "/k", "/nothing", "/a%20b", "/"):
        for method in ("GET", "DELETE"):
            for user in ("adm", "mem"):
                s.ask(method, specs + path, user=user)
                s.ask(method, specs.replace("{t1}", NOBODY) + path, user=user)
    for bind in ("t1", "t3"):
        for action in ("addProjectAccess", "removeProjectAccess"):
            for value in ({"project": "{project}"}, {"project": "{project}"}, {}, {"project": ""}, {"project": 5}, {"project": "x" * 256}, None, {"project": "a", "x": 1}, {"project": "not a project"}):
                s.ask("POST", "/types/{%s}/action" % bind, {action: value}, user=s.rng.choice(("adm", "adm", "mem")))
                s.ask("GET", "/types/{%s}/os-volume-type-access" % bind, user=s.rng.choice(("adm", "adm", "mem")))
    s.ask("POST", "/types/{t3}/action", {"addProjectAccess": {"project": "{project}"}})
    for user in ("adm", "mem"):
        for query in ("", "?is_public=true", "?is_public=false", "?is_public=None"):
            s.ask("GET", "/types" + query, user=user)
        s.ask("GET", "/types/{t3}", user=user)
        s.ask("POST", "/volumes", {"volume": {"size": 1, "volume_type": "{t3}"}}, user=user)
        s.ask("POST", "/volumes", {"volume": {"size": 1, "volume_type": name + "t3"}}, user=user)
    s.ask("POST", "/types/{t3}/action", {"bogus": {}})
    s.ask("POST", "/types/{t3}/action", {})
    s.volume("v9", volume_type="{t2}")
    s.ask("DELETE", "/types/{t2}")
    s.ask("POST", "/types/{t2}/extra_specs", {"extra_specs": {"k": "v"}})
    s.ask("DELETE", "/volumes/{v9}")
    s.ask("DELETE", "/types/{t2}", user="mem")
    for bind in ("t1", "t2", "t4", "t1"):
        s.ask("DELETE", "/types/{%s}" % bind)
    for bind in ("made%d" % number for number in range(1, s.pair.number + 1)):
        if bind in s.pair.clinker.ids:
            s.ask("DELETE", "/volumes/{%s}" % bind, compare=False)
    s.ask("DELETE", "/types/{t3}")


@scenario
def qos_specs(s):
    token = "%08x" % s.rng.getrandbits(32)
    def make(bind, **members):
        s.ask("POST", "/qos-specs", {"qos_specs": dict(members, name=bind + token)}, bind=bind)
    make("q1", consumer="front-end", total_iops_sec="100", note=None)
    make("q2", consumer="both", read_bytes_sec_per_gb="10")
    make("q3")
    make("q1")
    made = []
    members = {"qos_specs/name": TEXTS, "qos_specs/consumer": ["back-end", "front-end", "both", "Both", " both"],
               "qos_specs/spec": ["v", "x" * 255, "x" * 256, "é" * 255, "é" * 256], "qos_specs/" + "k" * 255: ["v"], "qos_specs/ä b: c?": ["v"]}
    for number, body in enumerate(variants({"qos_specs": {"name": "N", "consumer": "both", "spec": "v"}}, members)):
        if isinstance(body.get("qos_specs"), dict) and body["qos_specs"].get("name") == "N":
            body["qos_specs"]["name"] = "N%d%s" % (number, token)
        before = s.pair.number
        s.ask("POST", "/qos-specs", body, user="mem" if s.rng.random() < 0.03 else "adm")
        if s.pair.number != before:
            made.append("made%d" % s.pair.number)
    for specs in ({"": "v"}, {"k" * 256: "v"}, {"k": "v", "l": 1}):
        s.ask("POST", "/qos-specs", {"qos_specs": dict(specs, name="odd" + token)})
    s.ask("GET", "/qos-specs")
    for bind in made:
        s.ask("DELETE", "/qos-specs/{%s}" % bind)
    for body in variants({"qos_specs": {"k": "v"}}, {"qos_specs": [{"k": None}, {"": "v"}, {"x" * 256: "v"}, {"a b": "v", "c": ""}, {"k": "x" * 256}, {"consumer": "both"}, {"consumer": "x"}, {"consumer": None, "m": "n"}, {"ä": "v"}], "qos_specs/k": ["x" * 255]}):
        s.ask("PUT", "/qos-specs/{q3}", body, user="mem" if s.rng.random() < 0.05 else "adm")
    s.ask("GET", "/qos-specs/{q3}")
    for body in variants({"keys": ["k"]}, {"keys": [["c", "nothing"], ["k", "k"], [""], ["x" * 256], [1], [None], ["a b", "c"]]}):
        s.ask("PUT", "/qos-specs/{q3}/delete_keys", body, user="mem" if s.rng.random() < 0.05 else "adm")
    s.ask("PUT", "/qos-specs/{q3}", {"qos_specs": {"first": "1", "second": "2"}})
    s.ask("PUT", "/qos-specs/{q3}/delete_keys", {"keys": ["first", "nothing", "second"]})
    s.ask("GET", "/qos-specs/{q3}")
    s.ask("PUT", "/qos-specs/{q3}", {"qos_specs": {"first": "1"}})
    s.ask("PUT", "/qos-specs/{q3}/delete_keys", {"keys": ["first", "second"]})
    for identifier in (NOBODY, "x", "", "{q1}", "{q1}/", "{q2}.json"):
        for user in ("adm", "mem"):
            s.ask("GET", "/qos-specs/" + identifier, user=user)
            s.ask("PUT", "/qos-specs/" + identifier, {"qos_specs": {"consumer": "back-end"}}, user=user)
            if identifier.strip("/") == identifier != "":
                s.ask("PUT", "/qos-specs/%s/delete_keys" % identifier, {"keys": ["nothing"]}, user=user)
    keys = {"id": ["{q1}", NOBODY, ""], "name": ["q1" + token, "x"], "consumer": ["both", "x"], "bogus": ["x"], "limit": ["1", "2", "0", "-1", "abc"], "offset": ["1", "abc"], "marker": ["{q1}", NOBODY],
            "sort": ["id", "id:asc", "created_at:asc", "created_at", "name", "name:asc", "consumer", "bogus", ""], "sort_key": ["created_at", "name"], "sort_dir": ["asc", "up"]}
    for key, values in keys.items():
        for value in values:
            s.ask("GET", "/qos-specs?" + q(**{key: value}), version="3.%d" % s.rng.choice(BORDERS))
    s.ask("GET", "/qos-specs?limit=1&marker={q3}&sort=created_at:asc")
    s.ask("GET", "/qos-specs", user="mem")
    for bind in ("t1", "t2"):
        s.ask("POST", "/types", {"volume_type": {"name": bind + token}}, bind=bind)
    for way in ("associate", "associate", "disassociate", "disassociate", "associate"):
        for query in ("?vol_type_id={t1}", "?vol_type_id={t2}", "", "?vol_type_id=", "?vol_type_id=" + NOBODY, "?vol_type_id=x", "?type=x"):
            for one in s.some(("{q1}", "{q2}"), 0.5) + ["{q1}"]:
                s.ask("GET", "/qos-specs/%s/%s%s" % (one, way, query), user="mem" if s.rng.random() < 0.05 else "adm")
        for path in ("/qos-specs/{q1}/associations", "/qos-specs/{q2}/associations", "/types/{t1}", "/types/{t2}", "/qos-specs/%s/associations" % NOBODY):
            s.ask("GET", path, user=s.rng.choice(("adm", "adm", "mem")))
    for query in ("", "?force=false", "?force=abc", "?force="):
        s.ask("DELETE", "/qos-specs/{q1}" + query)
    for path in ("/qos-specs/{q2}", "/qos-specs/" + NOBODY):
        s.ask("GET", path + "/disassociate_all", user="mem")
        s.ask("GET", path + "/disassociate_all")
    for method, path in (("POST", "/qos-specs/{q1}/associate?vol_type_id={t1}"), ("HEAD", "/qos-specs/{q1}/disassociate_all"), ("DELETE", "/qos-specs"), ("GET", "/qos-specs/{q1}/bogus"), ("PUT", "/qos-specs/{q1}/associations")):
        s.ask(method, path)
    s.ask("DELETE", "/qos-specs/{q1}?force=True", user="mem")
    s.ask("DELETE", "/qos-specs/{q1}?force=True")
    s.ask("GET", "/types/{t1}")
    for path in ("/qos-specs/{q1}", "/qos-specs/{q2}", "/qos-specs/{q3}", "/qos-specs/" + NOBODY, "/types/{t1}", "/types/{t2}"):
        s.ask("DELETE", path)


@scenario
def uploads(s):
    """Where no image comes of it: there is no Glance."""
    s.volume()
    for status in ("error", "uploading", "reserved", "maintenance", "awaiting-transfer", "extending"):
        s.reset(status)
        for force in s.some([False, True, "yes", "maybe", None, 1, 2, [], ""], 0.7):
            for version in ("3.0", "3.71"):
                s.action("os-volume_upload_image", {"image_name": "n", "force": force}, version=version)
        s.action("os-volume_upload_image", {"image_name": "n"})
        s.ask("GET", "/volumes/{v1}")
    s.reset("available")
    s.ask("DELETE", "/volumes/{v1}")


@scenario
def encryption(s):
    token = "%08x" % s.rng.getrandbits(32)
    for bind in ("t1", "t2", "t3"):
        s.ask("POST", "/types", {"volume_type": {"name": bind + token}}, bind=bind)
    record = {"encryption": {"provider": "luks", "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": 256}}
    path = "/types/{t1}/encryption"
    for user in ("adm", "mem"):
        s.ask("GET", path, user=user)
        s.ask("GET", path + "/provider", user=user)
        s.ask("PUT", path + "/x", record, user=user)
        s.ask("DELETE", path + "/x", user=user)
    s.ask("POST", path, record, user="mem")
    s.ask("POST", "/types/%s/encryption" % NOBODY, record)
    members = {"encryption/provider": ["x" * 255, "x" * 256], "encryption/control_location": ["front-end", "back-end", "both"], "encryption/cipher": ["x" * 255, "x" * 256],
               "encryption/key_size": ["256", " 1", "01", "+1", "1.0", "1e3", 2147483647, "2147483647", "2147483648"]}
    for body in variants(record, members):
        s.ask("POST", path, body)
        s.ask("DELETE", path + "/x")
    for body in variants(record, members):
        s.ask("POST", "/types/{t2}/encryption", record, compare=False)
        s.ask("PUT", "/types/{t2}/encryption/x", body)
    s.ask("POST", path, {"encryption": {"provider": "luks", "control_location": "back-end"}})
    s.ask("POST", path, record)
    for body in (record, {"encryption": {}}, {"encryption": {"cipher": None}}, {"encryption": {"key_size": "512"}}, {"encryption": {"key_size": None}}):
        s.ask("PUT", path + "/provider", body, version="3.%d" % s.rng.choice(BORDERS))
        s.ask("GET", path, version="3.%d" % s.rng.choice(BORDERS))
    for name in ("provider", "cipher", "key_size", "control_location", "encryption_id", "volume_type_id", "deleted", "deleted_at", "created_at", "updated_at", "nothing", "x%20y", ""):
        for one in ("{t1}", "{t3}", NOBODY):
            s.ask("GET", "/types/%s/encryption/%s" % (one, name))
    s.ask("GET", path, user="mem")
    for method in ("GET", "POST", "DELETE", "PUT"):
        s.ask(method, "/types/%s/encryption%s" % (NOBODY, "/x" if method in ("DELETE", "PUT") else ""), {"encryption": {"provider": "luks", "control_location": "front-end"}} if method in ("POST", "PUT") else None)
    s.ask("GET", "/types/{t1}")
    s.volume("v1", volume_type="{t3}")
    for method, suffix in (("POST", ""), ("PUT", "/x"), ("DELETE", "/x"), ("GET", "")):
        for user in ("adm", "mem"):
            s.ask(method, "/types/{t3}/encryption" + suffix, record if method in ("POST", "PUT") else None, user=user)
    for user in ("adm", "mem"):
        for version in ("3.0", "3.71"):
            s.ask("GET", "/volumes/{v1}/encryption", user=user, version=version)
        for name in ("encryption_key_id", "cipher", "nothing", ""):
            s.ask("GET", "/volumes/{v1}/encryption/" + name, user=user)
        s.ask("GET", "/volumes/%s/encryption" % NOBODY, user=user)
        s.ask("GET", "/volumes/%s/encryption/cipher" % NOBODY, user=user)
    s.action("os-retype", {"new_type": "{t1}", "migration_policy": "never"})
    s.ask("DELETE", "/volumes/{v1}")
    for bind in ("t1", "t2", "t3"):
        s.ask("DELETE", "/types/{%s}" % bind)


@scenario
def default_types(s):
    name = "d%08x" % s.rng.getrandbits(32)
    s.ask("POST", "/types", {"volume_type": {"name": name}}, bind="t1")
    for version in ("3.61", "3.62", "3.71"):
        for user in ("adm", "mem"):
            for path in ("/default-types/{project}", "/default-types", "/default-types/", "/default-types/x"):
                s.ask("GET", path, version=version, user=user)
    for body in variants({"default_type": {"volume_type": name}}, {"default_type/volume_type": ["{t1}", NOBODY, "no such", "x" * 256, " "]}):
        s.ask("PUT", "/default-types/{project}", body, user=s.rng.choice(("adm", "adm", "mem")))
    s.ask("PUT", "/default-types/{project}", {"default_type": {"volume_type": name}})
    for version in ("3.0", "3.61", "3.62", "3.71"):
        for user in ("adm", "mem"):
            s.ask("GET", "/types/default", version=version, user=user)
            s.ask("GET", "/default-types/{project}", version=version, user=user)
    s.ask("GET", "/default-types")
    s.ask("POST", "/volumes", {"volume": {"size": 1}}, bind="v1")
    s.ask("DELETE", "/types/{t1}")
    s.ask("DELETE", "/volumes/{v1}")
    s.ask("DELETE", "/types/{t1}")
    for user in ("mem", "adm", "adm"):
        s.ask("DELETE", "/default-types/{project}", user=user)
    s.ask("GET", "/types/default")
    s.ask("DELETE", "/types/{t1}")


# MARK: backups


BACKUP = {"backup": {"volume_id": "{v1}", "name": "n"}}
BACKUP_MEMBERS = {
    "backup/volume_id": UUIDS, "backup/container": ["c", "a/b"], "backup/description": TEXTS, "backup/name": TEXTS, "backup/incremental": ["yes", "On", "maybe"],
    "backup/force": ["yes", "On", "maybe"], "backup/snapshot_id": UUIDS, "backup/metadata": [{"k": "v"}, {"k": None}, {"": "v"}, {"k": "x" * 256}],
    "backup/availability_zone": ["nova"],
}


def backup(s, bind="b1", volume="v1", **members):
    s.ask("POST", "/backups", {"backup": dict(dict(volume_id="{%s}" % volume, container="c"), **members)}, bind=bind)


@scenario
def backup_bodies(s):
    s.volume()
    for version in s.some(("3.0", "3.42", "3.43", "3.50"), 0.5) + ["3.71"]:
        for body in variants(BACKUP, BACKUP_MEMBERS if version == "3.71" else {"backup/metadata": [], "backup/availability_zone": []}):
            s.ask("PUT", "/os-quota-sets/{project}", {"quota_set": {"backups": -1, "backup_gigabytes": -1}}, compare=False)
            s.ask("POST", "/backups", body, version=version, user=s.rng.choice(("adm", "mem")))


@scenario
def backup_life(s):
    s.volume(size=2)
    s.volume("v2")
    s.snapshot()
    backup(s, name="first", description="text", metadata={"a": "b"})
    for version in BORDERS:
        for user in ("adm", "mem"):
            for path in ("/backups/{b1}", "/backups/detail", "/backups"):
                if path == "/backups/{b1}" or s.rng.random() < 0.3:
                    s.ask("GET", path, version="3.%d" % version, user=user)
    backup(s, "b2", incremental=True)
    for body in ({"snapshot_id": "{s1}"}, {"snapshot_id": "{s1}", "incremental": True}, {"volume_id": "{v2}", "snapshot_id": "{s1}"}, {"volume_id": "{v2}", "incremental": True}, {"snapshot_id": NOBODY}):
        s.ask("POST", "/backups", {"backup": dict(dict(volume_id="{v1}"), **body)}, user=s.rng.choice(("adm", "mem")))
    for path in ("/backups/{b1}", "/backups/{b2}", "/backups/" + NOBODY, "/backups/nothing", "/backups/{v1}", "/backups/{b1}/", "/backups/{b1}.json"):
        for user in ("adm", "mem"):
            s.ask("GET", path, user=user)
    for version in s.some(("3.8", "3.9", "3.42"), 0.7) + ["3.71"]:
        for body in variants({"backup": {"name": "n"}}, {"backup/name": TEXTS, "backup/description": TEXTS, "backup/metadata": [{"k": "v"}, {"k": None}, {"": "v"}]}):
            s.ask("PUT", "/backups/{b1}", body, version=version, user=s.rng.choice(("adm", "mem")))
    s.ask("PUT", "/backups/" + NOBODY, {"backup": {"name": "n"}})
    for state in ("available", "error", "creating", "Available", "", "x", None, 1):
        s.ask("POST", "/backups/{b2}/action", {"os-reset_status": {"status": state}}, user=s.rng.choice(("adm", "adm", "mem")))
        s.ask("GET", "/backups/{b2}")
        s.ask("GET", "/backups/{b2}/export_record", user="mem")
        s.ask("POST", "/backups/{b2}/restore", {"restore": {"volume_id": "{v2}"}})
        s.ask("POST", "/volumes", {"volume": {"backup_id": "{b2}", "size": 1}})
    for body in ({}, {"os-reset_status": {}}, {"os-reset_status": None}, {"os-force_delete": {}, "os-reset_status": {"status": "error"}}, {"bogus": {}}, {"os-reset_status": {"status": "error", "x": 1}}):
        s.ask("POST", "/backups/{b1}/action", body)
    s.ask("POST", "/backups/%s/action" % NOBODY, {"os-reset_status": {"status": "error"}})
    s.ask("POST", "/backups/%s/action" % NOBODY, {"os-force_delete": {}})
    for state in STATES:
        s.reset(state)
        for force in (False, True):
            s.ask("POST", "/backups", {"backup": {"volume_id": "{v1}", "force": force}}, user="mem", bind="b3")
            s.ask("DELETE", "/backups/{b3}", compare=False)
    s.reset("available")
    s.ask("POST", "/backups/{b2}/action", {"os-reset_status": {"status": "available"}})
    for user in ("adm", "mem"):
        s.ask("DELETE", "/backups/{b1}", user=user)
        s.ask("POST", "/backups/{b1}/action", {"os-force_delete": {}}, user=user)
    with s.elsewhere():
        for method, path, body in (("GET", "/backups/{b1}", None), ("DELETE", "/backups/{b2}", None), ("PUT", "/backups/{b1}", {"backup": {"name": "x"}}), ("POST", "/backups/{b1}/restore", {"restore": {}}), ("POST", "/backups", {"backup": {"volume_id": "{v1}"}})):
            s.ask(method, path, body, user="mem")
    s.ask("DELETE", "/backups/{b2}", user="mem")
    for path in ("/backups/{b2}", "/backups/{b1}", "/backups/" + NOBODY):
        s.ask("GET", path)
        s.ask("DELETE", path)
    s.ask("GET", "/limits")
    s.ask("GET", "/os-quota-sets/{project}?usage=true")


@scenario
def backup_restorations(s):
    s.volume(size=2)
    s.volume("v2")
    backup(s)
    for body in variants({"restore": {"name": "n"}}, {"restore/name": TEXTS, "restore/volume_id": UUIDS}):
        s.ask("PUT", "/os-quota-sets/{project}", {"quota_set": {"volumes": -1, "gigabytes": -1}}, compare=False)
        s.ask("POST", "/backups/{b1}/restore", body, user=s.rng.choice(("adm", "mem")))
    s.ask("POST", "/backups/{b1}/restore", {"restore": {"volume_id": "{v2}"}})
    s.ask("POST", "/backups/%s/restore" % NOBODY, {"restore": {}})
    for state in STATES:
        s.reset(state)
        s.ask("POST", "/backups/{b1}/restore", {"restore": {"volume_id": "{v1}"}}, user="mem")
        s.ask("GET", "/volumes/{v1}")
    s.reset("available")
    for version in ("3.46", "3.47", "3.53", "3.71"):
        for body in ({"backup_id": "{b1}"}, {"backup_id": "{b1}", "size": 1}, {"backup_id": "{b1}", "size": 3}, {"backup_id": "{b1}", "source_volid": "{v1}"}, {"backup_id": "{v1}"}, {"backup_id": ""}, {"backup_id": None}):
            s.ask("POST", "/volumes", {"volume": body}, version=version, user=s.rng.choice(("adm", "mem")))
    s.ask("PUT", "/os-quota-sets/{project}", {"quota_set": {"volumes": 0, "backups": 1, "backup_gigabytes": 3}})
    s.ask("POST", "/backups/{b1}/restore", {"restore": {}})
    s.ask("POST", "/backups", {"backup": {"volume_id": "{v2}"}})
    s.ask("PUT", "/os-quota-sets/{project}", {"quota_set": {"backups": 9}})
    s.ask("POST", "/backups", {"backup": {"volume_id": "{v1}"}})


@scenario
def backup_lists(s):
    s.volume()
    s.volume("v2")
    backup(s, name="alpha", metadata={"a": "b"})
    backup(s, "b2", "v2", name="beta")
    backup(s, "b3", incremental=True)
    s.ask("POST", "/backups/{b3}/action", {"os-reset_status": {"status": "error"}})
    filters = {
        "name": ["alpha", "Alpha", "", "None"], "name~": ["alp", "", "%"], "status": ["available", "error", "", "['available', 'error']"], "status~": ["avail"],
        "volume_id": ["{v1}", NOBODY, "x"], "volume_id~": ["-"], "size": ["1", "2", "abc"], "metadata": ["{'a': 'b'}", "{}", "abc"], "bogus": ["x"], "bogus~": ["x"], "id": ["{b1}"], "parent_id": ["{b1}", "None"],
        "container": ["x"], "user_id": ["x"], "project_id": ["{project}", "x"], "display_name": ["alpha"], "availability_zone": ["nova"], "snapshot_id": ["None"], "created_at": ["x"],
        "limit": ["0", "1", "2", "3", "1001", "-1", "abc"], "offset": ["0", "1", "5", "-1", "abc"], "marker": ["{b1}", "{b2}", NOBODY, "abc"], "with_count": ["true", "false", "abc"], "all_tenants": ["1", "0", "abc", ""],
        "sort": ["name", "name:asc", "status:asc,name:desc", "bogus", "name:up", "size", "volume_id", "created_at:asc", "id:asc", "display_name", "availability_zone", "container", "host", "updated_at", "parent_id", "data_timestamp", "fail_reason"],
        "sort_key": ["name", "bogus", "size"], "sort_dir": ["asc", "up"],
    }
    for key, values in filters.items():
        for value in values:
            for user in ("adm", "mem"):
                more = {"project_id": "{project}"} if key == "all_tenants" and user == "adm" else {}
                s.ask("GET", s.rng.choice(("/backups?", "/backups/detail?")) + q(**{key: value}, **more), user=user)
    for version in s.some(BORDERS, 0.3):
        for key in ("name", "name~", "status", "volume_id", "bogus", "with_count", "size"):
            s.ask("GET", "/backups?" + q(**{key: s.rng.choice(filters[key])}), user=s.rng.choice(("adm", "mem")), version="3.%d" % version)
        for sort in ("name", "display_name", "size:asc"):
            s.ask("GET", "/backups?" + q(sort=sort), version="3.%d" % version)


@scenario
def backup_records(s):
    s.volume()
    backup(s)
    for user in ("adm", "mem"):
        for path in ("/backups/%s/export_record" % NOBODY, "/backups/{v1}/export_record"):
            s.ask("GET", path, user=user)
    texts = ["zz", "e30=", "W10=", "bm90aGluZw==", "eyJpZCI6ICJ4In0=", "", "e30", "e30=more", "é"]
    for body in variants({"backup-record": {"backup_service": "s", "backup_url": "e30="}}, {"backup-record/backup_service": ["x" * 255], "backup-record/backup_url": texts}):
        s.ask("POST", "/backups/import_record", body, user=s.rng.choice(("adm",) * 9 + ("mem",)))
    for method, path in (("GET", "/backups/import_record"), ("POST", "/backups/{b1}/export_record"), ("POST", "/backups/detail"), ("PUT", "/backups"), ("DELETE", "/backups"), ("GET", "/backups/{b1}/restore"), ("GET", "/backups/{b1}/action"), ("PATCH", "/backups/{b1}")):
        s.ask(method, path, {} if method in ("POST", "PUT", "PATCH") else None)


# MARK: quotas and services


@scenario
def quotas(s):
    s.volume()
    for user in ("adm", "mem"):
        for path in ("/os-quota-sets/{project}", "/os-quota-sets/{project}?usage=true", "/os-quota-sets/{project}?usage=abc", "/os-quota-sets/{project}?usage=", "/os-quota-sets/{project}/defaults", "/os-quota-sets/x", "/os-quota-sets/x/defaults",
                     "/os-quota-sets/", "/os-quota-sets", "/os-quota-class-sets/default", "/os-quota-class-sets/x", "/os-quota-class-sets/", "/limits", "/limits?project_id=x", "/limits?bogus=x"):
            for version in s.some(("3.0", "3.38", "3.39"), 0.3) + ["3.71"]:
                s.ask("GET", path, user=user, version=version)
    keys = ["volumes", "snapshots", "gigabytes", "per_volume_gigabytes", "backups", "backup_gigabytes", "groups", "volumes___DEFAULT__", "bogus"]
    for body in variants({"quota_set": {}}, {"quota_set/" + key: [-1, -2, 5, "5", 2147483647, "2147483648"] for key in keys}):
        s.ask("PUT", "/os-quota-sets/{project}", body, user=s.rng.choice(("adm", "adm", "mem")))
        if s.pair.diverged:
            s.pair.diverged = False
            s.ask("DELETE", "/os-quota-sets/{project}", compare=False)
    for query in ("?skip_validation=true", "?skip_validation=false", "?skip_validation=abc"):
        s.ask("PUT", "/os-quota-sets/{project}" + query, {"quota_set": {"volumes": 0}})
    s.ask("DELETE", "/os-quota-sets/{project}", user="mem")
    s.ask("DELETE", "/os-quota-sets/{project}")
    s.ask("GET", "/os-quota-sets/{project}")
    s.ask("PUT", "/os-quota-sets/{project}", {"quota_set": {"volumes": 2, "gigabytes": 4, "per_volume_gigabytes": 3, "snapshots": 1}})
    for body in ({"size": 4}, {"size": 3}, {"size": 2}, {"size": 1}, {"size": 1}):
        s.ask("POST", "/volumes", {"volume": body}, user="mem")
        s.ask("GET", "/limits", user="mem")
    s.ask("POST", "/snapshots", {"snapshot": {"volume_id": "{v1}"}})
    s.ask("POST", "/snapshots", {"snapshot": {"volume_id": "{v1}"}})
    s.action("os-extend", {"new_size": 3})
    s.action("os-extend", {"new_size": 9})
    s.ask("GET", "/os-quota-sets/{project}?usage=true")
    for body in variants({"quota_class_set": {"volumes": -1}}, {"quota_class_set/volumes": [-1, -2], "quota_class_set/bogus": []}):
        s.ask("PUT", "/os-quota-class-sets/other", body)
    s.ask("GET", "/os-quota-class-sets/other")


@scenario
def around(s):
    """What tells of the service itself."""
    for user in ("adm", "mem"):
        for path in ("/os-availability-zone", "/extensions", "/extensions/os-hosts", "/extensions/x", "/extensions/", "/resource_filters", "/resource_filters?resource=volume", "/resource_filters?resource=x", "/resource_filters?resource=",
                     "/os-services", "/os-services?binary=cinder-volume", "/os-services?host=judge", "/os-services?host=judge@fast", "/os-services?binary=x", "/os-services?bogus=x", "/os-hosts", "/os-hosts/nobody", "/os-hosts/",
                     "/messages", "/messages/" + NOBODY, "/messages/x", "/messages?limit=abc", "/messages?sort=bogus", "/messages?bogus=x", "/messages?marker=" + NOBODY, "/messages?resource_type=x", "/messages?sort=id", "/messages/", "/messages?offset=abc",
                     "/capabilities/nobody", "/capabilities/", "/manageable_volumes", "/manageable_volumes?host=nobody", "/os-volume-manage", "/manageable_snapshots", "/manageable_volumes?host=a&cluster=b", "/manageable_volumes?bogus=x", "/manageable_volumes/detail?host=nobody"):
            for version in ("3.0", "3.2", "3.3", "3.5", "3.6", "3.7", "3.8", "3.17", "3.32", "3.33", "3.48", "3.49", "3.71"):
                if version == "3.71" or s.thorough or s.rng.random() < 0.12:
                    s.ask("GET", path, user=user, version=version)
    for verb in ("enable", "disable", "disable-log-reason", "freeze", "thaw", "bogus", "get-log", "set-log"):
        for body in ({}, {"host": "nobody"}, {"host": "nobody", "binary": "cinder-volume"}, {"binary": "cinder-volume"}, {"host": None, "binary": "x"}, {"host": "judge@fast", "binary": "x", "disabled_reason": ""}, {"host": "a b", "binary": "x"},
                     {"host": "nobody", "binary": "cinder-volume", "disabled_reason": "x" * 256}, {"host": "nobody", "service": "cinder-volume", "disabled_reason": "why"}, {"x": 1}, [], None):
            s.ask("PUT", "/os-services/" + verb, raw=json.dumps(body), user=s.rng.choice(("adm", "adm", "adm", "mem")))
    for body in ({"status": "enable"}, {"status": "x"}, {}, {"maintenance_mode": "enable"}):
        s.ask("PUT", "/os-hosts/nobody", body)
    members = {"volume/ref": [{"source-name": "x"}], "volume/host": ["nobody", "a b", "x" * 256], "volume/name": TEXTS, "volume/description": TEXTS, "volume/volume_type": ["no such"], "volume/bootable": ["maybe"], "volume/metadata": [{"k": None}], "volume/cluster": ["c"], "volume/availability_zone": ["x"]}
    for path in ("/manageable_volumes", "/os-volume-manage"):
        for body in variants({"volume": {"host": "nobody@x", "ref": {"source-name": "x"}}}, members if path[1] == "m" else {"volume/ref": []}):
            s.ask("POST", path, body, user=s.rng.choice(("adm",) * 9 + ("mem",)))
    for body in variants({"snapshot": {"volume_id": NOBODY, "ref": {"source-name": "x"}}}, {"snapshot/volume_id": UUIDS[:4], "snapshot/ref": [], "snapshot/name": ["x" * 256], "snapshot/description": ["x" * 256], "snapshot/metadata": [{"k": None}]}):
        s.ask("POST", "/manageable_snapshots", body, user=s.rng.choice(("adm",) * 9 + ("mem",)))


@scenario
def versions(s):
    """Microversion headers, URLs, content types."""
    for header in ("volume 3.0", "volume 3.71", "volume 3.72", "volume 3.999", "volume 2.0", "volume 4.0", "volume latest", "volume LATEST", "volume", "volume 3", "volume 3.", "volume .3", "volume 3.07", "volume 03.7", "volume abc", "volume 3.7.1", "volume -3.7",
                   "volumev3 3.34", "volumev3 latest", "volumev2 3.34", "block-storage 3.34", "compute 2.1", "compute 2.1, volume 3.34", "compute 2.1,volume 3.34,identity 3", "volume 3.34, volume 3.50", "Volume 3.34", "VOLUME 3.34", "volume  3.34", " volume 3.34", "volume 3.34 ",
                   "volume\t3.34", "volume=3.34", "3.34", "", ",", "volume 3.34,", "volume 3.34 x", "volume 3.x", "volume 3.１", "volumev3 3.34, volume 3.50", "volume 3.50, volumev3 3.34", "volumev3 3.99"):
        for path in ("/volumes", "/types", "/os-services", "/volumes/" + NOBODY):
            if path == "/volumes" or s.rng.random() < 0.3:
                s.ask("GET", path, version=None, headers=[("OpenStack-API-Version", header.encode("utf-8").decode("latin-1"))])
    s.ask("GET", "/volumes", version=None)
    for two in (("compute 2.1", "volume 3.27"), ("volume 3.27", "compute 2.1"), ("volume 3.27", "volume 3.30"), ("", "volume 3.27"), ("compute 2.1", "identity 3")):
        s.ask("GET", "/volumes", version=None, headers=[("OpenStack-API-Version", one) for one in two])
    for path in ("/", "/v3", "/v3/", "/v3/{project}", "/v3/{project}/", "/v2", "/v2/", "/v1", "/v4/", "/x", "//", "/v3//volumes", "/v3/{project}//volumes", "/v3/{project}/volumes//", "/v3/zzz/volumes", "/v3/volumes", "/v3/volumes/", "/v3/volumes/detail", "/v3/types", "/v3/volumes/" + NOBODY,
                 "/v3/{project}/volumes.json", "/v3/{project}/volumes.xml", "/v3/{project}/bogus", "/v3/{project}/volumes/" + NOBODY + "/bogus", "/v3/" + "0" * 32 + "/volumes", "/healthcheck", "/v3/{project}/volumes/detail/x", "/v3/{project}/Volumes", "/v3/{project}/volumes%2Fdetail", "/v3/{project}/volumes;x", "/v3.0/", "/v3x"):
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
            if method == "GET" or s.rng.random() < 0.35:
                s.ask(method, path, {} if method in ("POST", "PUT", "PATCH") else None, root=True)
    for resource in ("volumes", "snapshots", "types", "attachments", "messages", "os-quota-sets", "default-types", "os-hosts", "extensions", "capabilities", "os-services", "limits", "os-quota-class-sets"):
        for method in ("GET", "PUT", "DELETE", "POST"):
            s.ask(method, "/%s/" % resource, {} if method in ("POST", "PUT") else None)
            s.ask(method, "/%s//" % resource, {} if method in ("POST", "PUT") else None)
            s.ask(method, "/%s" % resource, {} if method in ("PUT", "POST") else None) if method != "POST" or resource != "bogus" else None
    for accept in ("application/json", "text/html", "application/xml", "*/*", "application/json;q=0.5", ""):
        s.ask("GET", "/volumes", headers=[("Accept", accept)])
    for kind in ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.openstack.volume+json", "text/plain", "application/xml", "", "json", "application/json;", "application/x-www-form-urlencoded", "*/*"):
        for raw in ('{"volume": {"size": 1}}', "{", "", "null", '"x"', "[]", "5", '{"volume": {"size": 1}, "volume": {"size": 2}}', '{"volume": {"size": NaN}}', "\ufeff{}"):
            s.ask("POST", "/volumes", raw=raw, headers=[("Content-Type", kind)])
