#!/usr/bin/env python3
"""What notifications cost a create, and how many a second go to a real RabbitMQ: notifications.py BINARY, or as a part of bench.py."""
import http.client, json, os, pathlib, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(__file__))
import bench

STORAGE = pathlib.Path(__file__).resolve().parent.parent / "Storage"


class Broker:
    """A RabbitMQ of its own (Tests/Storage/rabbit), which ends with this process."""

    def __init__(self, directory, port):
        self.port = port
        self.process = subprocess.Popen(
            [STORAGE / "serve", "rabbit", directory, str(port)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not os.path.exists(f"{directory}/ready"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("bench: RabbitMQ did not start")
            time.sleep(0.05)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)


def sections(port):
    return (
        "[oslo_messaging_notifications]\ndriver = messagingv2\n[oslo_messaging_rabbit]\namqp_durable_queues = true\n",
        f"auth_strategy = noauth\ntransport_url = rabbit://openstack:secret@127.0.0.1:{port}/")


def waiting(service):
    return service.get("/notifications")["notifications"].get("waiting", 0)


def round_of_creates(service, count, isSent=False):
    """CPU in ms of a create until it is available, and its notifications are sent."""
    before = bench.cpu(service.pids())
    bench.creates(service, 8, count)
    while isSent and waiting(service):
        time.sleep(0.02)
    return (bench.cpu(service.pids()) - before) / count * 1000


def measure(binary, directory, report, quick=False):
    if not os.path.exists("/usr/lib/rabbitmq/bin/rabbitmq-server"):
        print("no RabbitMQ here: notifications are not measured")
        return
    os.umask(0o077)
    os.makedirs(directory, exist_ok=True)
    broker = Broker(f"{directory}/rabbit", 18791)
    more, identity = sections(broker.port)
    quiet = bench.Service(binary, f"{directory}/quiet", port=18785)
    telling = bench.Service(binary, f"{directory}/telling", port=18786, identity=identity, sections=more)
    # Nobody listens there: what happened is noted, and waits.
    keeping = bench.Service(binary, f"{directory}/keeping", port=18788, identity=identity.replace(f":{broker.port}/", ":1/"), sections=more)
    try:
        # In turns: what else the machine does makes both dearer, so the cheapest turn is what each costs.
        turns = [
            (round_of_creates(quiet, 400), round_of_creates(keeping, 400), round_of_creates(telling, 400, isSent=True))
            for _ in range(3 if quick else 8)]
        alone, kept, told = (min(costs) for costs in zip(*turns))
        report("a create with the outbox of notifications", f"{kept / alone:.2f} x the CPU without ({kept:.2f} ms, {alone:.2f} ms)", "<= 1.10 x", kept <= 1.1 * alone)
        report("the same, its two notifications sent to RabbitMQ", f"{told / alone:.2f} x ({told:.2f} ms)", "<= 1.10 x", told <= 1.10 * alone)

        count = 1000 if quick else 4000
        volumes = [found["id"] for found in telling.get("/volumes?limit=100")["volumes"]]
        connection = http.client.HTTPConnection("127.0.0.1", telling.port, timeout=60)
        subprocess.run([STORAGE / "rabbit", "pause", f"{directory}/rabbit", str(broker.port)], check=True)
        for index in range(count // 2):
            connection.request("PUT", f"/v3/{bench.PROJECT}/volumes/{volumes[index % len(volumes)]}", json.dumps({"volume": {"name": f"n{index}"}}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"bench: {answer.status} for a new name")
        before = waiting(telling)
        begun, used = time.monotonic(), bench.cpu(telling.pids())
        subprocess.run([STORAGE / "rabbit", "resume", f"{directory}/rabbit", str(broker.port)], check=True)
        while waiting(telling):
            time.sleep(0.005)
        took, used = time.monotonic() - begun, bench.cpu(telling.pids()) - used
        report("notifications to RabbitMQ, confirmed one by one", f"{before / took:.0f}/s ({used / before * 1e6:.0f} us of CPU each)", ">= 1000/s", before >= 1000 * took)
    finally:
        for service in (quiet, telling, keeping):
            service.stop()
        broker.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="clinker-bench-") as directory:
        measure(sys.argv[1], directory, lambda name, value, target, met: print(f"{name}: {value} (target {target}) {'' if met else '  <-- missed'}", flush=True), quick="--quick" in sys.argv)
