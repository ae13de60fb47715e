"""heed beside PyTorch, flex_attention and ONNX Runtime: the same shapes and inputs, by turns, in rounds. Start it as bench/peers.

Machines are shared and their clocks move, so only ratios within a round count. A round gives every side the same time, one
after the other, and begins with another side each time. The ratio of a case is told twice: of the best runs, and the median
over rounds of the ratio of mean times. Before anything is timed a peer computes from heed's inputs and is compared with heed's
outputs.

PyTorch runs in three environments: D as installed; T with a C library that keeps freed memory (MALLOC_MMAP_MAX_=0,
MALLOC_TRIM_THRESHOLD_=17179869184); U is T with MKL made to believe that an AMD CPU is Intel's. The better of D and T is what
counts; U is printed beside it, as a forecast for Intel machines, and left out on them.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
KEEPS_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
TOLERANCE = 2e-4        # of the largest value, for results and gradients of f32
U_ROUNDS = 3            # it is no measure, so a few rounds do


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- what is measured ----

def case(kind, which, tokens, peers, aims=None, beside=None, quick=False, batch=4):
    """aims: the ratio that each peer, the peak or another row of heed should be passed by. beside: other rows of heed in the
    same rounds."""
    size = [batch, 8, tokens, 64]
    return {"name": f"attention {kind} {which} {'x'.join(map(str, size))}", "kind": kind, "pass": which, "size": size,
            "peers": peers, "aims": aims or {}, "beside": beside or {}, "quick": quick}


def plain(kind, which, tokens, batch=4):
    return f"attention {kind} {which} {batch}x8x{tokens}x64"


def cases():
    """The longest last."""
    out = []
    for tokens in (128, 512, 1024, 2048):
        out += full_and_causal(tokens)
    out += special()
    return out + full_and_causal(4096) + probes()


def full_and_causal(tokens):
    quick = tokens in (512, 2048)
    return [
        case("full", "forward", tokens, ["pytorch", "onnxruntime"],
             {"pytorch": 1.35 if tokens == 128 else 1.15, "onnxruntime": 1.0, "roofline": 0.76}, quick=quick),
        case("causal", "forward", tokens, ["pytorch", "onnxruntime"] + (["flex"] if tokens == 2048 else []),
             {"pytorch": 1.7 if tokens <= 512 else 1.4 if tokens == 1024 else 1.3}, quick=quick),
        case("full", "both", tokens, ["pytorch"], {"pytorch": 1.3, "roofline": 0.84}, quick=quick),
        case("causal", "both", tokens, ["pytorch"], {"pytorch": 1.8 if tokens <= 1024 else 1.5}, quick=quick),
    ]


def special():
    t = 2048
    return [
        case("window 256", "forward", t, ["pytorch", "flex"], {"pytorch": 8, "flex": 1.8}, quick=True),
        case("window 256", "both", t, ["pytorch"], {"pytorch": 8}, quick=True),
        case("window 256 and globals", "both", t, ["pytorch"]),
        case("block 64", "forward", t, ["pytorch", "flex"]),
        case("block 64", "both", t, ["pytorch"]),
        case("alibi", "forward", t, ["pytorch", "flex"]),
        case("alibi", "both", t, ["pytorch"]),
        case("bias", "both", t, ["pytorch"], {"pytorch": 1.25}),
        case("learned bias", "both", t, ["pytorch"], {"pytorch": 1.25}),
        case("dropout 0.1", "both", t, ["pytorch"], {"pytorch": 2.5}, quick=True),
        case("layer, mean weights", "both", t, ["pytorch"], {"pytorch": 1.2, "heed without": 1.2},
             {"heed without": plain("layer", "both", t)}),
    ]


def probes():
    t = 4096
    return [
        case("row probes", "forward", t, [], {"heed without": 1.15}, {"heed without": plain("full", "forward", t)}),
        case("key probes", "forward", t, [], {"heed without": 1.60}, {"heed without": plain("full", "forward", t)}),
        case("key probes", "both", t, [], {"heed without": 1.02}, {"heed without": plain("full", "both", t)}),
        case("training step, key probes", "both", t, [], {"heed without": 1.05},
             {"heed without": plain("training step", "both", t, 1)}, batch=1),
    ]


def memory_cases():
    """aim: what heed may take at most, as a share of what PyTorch takes. Forward alone, PyTorch takes little too."""
    t = 4096
    return [
        dict(case("full", "forward", t, ["pytorch"])),
        dict(case("full", "both", t, ["pytorch"]), aim=1 / 10),
        dict(case("dropout 0.1", "both", t, ["pytorch"]), aim=1 / 500, needs_gib=10),
        dict(case("layer", "both", t, ["pytorch"])),
        dict(case("layer, mean weights", "both", t, ["pytorch"]), aim=1 / 10, needs_gib=8),
    ]


# ---- sides ----

class Side:
    """A process that answers one line with one JSON object."""

    def __init__(self, label, command, environment=None):
        self.label = label
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=dict(os.environ, **(environment or {})))

    def ask_line(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        return json.loads(answer) if answer else {"failed": "the process ended"}

    def end(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:  # it is gone already; what it said before counts
            pass
        self.process.wait()


class Heed(Side):
    def __init__(self, label, build, threads):
        super().__init__(label, [f"{build}/bench/side", "--threads", str(threads)])

    def open(self, name):
        return self.ask_line(f"open {name}")

    def time(self, seconds):
        return self.ask_line(f"time {seconds}")

    def close(self):
        return self.ask_line("close")


class Peer(Side):
    def __init__(self, label, name, threads, environment=None):
        super().__init__(label, [sys.executable, f"{HERE}/peer.py", name, str(threads)], environment)
        self.name = name

    def ask(self, **what):
        return self.ask_line(json.dumps(what))

    def time(self, seconds):
        return self.ask(do="time", seconds=seconds)

    def close(self):
        return self.ask(do="close")


def preload(folder):
    """A library of one function, by which MKL takes any CPU for Intel's; None where that changes nothing or cc is missing."""
    if "AuthenticAMD" not in open("/proc/cpuinfo").read():
        return None
    path = os.path.join(folder, "intel.so")
    text = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"
    made = subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-x", "c", "-", "-o", path], input=text, text=True)
    return path if made.returncode == 0 else None


