"""images.py URL GLANCE STORE KIND...: an image becomes a volume, the volume an image of the next format, that one a volume again, and so on
through every format, on each kind of backend, which is a volume type of its name. Each image is the disk that the first one was, and in the
end, raw again, it has the checksum that it must have. GLANCE is the server's address, STORE the directory of its images."""
import hashlib, json, pathlib, random, subprocess, sys, tempfile, time, urllib.error, urllib.request

url, glance, store, *kinds = sys.argv[1:]
project = "0123456789abcdef0123456789abcdef"
# With the names that qemu-img has for them. Raw comes last.
formats = {"qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx"}


def ask(method, address, body=None, kind="application/json"):
    headers = {"X-Auth-Token": f"admin:{project}", "OpenStack-API-Version": "volume 3.71", "Content-Type": kind}
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data, headers, method=method)) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {address}: {error.code} {error.read()[:500]}")


def volumes(method, path="", body=None):
    return ask(method, f"{url}/v3/{project}/volumes{path}", body)


def until(what, condition):
    limit = time.monotonic() + 300
    while not (found := condition()):
        if time.monotonic() > limit:
            raise SystemExit(f"{what}: not within 300 s")
        time.sleep(0.1)
    return found


def available(volume):
    found = volumes("GET", f"/{volume}")["volume"]
    if found["status"].startswith("error"):
        raise SystemExit(f"the volume {volume} is {found['status']}")
    return found if found["status"] == "available" else None


def of_image(image, kind):
    made = volumes("POST", body={"volume": {"size": 1, "volume_type": kind, "imageRef": image}})["volume"]["id"]
    until("a volume of the image", lambda: available(made))
    return made


def image_of(volume, disk_format):
    order = {"image_name": f"volume as {disk_format}", "disk_format": disk_format, "container_format": "bare"}
    image = volumes("POST", f"/{volume}/action", {"os-volume_upload_image": order})["os-volume_upload_image"]["image_id"]
    until("the volume is available again", lambda: available(volume))
    found = ask("GET", f"{glance}/v2/images/{image}")
    assert found["status"] == "active" and found["disk_format"] == disk_format, found
    return found


def remove(image):
    ask("DELETE", f"{glance}/v2/images/{image}")


def remove_volume(volume):
    volumes("DELETE", f"/{volume}")
    until("the volume is gone", lambda: not any(found["id"] == volume for found in volumes("GET")["volumes"]))


# Holes and data in turns, and an end that is no whole block.
chance = random.Random(20)
content = b"".join(chance.randbytes(70_000) + bytes((1 << 19) - 70_000) for _ in range(6)) + b"end"
# Of the volume of 1 GiB, which is zero behind it.
whole = hashlib.md5(content + bytes((1 << 24) - len(content)))
for _ in range(63):
    whole.update(bytes(1 << 24))
with tempfile.TemporaryDirectory(prefix="clinker-images-") as directory:
    original = pathlib.Path(directory) / "original"
    original.write_bytes(content)
    first = ask("POST", f"{glance}/v2/images", {"name": "first", "disk_format": "raw", "container_format": "bare"})["id"]
    ask("PUT", f"{glance}/v2/images/{first}/file", content, "application/octet-stream")
    for kind in kinds:
        volume = of_image(first, kind)
        for disk_format, name in formats.items():
            image = image_of(volume, disk_format)
            compared = subprocess.run(
                ["qemu-img", "compare", "-U", "-f", "raw", "-F", name, original, pathlib.Path(store) / image["id"]], capture_output=True, text=True)
            assert compared.returncode == 0, f"{kind}, {disk_format}: {compared.stdout}{compared.stderr}"
            remove_volume(volume)
            volume = of_image(image["id"], kind)
            remove(image["id"])
        last = image_of(volume, "raw")
        assert last["checksum"] == whole.hexdigest(), f"{kind}: {last['checksum']}, not {whole.hexdigest()}"
        remove(last["id"])
        remove_volume(volume)
        print(f"images: {kind} good", flush=True)
    remove(first)
