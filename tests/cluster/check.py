#!/usr/bin/env python3
"""Runs the commands of docs/clusters.md on small tars, and each file through its own tool where that is installed.

python3 tests/cluster/check.py [--saymask FILE] [--kills N | --throughput]      (else `saymask` of cargo's debug build)

Every way to share the work must leave what one worker alone leaves. Tools: mpirun (openmpi-bin), parallel, Slurm (slurm-wlm, munge; as root); in Python
kubernetes-validate (with PyYAML), ray and saymask. What is missing is said and skipped.
"""

import argparse
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import slurm

ROOT = Path(__file__).resolve().parents[2]
SHARDS = 6
# Per tar where time matters.
IMAGES = 12
RANGE = "{000..%03d}" % (SHARDS - 1)
# Open MPI's own words for: as root, and with more processes than cores.
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1"}


def blocks():
    """Code blocks of the page by the heading above them."""
    found, heading, block = {}, "", None
    for line in (ROOT / "docs" / "clusters.md").read_text().splitlines():
        if line.startswith("```"):
            if block is not None:
                found.setdefault(heading, []).append("\n".join(block) + "\n")
            block = [] if block is None else None
        elif block is not None:
            block.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    return found


def small_keys():
    """The keys of the smallest model, which the Python package's tests train as well."""
    spec = importlib.util.spec_from_file_location("check", ROOT / "bindings" / "python" / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SMALL


def prepare(folder, saymask, images_per_tar=2):
    """A small run and a few tars of images."""
    subprocess.run([saymask, "train", "run.dir=runs", "run.name=first", "data.root=images", *small_keys()], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    images = sorted((folder / "images").rglob("*.jpg"))
    for shard in range(SHARDS):
        with tarfile.open(folder / f"in-{shard:03}.tar", "w") as tar:
            for image in images[2 * shard : 2 * shard + images_per_tar]:
                sentence = folder / "sentence.txt"
                sentence.write_text("the red circle\nthe star\n")
                tar.add(image, f"{image.stem}.jpg")
                tar.add(sentence, f"{image.stem}.txt")


class Check:
    """A folder with tars and what one worker makes of them."""

    def __init__(self, folder, saymask):
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "bin" / "saymask").symlink_to(saymask)
        prepare(folder, saymask)
        # What most users type into; it has its own use for braces, and GNU parallel starts what it was started from.
        self.shell = shutil.which("bash") or "sh"
        self.environment = {**os.environ, **MPI, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        self.sh(f"saymask predict --shards 'in-{RANGE}.tar' --out results --run runs/first --part all")
        self.expected = self.taken()
        assert len(self.expected) == 2 * SHARDS

    def fitted(self, text, folder="."):
        """A command of the page with these tars, and with this folder for its own."""
        text = re.sub(r"\{0+\.\.\d+\}", lambda _: RANGE, text)
        return text.replace("/data/run ", "/data/runs/first ").replace("/data", folder)

    def sh(self, script, shell="sh", **variables):
        command = [shell, "-euc", script]
        subprocess.run(command, cwd=self.folder, check=True, env={**self.environment, **variables}, capture_output=True)

    def taken(self):
        """The results by name; they are removed."""
        results = self.folder / "results"
        found = {path.name: path.read_text() for path in results.iterdir()}
        shutil.rmtree(results)
        # The path of a tar is said as it was given.
        return {name: re.sub(r'"shard": ".*/', '"shard": "', text) for name, text in found.items()}

    def same(self, what):
        if self.taken() != self.expected:
            sys.exit(f"{what}: other results than one worker's")
        print(f"{what}: as one worker alone")

    def commands(self, page):
        own, words = self.fitted(page["Prediction over many machines"][0]).splitlines()
        self.sh(own)
        self.same("one command")
        self.sh(words)
        assert all("grass" in text for text in self.taken().values())

    def slurm(self, page):
        script = self.fitted(page["Slurm"][0])
        (self.folder / "run").symlink_to("runs/first")
        for task in range(4):
            names = {"ID": task + 1, "MIN": 1, "MAX": 4, "COUNT": 4}
            self.sh(script, DATA=".", **{f"SLURM_ARRAY_TASK_{key}": str(value) for key, value in names.items()})
        self.same("four tasks of a Slurm array, without Slurm")
        if lacks := slurm.missing():
            print(f"skipped: Slurm itself; there is no {', '.join(lacks)}")
            return
        with slurm.cluster(self.folder / "slurm") as environment:
            variables = {**environment, "DATA": str(self.folder), "PATH": f"{self.folder / 'bin'}{os.pathsep}{environment['PATH']}"}
            for option in ("--test-only", "--wait"):
                command = ["sbatch", option, f"--output={self.folder}/slurm-%a.log"]
                subprocess.run(command, input=script, text=True, check=True, env=variables, capture_output=True, timeout=300)
        self.same("an array of Slurm on two nodes")

    def kubernetes(self, page):
        if importlib.util.find_spec("kubernetes_validate") is None:
            print("skipped: Kubernetes; kubernetes-validate is not installed (pip)")
            return
        import kubernetes_validate
        import yaml

        # The operator's own kind is in no package; the pods that it makes are Kubernetes's.
        (mpi_job,) = map(yaml.safe_load, page["Training on Kubernetes"])
        for role, replicas in mpi_job["spec"]["mpiReplicaSpecs"].items():
            pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": role.lower()}, "template": replicas["template"]}
            kubernetes_validate.validate(pod, "1.31", strict=True)
        job = yaml.safe_load(page["Kubernetes"][0])
        kubernetes_validate.validate(job, "1.31", strict=True)
        (container,) = job["spec"]["template"]["spec"]["containers"]
        variables = {entry["name"]: entry["value"] for entry in container["env"]}
        assert int(variables["JOB_COMPLETIONS"]) == job["spec"]["completions"]
        variables["JOB_COMPLETIONS"] = "2"
        arguments = [self.fitted(f"{argument} ", str(self.folder)).strip() for argument in container["args"]]
        for index in range(2):
            environment = {**self.environment, **variables, "JOB_COMPLETION_INDEX": str(index)}
            subprocess.run(["saymask", *arguments], check=True, env=environment, cwd=self.folder, capture_output=True)
        self.same("two pods of an Indexed Job")

    def tool(self, page, heading, tool):
        if not shutil.which(tool):
            print(f"skipped: {heading}; {tool} is not installed")
            return
        self.sh(self.fitted(page[heading][0]), self.shell)
        self.same(heading)

    def ray(self, page):
        missing = [name for name in ("ray", "saymask", "PIL") if importlib.util.find_spec(name) is None]
        if missing:
            print(f"skipped: Ray; {', '.join(missing)} not installed (pip)")
            return
        (self.folder / "ray_predict.py").write_text(self.fitted(page["Ray"][0]))
        self.sh(f"{sys.executable} ray_predict.py")
        found = {name.removesuffix(".tar.jsonl"): text for name, text in self.taken().items()}
        assert len(found) == SHARDS
        for name, text in found.items():
            pairs = zip(text.splitlines(), self.expected[f"{name}.jsonl"].splitlines(), strict=True)
            for ours, theirs in ((json.loads(a), json.loads(b)) for a, b in pairs):
                masks = [{"sentence": p["sentence"], **p["segmentation"]} for p in theirs["predictions"]]
                assert (ours["key"], ours["predictions"]) == (theirs["key"], masks), name
        print("Ray: as one worker alone")


def many(folder, saymask, tars):
    """A run, many tars, and the command that predicts them into a folder."""
    prepare(folder, saymask, images_per_tar=IMAGES)
    for copy in range(tars):
        shutil.copy(folder / f"in-{copy % SHARDS:03}.tar", folder / f"many-{copy:03}.tar")
    command = [saymask, "predict", "--shards", "many-{000..%03d}.tar" % (tars - 1), "--run", "runs/first", "--out"]
    return lambda out: subprocess.Popen([*command, out], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed(folder, saymask, kills):
    """Workers that get kill -9 at random moments leave what an unbroken one leaves."""
    start = many(folder, saymask, 50)
    assert start("unbroken").wait() == 0
    workers, at_work = [start("broken"), start("broken")], 0
    for kill in range(kills):
        time.sleep(random.uniform(0.02, 0.6))
        victim = workers[kill % 2]
        victim.kill()
        victim.wait()
        at_work += any(f" {victim.pid} " in claim.read_text() for claim in (folder / "broken").glob(".*.claim"))
        # So that there is work left to be killed in.
        for report in random.sample(range(50), 10):
            (folder / "broken" / f"many-{report:03}.report.json").unlink(missing_ok=True)
        workers[kill % 2] = start("broken")
    assert all(worker.wait() == 0 for worker in workers)
    taken = [{path.name: path.read_bytes() for path in (folder / out).iterdir() if path.name[0] != "."} for out in ("unbroken", "broken")]
    assert len(taken[0]) == 100 and taken[0] == taken[1]
    print(f"{kills} kills, {at_work} of them within a shard: nothing lost, nothing doubled, equal to an unbroken run")


def throughput(folder, saymask):
    """Pictures per second of one worker and of two, each with one thread, weights loaded included."""
    tars = 64
    start = many(folder, saymask, tars)
    os.environ["RAYON_NUM_THREADS"] = "1"
    rates = []
    for workers in (1, 2, 1, 2):
        begin = time.perf_counter()
        started = [start("results") for _ in range(workers)]
        assert all(worker.wait() == 0 for worker in started)
        rates.append(IMAGES * tars / (time.perf_counter() - begin))
        shutil.rmtree(folder / "results")
        print(f"{workers} workers: {rates[-1]:.1f} pictures a second", flush=True)
    print(f"two workers: {max(rates[1::2]) / max(rates[::2]):.2f} times one")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--saymask", type=Path, default=target / "debug" / "saymask")
    parser.add_argument("--throughput", action="store_true", help="only measure two workers against one")
    parser.add_argument("--kills", type=int, metavar="N", help="only kill workers N times")
    args = parser.parse_args()
    page = blocks()
    with tempfile.TemporaryDirectory() as folder:
        if args.kills:
            return killed(Path(folder), args.saymask.resolve(), args.kills)
        if args.throughput:
            return throughput(Path(folder), args.saymask.resolve())
        check = Check(Path(folder), args.saymask.resolve())
        check.commands(page)
        check.slurm(page)
        check.kubernetes(page)
        check.tool(page, "MPI", "mpirun")
        check.tool(page, "GNU parallel", "parallel")
        check.ray(page)


if __name__ == "__main__":
    main()
