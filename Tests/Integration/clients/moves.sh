#!/usr/bin/env bash
# moves.sh URL DIRECTORY: the openstack command with two backends, one and two, whose volumes lie as files under DIRECTORY.
set -euo pipefail
project=0123456789abcdef0123456789abcdef
files=$2
cloud() { openstack --os-auth-type none --os-endpoint "$1/v3/$project" --os-volume-api-version 3.71 "${@:2}"; }
url=$1
os() { cloud "$url" "$@"; }
cinder_() { cinder --os-auth-type noauth --os-endpoint "$url/v3" --os-project-id $project --os-user-id admin --os-volume-api-version 3.71 "$@"; }
until_is() { # name field value
    for _ in $(seq 100); do
        [ "$(os volume show "$1" -f value -c "$2" 2> /dev/null || echo gone)" = "$3" ] && return
        sleep 0.1
    done
    echo "$1: $2 is not $3 but $(os volume show "$1" -f value -c "$2")" >&2
    return 1
}

for name in one two; do os volume type create --property volume_backend_name=$name $name > /dev/null; done
os volume create --size 1 --type one moving > /dev/null
until_is moving status available
id=$(os volume show moving -f value -c id)
head -c 5000000 /dev/urandom | dd of="$files/one/volume-$id" conv=notrunc status=none
sum=$(cksum < "$files/one/volume-$id")

# retype, which has to copy
os volume set --type two --retype-policy on-demand moving
until_is moving os-vol-host-attr:host "node@two#files"
until_is moving status available
[ "$(os volume show moving -f value -c type)" = two ]
[ "$(cksum < "$files/two/volume-$id")" = "$sum" ]

# migrate: its type would forbid it, another one does not
os volume type create any > /dev/null
os volume set --type any moving
until_is moving type any
os volume migrate --host "node@one#files" --lock-volume moving
until_is moving os-vol-host-attr:host "node@one#files"
until_is moving status available
[ "$(os volume show moving -f value -c os-vol-mig-status-attr:migstat)" = success ]
[ "$(cksum < "$files/one/volume-$id")" = "$sum" ]
[ ! -e "$files/two/volume-$id" ]

# snapshots, and a volume of one on the other backend
os volume snapshot create --volume moving moment > /dev/null
sleep 0.5
os volume create --snapshot moment --size 1 --type two other > /dev/null
until_is other os-vol-host-attr:host "node@two#files"
until_is other status available
[ "$(cksum < "$files/two/volume-$(os volume show other -f value -c id)")" = "$sum" ]
! os volume migrate --host "node@two#files" moving 2> /dev/null
os volume snapshot delete moment

# unmanaged and managed again
sleep 0.5
os volume unmanage moving 2> /dev/null || cinder_ unmanage moving
until_is moving status gone
[ "$(cksum < "$files/one/volume-$id")" = "$sum" ]
cinder_ manageable-list node@one | grep "volume-$id" > /dev/null
os volume create --host "node@one#files" --remote-source source-name="volume-$id" --type one --name again > /dev/null 2>&1 ||
    cinder_ manage --id-type source-name --name again --volume-type one "node@one#files" "volume-$id" > /dev/null
until_is again status available
[ "$(cksum < "$files/one/volume-$(os volume show again -f value -c id)")" = "$sum" ]

# looking on
os volume backend pool list --long | grep "node@two#files" > /dev/null
os volume backend capability show node@one | grep thin_provisioning > /dev/null
cinder_ quota-class-update default --volumes 3 > /dev/null
cinder_ quota-class-show default | grep "| volumes *| 3 " > /dev/null
cinder_ get-capabilities node@one > /dev/null
cinder_ list-filters --resource volume | grep migration_status > /dev/null
cinder_ service-get-log --binary cinder-scheduler | grep clinker.flows > /dev/null
cinder_ service-set-log DEBUG --binary cinder-scheduler > /dev/null
os volume service list -f value -c Host | grep node@two > /dev/null
os volume type create --property volume_backend_name=nowhere lost > /dev/null
os volume create --size 1 --type lost failing > /dev/null
until_is failing status error
os volume message list -f value -c "User Message" | grep "weighted backend" > /dev/null

os volume delete failing other again
until_is other status gone
until_is again status gone
echo "moves: done"
