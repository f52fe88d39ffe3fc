#!/usr/bin/env bash
# cloud.sh: the openstack command as its users run it, by the names of clouds in $OS_CLIENT_CONFIG_FILE: alice (a member) and root
# (an administrator) of one project, bob (a member) of another.
set -euo pipefail
alice() { openstack --os-cloud alice "$@"; }
root() { openstack --os-cloud root "$@"; }
bob() { openstack --os-cloud bob "$@"; }
until_is() { # who what name field value
    for _ in $(seq 100); do
        [ "$("$1" volume $2 show "$3" -f value -c "$4" 2> /dev/null || echo gone)" = "$5" ] && return
        sleep 0.2
    done
    echo "$2 $3: $4 is not $5" >&2
    return 1
}
refused() { # what must be in the refusal, then the command
    wanted=$1
    shift
    if output=$("$@" 2>&1); then echo "allowed: $*" >&2; return 1; fi
    [[ $output == *"$wanted"* ]] || { echo "$*: $output" >&2; return 1; }
}

api() { # method path body: what these commands cannot say without an identity service
    python3 -c '
import sys, openstack
method, path, body = sys.argv[1:]
answer = openstack.connect(cloud="root").block_storage.request(path, method, data=body, headers={"Content-Type": "application/json"})
assert answer.status_code < 300, answer.text' "$@"
}

alice volume create --size 1 first
until_is alice "" first status available
alice volume snapshot create --volume first --property a=b moment
until_is alice snapshot moment status available
alice volume snapshot set --name instant --property c=d moment
[ "$(alice volume snapshot list -f value -c Name)" = instant ]
alice volume create --snapshot instant --size 2 second
until_is alice "" second status available
alice volume revert instant
until_is alice "" first status available

# Others see nothing of it, and may not use it.
[ -z "$(bob volume list -f value)" ]
[ -z "$(bob volume snapshot list -f value)" ]
id=$(alice volume show first -f value -c id)
refused "" bob volume show "$id"
refused "" bob volume delete "$id"
refused "Policy doesn't allow volume_extension:services:index" alice volume service list
refused "Policy doesn't allow" alice volume type create mine
[ "$(root volume list --all-projects -f value -c Name | sort | tr '\n' ' ')" = "first second " ]

# What one project offers another accepts.
alice volume create --size 1 gift
until_is alice "" gift status available
key=$(alice volume transfer request create --name offer gift -f value -c auth_key)
offer=$(alice volume transfer request show offer -f value -c id)
until_is alice "" gift status awaiting-transfer
[ -z "$(bob volume transfer request list -f value)" ]
refused "invalid auth key" bob volume transfer request accept --auth-key "${key}0" "$offer"
bob volume transfer request accept --auth-key "$key" "$offer"
until_is bob "" gift status available
refused "" alice volume show gift
bob volume delete gift
until_is bob "" gift status gone

# A backup is its project's, and its record the operator's.
alice volume backup create --name kept first
until_is alice backup kept status available
[ -z "$(bob volume backup list -f value)" ]
copy=$(alice volume backup show kept -f value -c id)
refused "" bob volume backup show "$copy"
refused "" bob volume backup restore "$copy" taken
refused "" bob volume backup delete "$copy"
refused "Policy doesn't allow" alice volume backup record export kept
root volume backup record export "$copy" -f value > /dev/null
alice volume backup restore kept back
until_is alice "" back status available
alice volume backup delete kept
until_is alice backup kept status gone
alice volume delete back
until_is alice "" back status gone

# Operators.
root volume type create --private --property volume_backend_name=file gold
refused "could not be found" alice volume create --size 1 --type gold third
project=$(root volume show "$id" -f value -c os-vol-tenant-attr:tenant_id)
api "POST" "/types/$(root volume type show gold -f value -c id)/action" "{\"addProjectAccess\": {\"project\": \"$project\"}}"
alice volume create --size 1 --type gold third
until_is alice "" third status available
host=$(root volume service list -f value -c Binary -c Host | awk '$1 == "cinder-volume" {print $2}')
root volume service set --disable --disable-reason maintenance "$host" cinder-volume
[ "$(root volume service list --long -f value -c Binary -c Status | awk '$1 == "cinder-volume" {print $2}')" = disabled ]
root volume service set --enable "$host" cinder-volume
api PUT "/os-quota-sets/$project" '{"quota_set": {"volumes": 3}}'
refused "exceeded" alice volume create --size 1 fourth

alice volume snapshot delete instant
until_is alice snapshot instant status gone
alice volume delete first second third
until_is alice "" first status gone
echo "all good"
