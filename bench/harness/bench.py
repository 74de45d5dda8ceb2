"""What every row stands on: the binaries, a scratch directory, how often and how long, and leaving nothing behind."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Missing(Exception):
    """Something that a row needs is not on this machine. Its text says what, and how to get it."""


class Bench:
    """The settings of one run of the benchmarks; also owns the scratch directory and what is stopped at the end."""

    def __init__(self):
        self.rounds = int(os.environ.get("BENCH_ROUNDS", "5"))
        self.seconds = int(os.environ.get("BENCH_SECONDS", "4"))
        self.wait = float(os.environ.get("BENCH_WAIT", "60"))
        self.builds = os.environ.get("BENCH_BUILD") == "1"
        self.profile = "dist" if self.builds else os.environ.get("BENCH_PROFILE", "release")
        self.target = ROOT / "target" / self.profile
        self.cache = ROOT / "target" / "bench"
        self.scratch = None
        self._to_stop = []

    def __enter__(self):
        if self.builds:
            build()
        self.cache.mkdir(parents=True, exist_ok=True)
        self.scratch = Path(tempfile.mkdtemp(prefix="run-", dir=self.cache))
        # A copy, so that whoever compiles meanwhile does not change what is measured.
        binary = self.target / "haar"
        if not binary.exists():
            raise SystemExit(f"bench: {binary.relative_to(ROOT)} is not built: make build, or BENCH_BUILD=1 bench/run")
        self.haar = Path(shutil.copy2(binary, self.scratch / "haar"))
        return self

    def __exit__(self, *_):
        for stop in reversed(self._to_stop):
            stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def at_end(self, stop):
        """Calls `stop` when everything is measured, however that ends. It must be harmless to call twice."""
        self._to_stop.append(stop)

    def directory(self, name):
        """A new, empty scratch directory."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.scratch))

    def example(self, package, name):
        """An example program of a crate."""
        path = self.target / "examples" / name
        if not path.exists():
            how = f"cargo build --profile {self.profile} -p {package} --example {name}"
            raise Missing(f"the example {name} is not built: {how}")
        return path


def build():
    """Builds what people install, and the examples that rows use."""
    cargo = ["cargo", "build", "--profile", "dist"]
    examples = ["-p", "ingress", "-p", "sandbox", "--example", "front", "--example", "pace", "--example", "cold_start"]
    for chosen in (["--bin", "haar"], examples):
        subprocess.run([*cargo, *chosen], cwd=ROOT, check=True)


def tool(name, package):
    """A program on PATH."""
    directories = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    found = shutil.which(name, path=directories)
    if found is None:
        raise Missing(f"{name} is not installed (Debian: apt-get install {package})")
    return found
