#!/usr/bin/env bash
# More commands of python-openstackclient and python-cinderclient, and the forms in which they reach a service without an
# identity service. Usage: forms.sh ENDPOINT, with the clients on PATH.
set -euo pipefail
project=0123456789abcdef0123456789abcdef
cloud="--os-auth-type none --os-endpoint $1/v3/$project --os-volume-api-version 3.71"
noauth="--os-auth-type noauth --os-endpoint $1/v3 --os-project-id $project --os-user-id admin --os-volume-api-version 3.71"

fail() { echo "forms: $*" >&2; exit 1; }
show() { openstack $cloud volume show "$1" -f value -c "$2"; }
wait_for() {
    for _ in $(seq 100); do [ "$(show "$1" status 2>/dev/null)" = "$2" ] && return; sleep 0.1; done
    fail "$1 is $(show "$1" status), not $2"
}

openstack --os-auth-type admin_token --os-endpoint "$1/v3/$project" --os-token admin:$project volume list
cinder $noauth list
openstack $cloud volume service list
openstack $cloud volume type create --property volume_backend_name=file gold
openstack $cloud volume type list --long
openstack $cloud volume backend pool list --long
openstack $cloud volume create --size 1 --type gold --property role=test --description "a b" third
wait_for third available
openstack $cloud volume set --name renamed --property more=yes --bootable third
[ "$(show renamed bootable | tr A-Z a-z)" = true ] || fail "not bootable"
openstack $cloud volume unset --property more renamed
openstack $cloud volume set --state error renamed
openstack $cloud volume delete --force renamed
openstack $cloud volume summary
cinder $noauth absolute-limits
cinder $noauth get-pools --detail
cinder $noauth availability-zone-list
cinder $noauth quota-show $project
cinder $noauth quota-update --volumes 20 $project
cinder $noauth service-list
cinder $noauth create --name fourth 1
wait_for fourth available
cinder $noauth extend fourth 2
wait_for fourth available
cinder $noauth metadata fourth set a=b
cinder $noauth image-metadata fourth set os_type=linux hw_disk_bus=scsi
openstack $cloud volume set --image-property os_version=12 fourth
openstack $cloud volume unset --image-property hw_disk_bus fourth
[ "$(cinder $noauth image-metadata-show fourth | grep -c 'os_type\|os_version')" = 2 ] || fail "$(cinder $noauth image-metadata-show fourth)"
[[ "$(show fourth volume_image_metadata)" == *"'os_version': '12'"* ]] || fail "$(show fourth volume_image_metadata)"
cinder $noauth reset-state --state error fourth
cinder $noauth reset-state --state available fourth
cinder $noauth transfer-create --name gift fourth
[ "$(openstack $cloud volume transfer request list -f value -c Name)" = gift ] || fail "not offered"
cinder $noauth transfer-delete gift
wait_for fourth available
cinder $noauth delete fourth
openstack $cloud volume type create --encryption-provider luks --encryption-cipher aes-xts-plain64 --encryption-key-size 256 --encryption-control-location front-end secret
[[ "$(openstack $cloud volume type show secret --encryption-type -f value -c encryption)" == *"'luks'"* ]] || fail "no encryption"
cinder $noauth encryption-type-update --key-size 512 secret
[[ "$(cinder $noauth encryption-type-show secret)" == *512* ]] || fail "$(cinder $noauth encryption-type-show secret)"
openstack $cloud volume create --size 1 --type secret hidden
wait_for hidden available
[ "$(openstack $cloud volume show hidden -f value -c encrypted)" = True ] || fail "not encrypted"
openstack $cloud volume delete hidden
until ! openstack $cloud volume show hidden 2> /dev/null; do sleep 0.1; done
cinder $noauth encryption-type-delete secret
openstack $cloud volume type delete secret
openstack $cloud volume qos create --consumer front-end --property total_iops_sec=100 limits
openstack $cloud volume qos set --property read_iops_sec=50 limits
openstack $cloud volume qos unset --property total_iops_sec limits
openstack $cloud volume qos associate limits gold
[ "$(openstack $cloud volume qos show limits -f value -c properties -c associations | tr -d "{}'[]," | sort | xargs)" = "gold read_iops_sec: 50" ] || fail "$(openstack $cloud volume qos show limits)"
[[ "$(cinder $noauth qos-get-association "$(openstack $cloud volume qos show limits -f value -c id)")" == *gold* ]] || fail "not associated"
if openstack $cloud volume qos delete limits; then fail "QoS specs in use are gone"; fi
openstack $cloud volume qos disassociate --all limits
openstack $cloud volume qos delete limits
cinder $noauth qos-create more consumer=both write_iops_sec=7
cinder $noauth qos-key "$(openstack $cloud volume qos show more -f value -c id)" set a=b
[[ "$(cinder $noauth qos-list)" == *"'a': 'b'"* ]] || fail "$(cinder $noauth qos-list)"
cinder $noauth qos-delete "$(openstack $cloud volume qos show more -f value -c id)"
if openstack $cloud volume show nonexistent; then fail "found what is not there"; fi
echo "forms: done"
