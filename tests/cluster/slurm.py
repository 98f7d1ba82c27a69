#!/usr/bin/env python3
"""A Slurm cluster of two nodes on this machine, for as long as a `with` block lasts (Debian: slurm-wlm and munge; as root).

python3 tests/cluster/slurm.py [--saymask FILE]      (else `saymask` of cargo's debug build, built with `--features mpi`)

Submits docs/clusters.md's array of four parts of a prediction, and its training with a rank on each node; the first has to leave what one
worker leaves, the second to learn what one process learns. What is missing is said and skipped.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
# Nodes say they have eight cores, so that scripts which ask for as many may run.
CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs=8 RealMemory=1000 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def missing():
    """What a cluster here lacks; empty if nothing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    lacks = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    return lacks if os.name == "posix" and os.geteuid() == 0 else [*lacks, "root"]


def wait(what, until, seconds=60):
    """Waits until `until()` holds."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.2)


@contextmanager
def cluster(folder):
    """Starts the daemons; yields the variables that Slurm's commands need."""
    folder = Path(folder)
    folder.mkdir()
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    (folder / "slurm.conf").write_text(CONFIG.format(host=socket.gethostname().split(".")[0], folder=folder))
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    munge = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    daemons = [["munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *munge], ["slurmctld", "-D", "-c"]]
    for node in ("one", "two"):
        # PMIx names its folder by the job alone, so the nodes of one machine need one each.
        (folder / node / "pmix").mkdir(parents=True)
        shutil.copy(folder / "slurm.conf", folder / node)
        (folder / node / "mpi.conf").write_text(f"PMIxCliTmpDirBase={folder}/{node}/pmix\n")
        daemons.append(["slurmd", "-D", "-N", node, "-f", str(folder / node / "slurm.conf")])
    with ExitStack() as stack, open(folder / "daemons.log", "w") as log:
        for command in daemons:
            daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)
            if command[0] == "munged":
                wait("munge", (folder / "munge.socket").exists)
        states = ["sinfo", "--noheader", "--Node", "--format=%t"]
        wait("two idle nodes", lambda: output(states, environment).split() == ["idle", "idle"])
        yield environment


def output(command, environment):
    """What a command says; nothing where it fails."""
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def submit(script, folder, environment, *options):
    """Runs a job to its end."""
    log = folder / "job-%a.log"
    command = ["sbatch", "--wait", f"--output={log}", *options]
    job = subprocess.run(command, input=script, text=True, env=environment, cwd=folder, capture_output=True, timeout=600)
    if job.returncode != 0:
        said = "".join(path.read_text() for path in folder.glob("job-*.log"))
        sys.exit(f"{' '.join(command)}: {job.stderr}{said}")


def losses(folder, name):
    lines = (json.loads(line) for line in (folder / "runs" / name / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "step"]


def main():
    import check

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = Path(os.environ.get("CARGO_TARGET_DIR", check.ROOT / "target"))
    parser.add_argument("--saymask", type=Path, default=target / "debug" / "saymask")
    args = parser.parse_args()
    if lacks := missing():
        print(f"skipped: there is no {', '.join(lacks)}")
        return
    pages = check.blocks()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        work = check.Check(folder, args.saymask.resolve())
        (folder / "run").symlink_to("runs/first")
        small = [key for key in check.small_keys() if not key.startswith("train.steps")]
        keys = [*small, "train.steps=12", "train.log_every=1", "model.dit.dropout=0", "model.dit.bert.dropout=0", "optim.eps=1e-3", "run.dir=runs", "data.root=images"]
        subprocess.run([args.saymask.resolve(), "train", "run.name=one", *keys], cwd=folder, check=True, capture_output=True)
        with cluster(folder / "slurm") as environment:
            environment = {**environment, **check.MPI, "DATA": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"}
            submit(work.fitted(pages["Slurm"][0]), folder, environment, "--array=0-3", "--cpus-per-task=1")
            work.same("an array of four tasks on two nodes")
            # What the page's training asks for, at this size.
            script = pages["Training on Slurm"][0].replace(" --device 'cuda:{local_rank}'", "")
            script = script.replace("--config configs/dit/base.toml", " ".join(["run.name=two", *keys]))
            submit(script, folder, environment, "--nodes=2", "--ntasks-per-node=1", "--gres=none", "--cpus-per-task=1")
        one, two = losses(folder, "one"), losses(folder, "two")
        off = max(abs(a - b) for a, b in zip(one, two, strict=True))
        assert len(one) == 12 and 0 < off < 1e-6, (one, two)
        print(f"training with a rank on each of two nodes: losses of {len(one)} steps are those of one process, within {off:.1e}")


if __name__ == "__main__":
    main()
