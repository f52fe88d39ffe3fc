"""The life of a volume through openstacksdk. Usage: sdk.py ENDPOINT"""
import os
import subprocess
import sys
import tempfile

import openstack

PROJECT = "0123456789abcdef0123456789abcdef"
os.environ["PATH"] += ":/usr/sbin:/sbin"


def main(endpoint):
    connection = openstack.connection.Connection(
        auth_type="none", auth={"endpoint": f"{endpoint}/v3/{PROJECT}"}, block_storage_api_version="3",
        block_storage_default_microversion="3.71")
    storage = connection.block_storage

    def settled(volume, failures=("error",)):
        # An object that is old news says available too soon.
        return storage.wait_for_status(storage.get_volume(volume), "available", failures=list(failures), interval=0.05, wait=20)

    volume = storage.create_volume(size=1, name="sdk", metadata={"made": "by sdk"})
    volume = settled(volume)
    assert volume.metadata == {"made": "by sdk"} and volume.size == 1, volume
    assert [found.id for found in storage.volumes(details=True)] == [volume.id]

    def attach(target, mode):
        # The attachment that a compute service would make.
        made = storage.create_attachment(
            target.id, connector={"host": "here", "ip": "127.0.0.1", "initiator": "iqn.x", "mountpoint": "/dev/vdb", "mode": mode},
            mode=mode)
        storage.complete_attachment(made)
        return made, made.connection_info["device_path"]

    with tempfile.TemporaryDirectory() as work:
        os.mkdir(f"{work}/content")
        with open(f"{work}/content/hello", "w") as file:
            file.write("hello from sdk")
        subprocess.run(["mkfs.ext4", "-q", "-d", f"{work}/content", f"{work}/ext4", "64M"], check=True)
        attachment, device = attach(volume, "rw")
        assert storage.get_volume(volume).status == "in-use"
        subprocess.run(["dd", f"if={work}/ext4", f"of={device}", "conv=notrunc,fsync", "bs=1M", "status=none"], check=True)
        storage.delete_attachment(attachment)
    settled(volume)

    clone = storage.create_volume(source_volume_id=volume.id, size=2, name="clone")
    clone = settled(clone)
    storage.extend_volume(clone, 3)
    clone = settled(clone, failures=["error_extending"])
    assert clone.size == 3
    for each in (volume, clone):
        attachment, device = attach(each, "ro")
        found = subprocess.run(["debugfs", "-R", "cat /hello", device], capture_output=True, text=True, check=True).stdout
        assert found == "hello from sdk", found
        storage.delete_attachment(attachment)
        settled(each)

    storage.set_volume_metadata(volume, more="yes")
    assert storage.get_volume(volume).metadata == {"made": "by sdk", "more": "yes"}
    assert next(storage.types()).name == "__DEFAULT__"
    assert {service.binary for service in storage.services()} == {"cinder-scheduler", "cinder-volume"}
    assert storage.get_limits().absolute.total_volumes_used == 2
    assert list(storage.availability_zones())[0].name == "nova"
    assert any(item.alias == "os-vol-host-attr" for item in storage.extensions())
    for each in (volume, clone):
        storage.delete_volume(each)
        storage.wait_for_delete(each, interval=0.05, wait=20)
    assert list(storage.volumes()) == []
    print("sdk: done")


main(sys.argv[1])
