#!/usr/bin/env python3
"""What TLS costs a request on a connection that is kept, and what a handshake costs: encrypted.py BINARY, or as a part of bench.py."""
import http.client, json, os, pathlib, socket, ssl, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(__file__))
import bench


def certificate(directory):
    """A certificate of the cheapest kind, which signs itself."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", f"{directory}/key.pem", "-out", f"{directory}/cert.pem"], check=True, capture_output=True)


def start(binary, directory, port, tls):
    os.makedirs(directory)
    options, sections = ("osapi_volume_use_ssl = true\n", f"[ssl]\ncert_file = {directory}/cert.pem\nkey_file = {directory}/key.pem\n") if tls else ("", "")
    if tls:
        certificate(directory)
    config = pathlib.Path(directory, "bench.conf")
    config.write_text(
        f"[DEFAULT]\nosapi_volume_listen = 127.0.0.1\nosapi_volume_listen_port = {port}\nauth_strategy = noauth\nenabled_backends = file\n"
        f"log_file = {directory}/access.log\n{options}[file]\nvolume_driver = file\n{sections}")
    process = subprocess.Popen([binary, "serve", "--config", str(config), "--state-dir", f"{directory}/state"])
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=ssl._create_unverified_context()) if tls else http.client.HTTPConnection("127.0.0.1", port)
            connection.request("POST", f"/v3/{bench.PROJECT}/volumes", json.dumps({"volume": {"size": 1}}), {"Content-Type": "application/json"})
            volume = json.loads(connection.getresponse().read())["volume"]["id"]
            break
        except OSError:
            if time.monotonic() > deadline:
                process.kill()
                raise SystemExit("bench: the service did not start")
            time.sleep(0.01)
    return process, f"http{'s' if tls else ''}://127.0.0.1:{port}/v3/{bench.PROJECT}/volumes/{volume}"


def handshake(process, port, count):
    """CPU in ms of a connection with its handshake and its end."""
    context = ssl._create_unverified_context()
    before = bench.cpu(bench.children(process.pid))
    for _ in range(count):
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port))):
            pass
    return (bench.cpu(bench.children(process.pid)) - before) / count * 1000


def measure(binary, directory, report, seconds=8):
    os.umask(0o077)
    sides = [start(binary, f"{directory}/{name}", port, tls) for name, port, tls in (("plain", 18781, False), ("encrypted", 18782, True))]
    try:
        # What else the machine does makes both dearer, never cheaper: the best of many short turns is what they cost. A turn begins with its
        # handshakes, each as dear as dozens of requests: there are few, among many requests.
        turns = [[bench.wrk(url, 8, 2, bench.children(process.pid))["cpu"] for process, url in sides] for _ in range(seconds)]
        shaken = min(handshake(sides[1][0], 18782, 100) for _ in range(3))
    finally:
        for process, _ in sides:
            process.terminate()
            process.wait(60)
    plain, encrypted = (min(costs) for costs in zip(*turns))
    report("show over a kept TLS connection", f"{encrypted / plain:.2f} x the CPU without ({encrypted:.1f} us, {plain:.1f} us)", "<= 1.3 x", encrypted <= 1.3 * plain)
    report("a TLS handshake, EC P-256", f"{shaken:.1f} ms CPU", "<= 3 ms", shaken <= 3)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="clinker-bench-") as directory:
        measure(sys.argv[1], directory, lambda name, value, target, met: print(f"{name}: {value} (target {target}) {'' if met else '  <-- missed'}"), seconds=4)
