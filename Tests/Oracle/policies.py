"""What oslo.policy says of Cinder's rules under random policy files, one JSON object a line and file.

  python policies.py SEED COUNT

Each line: the file's rules, whether only the new defaults hold, and callers with what they ask for and the rules that let them."""
import json
import random
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")

from cinder import context, policies  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_policy import opts, policy  # noqa: E402

rng = random.Random(int(sys.argv[1]))
KNOWN = list(policies.list_rules())
NAMES = [rule.name for rule in KNOWN]
BASES = [name for name in NAMES if ":" not in name]
OLD = sorted({rule.deprecated_rule.name for rule in KNOWN if rule.deprecated_rule and rule.deprecated_rule.name != rule.name})
OWN = ["mine", "deploy:operators", "default"]
ATOMS = [
    "@", "!", "role:admin", "role:member", "role:MEMBER", "role:reader", "role:Custom", "role:%(wanted)s", "role:pre-%(wanted)s",
    "is_admin:True", "is_admin:False", "is_admin:true", "is_admin:1", "is_admin:0", "is_admin:%(flag)s", "is_admin_project:True",
    "is_admin_project:False", "project_id:%(project_id)s", "project_id:%(tenant_id)s", "tenant_id:%(tenant_id)s", "tenant_id:%(project_id)s",
    "tenant:%(project_id)s", "user_id:%(user_id)s", "user:%(user_id)s", "user_id:alice", "user_id:%(first)s%(second)s",
    "project_id:one%%", "system_scope:all", "system_scope:None", "domain_id:%(domain_id)s", "domain_id:None", "user_domain_id:%(user_domain_id)s",
    "'available':%(status)s", '"error":%(status)s', "True:%(flag)s", "None:%(host)s", "5:%(size)s", "roles:member", "roles:%(wanted)s",
    "service_roles:service", "not_there:x", "project_id:%(not_there)s",
]


def expression(depth):
    draw = rng.random()
    if depth == 0 or draw < 0.3:
        draw = rng.random()
        if draw < 0.3:
            return "rule:" + rng.choice(BASES + OWN + OLD + ["nowhere"] + rng.sample(NAMES, 3))
        return rng.choice(ATOMS)
    if draw < 0.4:
        return "not " + expression(0)
    if draw < 0.6:
        return "(" + expression(depth - 1) + ")"
    return (" or " if draw < 0.8 else " and ").join(expression(depth - 1) for _ in range(rng.randint(2, 3)))


def rule():
    draw = rng.random()
    if draw < 0.05:
        return ""
    if draw < 0.12:  # the form of old files
        return [[expression(0) for _ in range(rng.randint(0, 2))] if rng.random() < 0.7 else expression(0) for _ in range(rng.randint(0, 3))]
    return expression(rng.randint(0, 3))


def rules():
    named = rng.sample(NAMES, rng.randint(0, 12)) + rng.sample(BASES, rng.randint(0, 3)) + rng.sample(OLD, rng.randint(0, 3))
    chosen = {name: rule() for name in named + rng.sample(OWN, rng.randint(0, 3))}
    # What "default" refers to and does not exist would be "default" again.
    while "rule:" in str(chosen.get("default")):
        chosen["default"] = rule()
    return chosen


def enforcer(text, new_defaults):
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    opts._register(conf)
    conf.set_override("enforce_new_defaults", new_defaults, "oslo_policy")
    conf.set_override("policy_dirs", [], "oslo_policy")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(json.dumps(text))
        file.flush()
        made = policy.Enforcer(conf, policy_file=file.name)
        made.suppress_deprecation_warnings = True
        made.register_defaults(policies.list_rules())
        made.load_rules()
    # The file is gone: it must not be looked for again.
    made.use_conf = False
    return made


def caller():
    roles = rng.sample(["admin", "member", "Member", "reader", "custom", "pre-member"], rng.randint(0, 3))
    return context.RequestContext(
        rng.choice(["alice", "bob"]), rng.choice(["one", "two", "one%"]), is_admin=rng.random() < 0.3, roles=roles,
        system_scope="all" if rng.random() < 0.2 else None, domain_id=rng.choice([None, "d"]), user_domain_id=rng.choice([None, "d"]),
        service_roles=["service"] if rng.random() < 0.3 else [])


def target():
    chosen = {"project_id": rng.choice(["one", "two"]), "user_id": rng.choice(["alice", "bob"])}
    for name, values in dict(
        status=["available", "error"], wanted=["member", "custom"], flag=["True", "False"], host=["None", "h"], size=["5", "6"],
        tenant_id=["one"], domain_id=["d", "None"], user_domain_id=["d"], first=["al", "b"], second=["ice", "ob"],
    ).items():
        if rng.random() < 0.6:
            chosen[name] = rng.choice(values)
    return chosen


def asked(made):
    who, what = caller(), target()
    values = dict(who.to_policy_values())
    return {
        "roles": values.pop("roles"), "service_roles": values.pop("service_roles"), "is_admin": values.pop("is_admin"),
        "attributes": {name: str(value) for name, value in values.items()}, "target": what,
        "allowed": [name for name in NAMES if made.enforce(name, what, who)],
    }


count = 0
while count < int(sys.argv[2]):
    text, new_defaults = rules(), rng.random() < 0.6
    made = enforcer(text, new_defaults)
    if any(made._cycle_check(check) for check in made.rules.values()):
        continue  # refused by the other side, where this one recurses until it fails
    try:
        calls = [asked(made) for _ in range(6)]
    except (RecursionError, TypeError):
        continue  # the same by the rule "default"
    print(json.dumps({"rules": text, "new_defaults": new_defaults, "calls": calls}))
    count += 1
