"""The load tools, and what they say."""

import re
import subprocess
from dataclasses import dataclass

from harness.bench import tool
from harness.haar import cpu_seconds
from harness.report import percentile

CONNECTIONS = 32
# Fixed rates are spread evenly over so many connections, which call by turns: h2load would have all of them call at the
# same moment and then none of them for a while, which measures the length of a queue.
PACED_CONNECTIONS = 20


@dataclass(frozen=True)
class Loaded:
    """What one load did: calls a second, 99th percentile in ms, the server's CPU a call in µs."""

    rate: float
    p99_ms: float
    cpu_us: float


def h2load(context, url, arguments, pids, rate=None, answer_bytes=None):
    """A load by h2load, flat out or at a fixed rate. A call that does not succeed is an error, and so is one whose
    answer has another size than it should, where that is given."""
    log = context.scratch / "h2load.log"
    log.unlink(missing_ok=True)
    clients = PACED_CONNECTIONS if rate else CONNECTIONS
    pace = _pace(rate, context.seconds) if rate else [f"-D{context.seconds}"]
    command = [tool("h2load", "nghttp2-client"), "-t1", f"-c{clients}", "-m1", *pace]
    text, cpu = _run([*command, f"--log-file={log}", *arguments, url], pids, context.seconds)
    done, good = (int(re.search(rf"(\d+) {word}", text)[1]) for word in ("done", "succeeded"))
    if good != done or not done:
        raise RuntimeError(f"h2load: {good} of {done} calls succeeded")
    data = int(re.search(r"\((\d+)\) data", text)[1])
    # Calls that are under way at the end have sent data and are not counted.
    if answer_bytes and not done <= data / answer_bytes <= done + clients:
        raise RuntimeError(f"h2load: {done} answers hold {data} bytes, not {answer_bytes} each")
    micros = sorted(int(line.split()[2]) for line in log.read_text().splitlines())
    return Loaded(done / context.seconds, percentile(micros, 0.99) / 1000, cpu / done * 1e6)


def _pace(rate, seconds):
    """A fixed rate: a connection's first call comes when it is opened, so they are opened within one period of it."""
    opened = f"--rate={round(rate / 1000)}"
    return [f"-n{rate * seconds}", f"--rps={rate / PACED_CONNECTIONS:g}", opened, "--rate-period=1ms"]


def wrk(context, url, headers, pids, inside=()):
    """A load by wrk, flat out, behind the command `inside`. An answer other than 2xx is an error."""
    named = [word for header in headers for word in ("-H", header)]
    command = [*inside, tool("wrk", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{context.seconds}s", "--latency"]
    text, cpu = _run([*command, *named, url], pids, context.seconds)
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError("wrk: " + "; ".join(re.findall(r"(?:Non-2xx|Socket errors).*", text)))
    done = int(re.search(r"(\d+) requests in", text)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    return Loaded(rate, _millis(re.search(r"^\s+99%\s+(\S+)", text, re.M)[1]), cpu / done * 1e6)


def _run(command, pids, seconds):
    """A tool's output, and what CPU the server used meanwhile, in seconds."""
    before = cpu_seconds(pids)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    if ran.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {ran.returncode}: {ran.stderr.strip()[:200]}")
    return ran.stdout, cpu_seconds(pids) - before


def _millis(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
