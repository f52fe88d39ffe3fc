"""abi.py OLD NEW: whether the driver header NEW keeps what a driver built with OLD relies on: structures only grow at their end,
and no name of an enumeration has another value."""
import re
import subprocess
import sys


def preprocessed(path):
    text = subprocess.run(["cc", "-E", "-P", "-xc", path], check=True, capture_output=True, text=True).stdout
    return re.sub(r"\s+", " ", text)


def structures(text):
    found = {}
    for name, body in re.findall(r"struct (clinker_\w+) \{(.*?)\} ?(?:clinker_\w+)? ?;", text):
        found[name] = [member.strip() for member in body.split(";") if member.strip()]
    return found


def numbers(text):
    found = {}
    for body in re.findall(r"enum (?:clinker_\w+ )?\{(.*?)\}", text):
        for item in body.split(","):
            if match := re.match(r"\s*(CLINKER_\w+) = (\w+)", item):
                found[match[1]] = int(match[2].rstrip("u"), 0)
    return found


old, new = map(preprocessed, sys.argv[1:])
faults = []
before, after = structures(old), structures(new)
assert {"clinker_driver", "clinker_host", "clinker_call", "clinker_request"} <= set(before), "the header was not understood"
for name, members in before.items():
    for index, member in enumerate(members):
        now = after.get(name, [])[index : index + 1]
        if now != [member]:
            faults.append(f"{name}: '{member}' is now '{now[0] if now else 'gone'}'")
before, after = numbers(old), numbers(new)
assert len(before) > 15, "the header was not understood"
for name, value in before.items():
    if after.get(name) != value:
        faults.append(f"{name} was {value} and is {after.get(name)}")
print("\n".join(faults) or f"abi: {len(structures(old)['clinker_driver'])} members of a driver's table and {len(before)} numbers are as they were")
sys.exit(bool(faults))
