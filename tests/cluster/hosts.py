#!/usr/bin/env python3
"""Trains on two hosts: two network namespaces of this machine, joined by a cable of their own (as root; ip, mpirun).

python3 tests/cluster/hosts.py [--saymask FILE]      (else `saymask` of cargo's debug build, built with `--features mpi`)

A rank on each host learns what one process learns; a cable that is pulled out ends the run on both within the deadline, with the name of
the rank that cannot be reached. What is missing is said and skipped.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import check

HOSTS = {"saymask-a": "10.77.0.1", "saymask-b": "10.77.0.2"}
NETWORK = "10.77.0.0/24"
# How `mpirun` starts its daemon on another host, where a network has ssh.
AGENT = """#!/bin/sh
# AGENT HOST COMMAND...
host=$1; shift
case $host in {cases} *) exit 1 ;; esac
exec ip netns exec "$name" unshare --uts sh -c "hostname $name; $*"
"""


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def hosts():
    """Two namespaces with an address each, and a cable between them."""
    a, b = HOSTS
    with contextlib.ExitStack() as stack:
        for name in HOSTS:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
        ip("link", "add", "cable-a", "netns", a, "type", "veth", "peer", "name", "cable-b", "netns", b)
        for name, end in zip(HOSTS, ("cable-a", "cable-b"), strict=True):
            ip("-n", name, "address", "add", f"{HOSTS[name]}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield


class Run:
    """A folder with a small run's words, and the launcher between the hosts."""

    def __init__(self, folder, saymask):
        self.folder, self.saymask = folder, saymask
        self.agent = folder / "agent"
        cases = " ".join(f"{address}) name={name} ;;" for name, address in HOSTS.items())
        self.agent.write_text(AGENT.format(cases=cases))
        self.agent.chmod(self.agent.stat().st_mode | stat.S_IXUSR)

    def words(self, name, *more):
        small = [key for key in check.small_keys() if not key.startswith("train.steps")]
        own = ["train.steps=12", "train.log_every=1", "model.dit.dropout=0", "model.dit.bert.dropout=0", "optim.eps=1e-3", f"run.name={name}", "run.dir=runs", "data.root=images"]
        return [str(self.saymask), "train", *small, *own, *more]

    def alone(self, name):
        subprocess.run(self.words(name), cwd=self.folder, check=True, capture_output=True)

    def mpirun(self, *words):
        """`mpirun` on host a, with a rank on each host."""
        first = next(iter(HOSTS))
        settings = {
            "plm_rsh_agent": self.agent,
            "btl": "tcp,self",
            "btl_tcp_if_include": NETWORK,
            "oob_tcp_if_include": NETWORK,
            # How soon the launcher notices that a host is gone; five minutes by itself.
            "oob_tcp_keepalive_time": "3",
            "oob_tcp_keepalive_intvl": "1",
            "oob_tcp_keepalive_probes": "3",
        }
        command = ["ip", "netns", "exec", first, "unshare", "--uts", "sh", "-c", f'hostname {first}; exec "$@"', "sh", "mpirun"]
        command += ["--host", ",".join(f"{address}:1" for address in HOSTS.values()), "-n", "2", "--bind-to", "none"]
        for name, value in settings.items():
            command += ["--mca", name, str(value)]
        environment = {**os.environ, **check.MPI}
        for name in check.MPI:
            command += ["-x", name]
        return subprocess.Popen([*command, *words], cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def losses(self, name):
        lines = (json.loads(line) for line in (self.folder / "runs" / name / "log.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if line["kind"] == "step"]


def learns_as_one(run):
    where = run.mpirun("hostname")
    said = sorted(where.communicate(timeout=60)[0].split())
    assert said == sorted(HOSTS), (said, where.returncode)
    run.alone("one")
    ranks = run.mpirun(*run.words("two"))
    said = ranks.communicate(timeout=300)
    assert ranks.returncode == 0, said
    one, two = run.losses("one"), run.losses("two")
    off = max(abs(a - b) for a, b in zip(one, two, strict=True))
    assert len(one) == 12 and off < 1e-6, (one, two)
    print(f"a rank on each of two hosts: losses of {len(one)} steps are those of one process, within {off:.1e}")


def ends_without_cable(run, seconds=4):
    ranks = run.mpirun(*run.words("cut", "train.steps=100000", "train.eval_every=100000", "--rank-timeout", str(seconds)))
    log = run.folder / "runs" / "cut" / "log.jsonl"
    end = time.monotonic() + 120
    while not log.exists() or len(log.read_text().splitlines()) < 5:
        if time.monotonic() > end or ranks.poll() is not None:
            sys.exit(f"no steps: {ranks.communicate(timeout=10)}")
        time.sleep(0.1)
    own = descendants(ranks.pid)
    workers = [process for process in own if comm(process) == run.saymask.name]
    ip("-n", next(iter(HOSTS)), "link", "set", "cable-a", "down")
    begun = time.monotonic()
    while any(comm(process) for process in workers) and time.monotonic() < begun + seconds + 30:
        time.sleep(0.1)
    took = time.monotonic() - begun
    left = [process for process in workers if comm(process)]
    # The launcher and its daemon wait for each other until the system gives their connection up, which takes minutes.
    for process in [*reversed(own), ranks.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    said = ranks.communicate(timeout=60)[1]
    named = [line for line in said.splitlines() if line.startswith("error: rank ")]
    assert len(workers) == 2 and not left and named, (workers, left, said)
    print(f"a pulled cable: the ranks on both hosts have ended after {took:.0f} s; {named[0]}")


def descendants(process):
    """Processes below one, parents first."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    below = [(int(child), descendants(int(child))) for child in children]
    return [one for child, further in below for one in (child, *further)]


def comm(process):
    """A process's program; nothing where it has ended."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip() if " Z" not in Path(f"/proc/{process}/stat").read_text() else ""
    except OSError:
        return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = Path(os.environ.get("CARGO_TARGET_DIR", check.ROOT / "target"))
    parser.add_argument("--saymask", type=Path, default=target / "debug" / "saymask")
    args = parser.parse_args()
    lacks = [tool for tool in ("ip", "mpirun", "unshare") if not shutil.which(tool)] + (["root"] if os.geteuid() != 0 else [])
    if lacks:
        print(f"skipped: two hosts; there is no {', '.join(lacks)}")
        return
    with tempfile.TemporaryDirectory() as folder, hosts():
        run = Run(Path(folder), args.saymask.resolve())
        learns_as_one(run)
        ends_without_cable(run)


if __name__ == "__main__":
    main()