def start_peers(o, folder):
    sides = []
    for name in o.against:
        if name != "pytorch":
            environment = dict(KEEPS_MEMORY) if name == "flex" else {}
            if name == "flex":
                environment["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(ROOT, "build", "peers-compiled")
            sides.append(Peer(name, name, o.threads, environment))
            continue
        sides.append(Peer("pytorch T", name, o.threads, KEEPS_MEMORY))
        if o.quick:
            continue
        sides.append(Peer("pytorch D", name, o.threads))
        library = preload(folder)
        if library:
            sides.append(Peer("pytorch U", name, o.threads, dict(KEEPS_MEMORY, LD_PRELOAD=library)))
    return sides


# ---- a case ----

def rounds_of(o, sides, rounds):
    """Times of every side, a list of {mean, best} each; sides take turns and another one begins each round."""
    times = {side.label: [] for side in sides}
    failed = {}
    for r in range(rounds):
        turn = [s for s in sides if s.label not in failed and (s.label != "pytorch U" or r < U_ROUNDS)]
        for side in turn[r % len(turn):] + turn[:r % len(turn)]:
            time.sleep(0.005)  # the threads of the side before stop waiting for work
            answer = side.time(o.seconds)
            if "mean" in answer:
                times[side.label].append((r, answer["mean"], answer["best"]))
            else:
                failed[side.label] = answer.get("failed") or answer.get("error")
    return times, failed


def summary(times, label, flops, peak):
    own, heed = times[label], {r: mean for r, mean, _ in times["heed"]}
    if not own:
        return None
    out = {"best": min(best for _, _, best in own), "median": statistics.median(mean for _, mean, _ in own), "rounds": len(own)}
    if flops and peak:
        out["roofline"] = flops / out["best"] * 1e-9 / peak
    if label != "heed":
        out["ratio_best"] = out["best"] / min(best for _, _, best in times["heed"])
        out["ratio_median"] = statistics.median(mean / heed[r] for r, mean, _ in own if r in heed)
    return out


def measure(o, c, heed, second, peers, folder):
    row = {k: c[k] for k in ("name", "kind", "pass", "size", "aims")}
    row["load"] = os.getloadavg()[0]
    facts = heed.open(c["name"])
    if "kernel" not in facts:
        row["not_run"] = facts.get("skipped") or facts.get("error") or facts.get("failed")
        return row
    row.update(facts)
    path = os.path.join(folder, "case.safetensors")
    wanted = [p for p in peers if p.name in c["peers"]]
    if wanted:
        heed.ask_line(f"save {path}")
    sides, row["failed"], row["differs"], row["ways"] = [heed], {}, {}, {}
    for peer in wanted:
        answer = peer.ask(do="open", case=c, file=path)
        if "failed" in answer:
            row["failed"][peer.label] = answer["failed"]
            continue
        if answer.get("way"):
            row["ways"][peer.label] = answer["way"]
        if "error" in answer:
            row["differs"][peer.label] = answer["error"]
            if not answer["error"] <= TOLERANCE:
                row["failed"][peer.label] = f"{answer['where']} differs by {answer['error']:.2g} of its largest value"
                peer.close()
                continue
        sides.append(peer)
    if os.path.exists(path):
        os.remove(path)
    for label, name in c["beside"].items():
        second.label = label
        facts_beside = second.open(name)
        if "kernel" in facts_beside:
            row["beside"] = dict(facts_beside, name=name)
            sides.append(second)
    peak = heed.ask_line("peak")["gflops"]
    times, failed = rounds_of(o, sides, o.rounds)
    row["failed"].update(failed)
    row["peak_gflops"] = peak
    row["sides"] = {s.label: told for s in sides if (told := summary(times, s.label, facts["flops"], peak))}
    for side in sides:
        side.close()
    return row


def measure_memory(o, c):
    row = {k: c[k] for k in ("name", "kind", "pass", "size")}
    row["aim"] = c.get("aim")
    heed = subprocess.run([f"{o.build}/bench/side", "--threads", str(o.threads), "--rss", c["name"]], capture_output=True, text=True)
    answer = json.loads(heed.stdout or "{}")
    if "most" in answer:
        row["heed_kib"] = max(0, answer["most"] - answer["before"])
    else:
        row["not_run"] = answer.get("error", f"exit {heed.returncode}")
    if "pytorch" not in o.against:
        return row
    if available_gib() < c.get("needs_gib", 4):
        row["pytorch_not_run"] = f"needs {c.get('needs_gib', 4)} GiB, {available_gib():.0f} are free"
        return row
    peer = subprocess.run([sys.executable, f"{HERE}/peer.py", "pytorch", str(o.threads), "--memory", json.dumps(c)],
                          capture_output=True, text=True)
    if peer.returncode == 0:
        row["pytorch_kib"] = json.loads(peer.stdout)["extra_kib"]
    else:
        row["pytorch_not_run"] = (peer.stderr.strip().splitlines() or [f"exit {peer.returncode}"])[-1][:200]
    return row


def measure_growth(o):
    command = [f"{o.build}/heed", "bench", "--filter", "attention growth", "--json", "--threads", str(o.threads),
               "--rounds", str(o.rounds), "--milliseconds", "100"]
    out = subprocess.run(command, capture_output=True, text=True)
    rows = [json.loads(line) for line in out.stdout.splitlines()]
    return [r for r in rows if "time_exponent" in r], [r for r in rows if "time_exponent" not in r]


# ---- the machine ----

def available_gib():
    for line in open("/proc/meminfo"):
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) / 2 ** 20
    return 0.0


