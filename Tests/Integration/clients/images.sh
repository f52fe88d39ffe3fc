#!/usr/bin/env bash
# images.sh DIRECTORY: the openstack command with images and volumes, by the names of clouds in $OS_CLIENT_CONFIG_FILE: alice (a member)
# and root (an administrator) of one project, bob (a member) of another.
set -euo pipefail
cd "$1"
alice() { openstack --os-cloud alice "$@"; }
bob() { openstack --os-cloud bob "$@"; }
until_is() { # what name value
    for _ in $(seq 200); do
        status=$(alice "$1" show "$2" -f value -c status 2> /dev/null || echo gone)
        [ "$status" = "$3" ] && return
        [ "$status" != error ] || break
        sleep 0.2
    done
    echo "$1 $2: $status is not $3" >&2
    return 1
}

head -c 1000000 /dev/urandom > data
alice image create --disk-format raw --container-format bare --file "$PWD/data" --property hw_disk_bus=scsi picture > /dev/null
alice volume create --image picture --size 1 disk > /dev/null
until_is volume disk available
[[ $(alice volume show disk -f value -c bootable) == [Tt]rue ]]
[[ $(alice volume show disk -f json -c volume_image_metadata) == *'"hw_disk_bus": "scsi"'* ]]
! bob volume create --image "$(alice image show picture -f value -c id)" --size 1 stolen 2> /dev/null

# An image of the volume is the user's own, and holds the same.
alice image create --volume disk --disk-format qcow2 copy > /dev/null
until_is image copy active
until_is volume disk available
[[ $(alice image show copy -f json -c properties) == *'"hw_disk_bus": "scsi"'* ]]
alice image save --file "$PWD/back" copy
qemu-img convert -f qcow2 -O raw back raw
cmp -n 1000000 data raw

alice volume delete disk
alice image delete picture copy
echo "images: done"
