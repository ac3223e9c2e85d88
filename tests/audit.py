"""What `make audit` checks: hashes in the locks, licences, known vulnerabilities; `--sbom FILE` writes CycloneDX JSON.

It runs in the audit's environment (tests/audit.lock) and looks at another one: ``audit.py PYTHON [--sbom FILE]``. Where
the vulnerability service can't be reached, it says so and passes.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = (ROOT / "requirements.lock", ROOT / "tests" / "audit.lock")
INSTALLED = (LOCKS[0], ROOT / "torch.lock")
PERMISSIVE = re.compile(r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Zlib|Unlicense|HPND|CC0", re.I)
REVIEWED = {"ipadic": "NAIST's licence, permissive: COPYING in the package"}  # whose metadata name none
ASK = """
import json, sys
from importlib.metadata import distributions
found = {}
for d in distributions():
    m = d.metadata
    kinds = [c for c in m.get_all("Classifier", []) if c.startswith("License")]
    found[m["Name"].lower().replace("_", "-")] = [m["License-Expression"] or "", (m["License"] or "")[:200], *kinds]
json.dump(found, sys.stdout)
"""


def locked(path: Path) -> dict[str, list[str]]:
    """``name==version`` -> hashes."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if name := re.match(r"([\w.-]+(?:\[\w+\])?==\S+)", line):
            found[name[1]] = []
        elif value := re.match(r"\s+--hash=sha256:([0-9a-f]{64})\b", line):
            found[[*found][-1]].append(value[1])
    return found


def unhashed() -> list[str]:
    return [f"{path.name}: {name} has no hash" for path in LOCKS for name, hashes in locked(path).items() if not hashes]


def licences(python: str) -> list[str]:
    """Locked packages of the environment whose licence isn't known to be permissive."""
    done = subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=True)
    stated = json.loads(done.stdout)
    problems = []
    for name in (
        re.split(r"==|\[", entry)[0].lower().replace("_", "-") for path in INSTALLED for entry in locked(path)
    ):
        if name in stated and name not in REVIEWED and not PERMISSIVE.search(" ".join(stated[name])):
            problems.append(f"{name}: no permissive licence in its metadata ({' '.join(stated[name]).strip()[:80]!r})")
    return problems


def vulnerabilities() -> list[str]:
    pins = "".join(f"{name}\n" for path in INSTALLED for name in locked(path))  # all, or none, may have hashes
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(pins)
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "-r", file.name, "--disable-pip", "--no-deps"]
        done = subprocess.run([*command, "-f", "json", "--progress-spinner", "off"], capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]
        print(f"vulnerabilities: not checked ({reason})")
        return []
    unknown = [p["name"] for p in packages if "skip_reason" in p]
    if unknown:
        print(
            f"vulnerabilities: not checked for {len(unknown)} of {len(packages)}: the service doesn't answer for them"
        )
    return [f"{p['name']} {p['version']}: {v['id']}" for p in packages for v in p.get("vulns", ())]


def main() -> int:
    python, *rest = sys.argv[1:]
    if rest:
        _, out = rest
        command = [sys.executable, "-m", "cyclonedx_py", "requirements", "-", "--of", "JSON", "-o", out]
        whole = "\n".join(path.read_text(encoding="utf-8") for path in INSTALLED)
        done = subprocess.run([*command, "--no-validate"], input=whole, text=True)  # validation waits for the network
        return done.returncode
    problems = [*unhashed(), *licences(python), *vulnerabilities()]
    print("\n".join(problems) or f"{len(locked(LOCKS[0]))} packages: hashes and licences as they should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
