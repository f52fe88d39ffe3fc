#!/usr/bin/env python3
"""Compares Clinker's answers with those of a real Cinder 29. See README.md beside it.

    compare.py BINARY [--seed N] [--only REGEX] [--thorough] [--lanes N] [--keep] [--examples N] [--explained]"""
import argparse
import queue
import random
import re
import sys
import threading
import time

import generator
import report
import servers
import sides

SEED_OF_TESTS = 1


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("binary")
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    arguments.add_argument("--only", default="")
    arguments.add_argument("--lanes", type=int, default=2)
    arguments.add_argument("--examples", type=int, default=2)
    arguments.add_argument("--keep", action="store_true")
    arguments.add_argument("--thorough", action="store_true")
    arguments.add_argument("--explained", action="store_true")
    options = arguments.parse_args()
    begun = time.monotonic()
    print("seed %d" % options.seed, flush=True)
    chosen = [one for one in generator.SCENARIOS if re.search(options.only, one.__name__)]
    projects = servers.projects(len(chosen) + 8)
    pairs = [servers.Servers(options.binary, projects)]
    for _ in range(1, min(options.lanes, len(chosen))):
        pairs.append(servers.Servers(options.binary, projects, template=pairs[0].database))
    work = queue.Queue()
    for number, one in enumerate(chosen):
        work.put((number, one))
    reports, failures = [], []

    def lane(pair_of_servers):
        mine = report.Report()
        reports.append(mine)
        try:
            pair_of_servers.wait()
            pair = sides.Pair(pair_of_servers, mine)
            pair.elsewhere = projects[-1]
            while True:
                try:
                    number, one = work.get_nowait()
                except queue.Empty:
                    return
                pair.enter(projects[number])
                at = time.monotonic()
                before = mine.requests
                one(generator.Scene(pair, random.Random("%d %s" % (options.seed, one.__name__)), options.thorough))
                print("%-28s %5d requests in %5.1f s" % (one.__name__, mine.requests - before, time.monotonic() - at), flush=True)
        except BaseException as error:  # told by the main thread
            import traceback
            failures.append("".join(traceback.format_exception(error)))

    threads = [threading.Thread(target=lane, args=(one,)) for one in pairs]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for one in pairs:
            if options.keep:
                print("kept:", one.directory)
            one.stop(options.keep)
    whole = reports[0]
    for other in reports[1:]:
        whole.merge(other)
    if options.explained:
        whole.tell_explained()
    whole.tell(options.examples)
    print("%.0f s" % (time.monotonic() - begun))
    for failure in failures:
        print(failure)
    stale = whole.stale() if not options.only and not failures else []
    for one in stale:
        print("nothing differs so any more: %s | %s" % (one.request.pattern, one.difference.pattern))
    # Another seed may not ask for everything that is explained.
    if options.seed != SEED_OF_TESTS:
        stale = []
    for stray in report.strays(whole.explanations):
        failures.append(stray)
        print(stray)
    if not options.only and whole.requests < 5000:
        failures.append("only %d requests" % whole.requests)
        print(failures[-1])
    sys.exit(1 if failures or whole.groups or stale else 0)


main()