def cpu():
    out = {"model": "unknown", "flags": [], "cores": os.cpu_count()}
    for line in open("/proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            out["model"] = value.strip()
        elif key.strip() == "flags" and not out["flags"]:
            out["flags"] = [f for f in value.split() if f.startswith(("avx", "fma", "amx", "bf16")) or "bf16" in f]
    return out


def versions(o, peers):
    out = {}
    for peer in peers:
        out.update(peer.ask(do="versions"))
    told = subprocess.run([f"{o.build}/heed", "version", "--json"], capture_output=True, text=True).stdout
    out["heed"] = json.loads(told)["version"]
    return out


# ---- what is told on the way ----

def tell(row, stream):
    parts = [f"{row['name'][len('attention '):]:44s}"]
    if "sides" not in row:
        print(parts[0] + " not run: " + str(row["not_run"]), file=stream, flush=True)
        return
    heed = row["sides"]["heed"]
    parts.append(f"{heed['best'] * 1e3:9.2f} ms {100 * heed.get('roofline', 0):3.0f} %")
    for label, side in row["sides"].items():
        if label != "heed":
            parts.append(f"{label} {side['ratio_best']:.2f} ({side['ratio_median']:.2f})")
    parts += [f"{label}: {why}" for label, why in row["failed"].items()]
    if row["kernel"].startswith("composed"):
        parts.append(row["kernel"])
    print("  ".join(parts), file=stream, flush=True)


def tell_memory(row, stream):
    heed, peer = row.get("heed_kib", row.get("not_run")), row.get("pytorch_kib", row.get("pytorch_not_run", "-"))
    print(f"memory {row['name'][len('attention '):]}: heed {heed} KiB, pytorch {peer} KiB", file=stream, flush=True)


def tell_growth(row, stream):
    print(f"{row['name'][len('attention '):]}: time ~ T^{row['time_exponent']:.2f}, memory ~ T^{row['memory_exponent']:.2f}",
          file=stream, flush=True)


def options():
    p = argparse.ArgumentParser(prog="bench/peers", description=__doc__.splitlines()[0])
    p.add_argument("--filter", default="", help="only rows of heed with this in their name")
    p.add_argument("--against", default="pytorch,flex,onnxruntime", help="peers, with commas")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=0, help="default 5; 3 with --quick")
    p.add_argument("--seconds", type=float, default=0.15, help="of each side in each round, one run at least")
    p.add_argument("--quick", action="store_true", help="three minutes: fewer rows, PyTorch in one environment, no memory")
    p.add_argument("--minutes", type=float, default=18, help="rows that would begin later are left out")
    p.add_argument("--build", default=os.path.join(ROOT, "build"), help="folder heed was built in")
    p.add_argument("--out", help="file of the results; default bench/results.json for a whole run, none for a part")
    p.add_argument("--json", action="store_true", help="the results on stdout, instead of a table")
    o = p.parse_args()
    o.against = [name for name in o.against.split(",") if name]
    unknown = [name for name in o.against if name not in ("pytorch", "flex", "onnxruntime")]
    if unknown:
        p.error(f"no peer {unknown[0]}: pytorch, flex, onnxruntime")
    o.rounds = o.rounds or (3 if o.quick else 5)
    whole = not o.filter and not o.quick and o.against == ["pytorch", "flex", "onnxruntime"]
    o.out = o.out or (os.path.join(HERE, "results.json") if whole else None)
    for program in ("heed", "bench/side"):
        if not os.access(os.path.join(o.build, program), os.X_OK):
            say(f"bench/peers: no {program} in {o.build}: make build")
            sys.exit(4)
    return o


