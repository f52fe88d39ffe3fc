#!/usr/bin/env bash
# backends.sh URL CEPH_CONF EXPORT KIND...: the openstack command with backends of several kinds (file, rbd, nfs, lvm), each a
# volume type of its name. What volumes hold is written and read by others (qemu-img, rbd, dd) as the connection information
# says. CEPH_CONF is the cluster's, EXPORT the directory that the NFS server exports.
set -euo pipefail
url=$1 ceph=$2 export=$3
kinds=("${@:4}")
work=$(mktemp -d /tmp/clinker-backends-XXXXXX)
trap 'rm -rf "$work"' EXIT
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
coproc CLIENT { exec python3 "$here/commands.py" "$url" "$ceph" "$export" 2> "$work/client"; }
client() { # what it answers
    local status answer
    printf '%q ' "$@" >&"${CLIENT[1]}"
    echo >&"${CLIENT[1]}"
    read -r status answer <&"${CLIENT[0]}"
    [ "$status" = 0 ] || { echo "$*: $answer $(tail -n 5 "$work/client")" >&2; return 1; }
    [ -z "$answer" ] || echo "$answer"
}
os() { client openstack "$@"; }
cinder_() { client cinder "$@"; }
ask() { client ask "$1" "$2" "$3" "$4"; }
get() { ask GET "$1" '' "$2"; }

field() { get "/volumes/detail?name=$1" "(d['volumes'] or [{'$2': 'gone'}])[0]['$2']"; }
until_is() { # name field value
    for _ in $(seq 300); do
        [ "$(field "$1" "$2")" != "$3" ] || return 0
        [ "$(field "$1" status)" != error ] || break
        sleep 0.1
    done
    echo "$1: $2 is not $3 but $(field "$1" "$2")" >&2
    return 1
}
until_snapshot() { # name status|gone
    for _ in $(seq 300); do
        [ "$(get "/snapshots/detail?name=$1" "(d['snapshots'] or [{'status': 'gone'}])[0]['status']")" != "$2" ] || return 0
        sleep 0.1
    done
    echo "snapshot $1 is not $2" >&2
    return 1
}

# Where a volume is to be found, for qemu-img: "format file".
connected() { # name
    local id instance connector info
    id=$(field "$1" id)
    instance=$(cat /proc/sys/kernel/random/uuid)
    connector='{"host": "here", "ip": "127.0.0.1", "initiator": "iqn.2008-11.org.linux-kvm", "multipath": false}'
    info=$(ask POST /attachments "{\"attachment\": {\"volume_uuid\": \"$id\", \"instance_uuid\": \"$instance\", \"connector\": $connector}}" \
        "place(d['attachment'])")
    read -r attachment place <<< "$info"
}
left() { ask DELETE "/attachments/$attachment" '' None > /dev/null && until_is "$1" status available; }

put() { # name file: its bytes, at the beginning
    connected "$1"
    qemu-io -f "${place%% *}" -c "write -q -s $2 0 16M" "${place#* }"
    left "$1"
}
sum() { # name: of the first 32 MiB
    connected "$1"
    qemu-img dd -f "${place%% *}" -O raw bs=1M count=32 "if=${place#* }" "of=$work/read" > /dev/null
    left "$1"
    cksum < "$work/read"
    rm "$work/read"
}
same() { # name sum
    local found
    found=$(sum "$1")
    [ "$found" = "$2" ] || { echo "$1 holds other bytes than it must" >&2; return 1; }
}

for letter in a b; do
    head -c 16777216 /dev/urandom > "$work/$letter"
    { cat "$work/$letter"; head -c $((16 << 20)) /dev/zero; } | cksum > "$work/$letter.sum"
done
a=$(cat "$work/a.sum") b=$(cat "$work/b.sum")

life() { # kind: all that volumes of a type go through
    local kind=$1 last
    os volume create --size 1 --type "$kind" "$kind-first"
    until_is "$kind-first" status available
    put "$kind-first" "$work/a"
    os volume snapshot create --volume "$kind-first" "$kind-moment" > /dev/null
    until_snapshot "$kind-moment" available
    put "$kind-first" "$work/b"
    same "$kind-first" "$b"
    os volume create --snapshot "$kind-moment" --size 2 "$kind-then" > /dev/null
    # Clones of clones, deeper than rbd_max_clone_depth.
    last="$kind-first"
    for depth in 1 2 3 4; do
        os volume create --source "$last" --size 1 "$kind-clone$depth" > /dev/null
        until_is "$kind-clone$depth" status available
        last="$kind-clone$depth"
    done
    until_is "$kind-then" status available
    same "$kind-then" "$a"
    same "$last" "$b"
    put "$kind-clone2" "$work/a"
    same "$last" "$b"
    os volume revert "$kind-moment"
    until_is "$kind-first" status available
    same "$kind-first" "$a"
    os volume delete "$kind-clone1" "$kind-clone2" "$kind-clone3"
    os volume snapshot delete "$kind-moment"
    until_snapshot "$kind-moment" gone
    same "$kind-then" "$a"
    same "$last" "$b"
    os volume set --size 3 "$kind-first"
    until_is "$kind-first" size 3
    until_is "$kind-first" status available
    same "$kind-first" "$a"
    local id host
    id=$(field "$kind-then" id) host=$(field "$kind-then" os-vol-host-attr:host)
    cinder_ unmanage "$kind-then"
    until_is "$kind-then" status gone
    cinder_ manage --id-type source-name --name "$kind-again" --volume-type "$kind" "$host" "volume-$id"
    until_is "$kind-again" status available
    [ "$(field "$kind-again" size)" = 2 ]
    same "$kind-again" "$a"
    os volume delete "$kind-first" "$last" "$kind-again"
}

for kind in "${kinds[@]}"; do os volume type create --property "volume_backend_name=$kind" "$kind" > /dev/null; done
for kind in "${kinds[@]}"; do
    echo "backends: $kind"
    life "$kind"
done

# From each kind to each other.
os volume create --size 1 --type "${kinds[0]}" traveller > /dev/null
until_is traveller status available
put traveller "$work/a"
at=${kinds[0]}
for from in "${kinds[@]}"; do
    for to in "${kinds[@]}"; do
        [ "$from" != "$to" ] || continue
        for next in "$from" "$to"; do
            [ "$next" != "$at" ] || continue
            echo "backends: $at to $next"
            os volume set --type "$next" --retype-policy on-demand traveller
            until_is traveller volume_type "$next"
            until_is traveller status available
            same traveller "$a"
            at=$next
        done
    done
done
os volume delete traveller
for _ in $(seq 300); do
    [ "$(get /volumes "len(d['volumes'])")" != 0 ] || { echo "backends: done"; exit; }
    sleep 0.1
done
echo "volumes stay: $(get /volumes "d")" >&2
exit 1