def main():
    o = options()
    chosen = [c for c in cases() if o.filter in c["name"] and (c["quick"] or not o.quick)]
    if not chosen and o.filter not in "attention growth":
        say(f'bench/peers: no row has "{o.filter}" in its name')
        sys.exit(2)
    begun, stream = time.time(), sys.stderr if o.json else sys.stdout
    results = {
        "measured": datetime.date.today().isoformat(), "threads": o.threads, "rounds": o.rounds, "seconds": o.seconds,
        "quick": o.quick, "cpu": cpu(), "load_begin": os.getloadavg()[0], "cases": [], "memory": [], "growth": [], "growth_rows": [],
    }
    for c in memory_cases():            # before the other processes hold memory of their own
        if o.filter in c["name"] and not o.quick:
            results["memory"].append(measure_memory(o, c))
            tell_memory(results["memory"][-1], stream)
    if o.filter in "attention growth" and not o.quick:
        results["growth"], results["growth_rows"] = measure_growth(o)
        for row in results["growth"]:
            tell_growth(row, stream)
    with tempfile.TemporaryDirectory(dir=o.build) as folder:
        heed, second = Heed("heed", o.build, o.threads), Heed("second", o.build, o.threads)
        peers = start_peers(o, folder)
        results["versions"] = versions(o, peers)
        for c in chosen:
            if time.time() - begun > 60 * o.minutes:
                results["cases"].append(dict({k: c[k] for k in ("name", "kind", "pass", "size", "aims")}, not_run="no time was left"))
                continue
            results["cases"].append(measure(o, c, heed, second, peers, folder))
            tell(results["cases"][-1], stream)
        for side in [heed, second] + peers:
            side.end()
    results["load_end"], results["minutes"] = os.getloadavg()[0], round((time.time() - begun) / 60, 1)
    if o.out:
        with open(o.out + ".new", "w") as f:
            json.dump(results, f, indent=1)
            f.write("\n")
        os.replace(o.out + ".new", o.out)
        say(f"{o.out} written after {results['minutes']} minutes; tools/docs/attention puts it into the page")
    if o.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
