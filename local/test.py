"""All tests, as `make test` and the build server run them: steps side by side, each as soon as what it needs is there.

    test.py                   every step
    test.py console readme    these steps, and what they need

The steps use stacks of their own, which are started here and stopped in any case: nothing depends on what is left in the stack of
`make up`, and nothing is left in it. The first step that fails ends the run. What a step prints is shown when it has ended, and is in
target/test. Runs with the Python that makes the virtual environments: needs nothing but cargo.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import emulator
from emulator import ROOT, STACK_VARIABLE, digest
from stack import LINTED, host_triple

VENVS = ROOT / ".venv"
LOGS = ROOT / "target" / "test"
# Three stacks, so that what one step leaves in a queue does not hold up what another one waits for.
STACKS = ("test-integration", "test-steps", "test-console")
# Compiling gives way to steps that wait for answers: it takes both cores for minutes.
NICE = 10


def python(venv: str, script: str, *arguments: str) -> list:
    return [VENVS / venv / "bin" / "python", "-B", ROOT / "local" / script, *arguments]


def here(script: str, *arguments: str) -> list:
    """A script that needs no virtual environment."""
    return [sys.executable, "-B", ROOT / "local" / script, *arguments]


@dataclass
class Step:
    command: list
    needs: tuple[str, ...] = ()
    stack: str = ""  # which one it works on: its variables are the step's
    is_compiling: bool = False
    # Where none of these files has changed since the step passed, it has passed.
    checks: list[Path] = field(default_factory=list)


def installing(venv: str) -> Step:
    return Step(here("venvs.py", venv))


def up(stack: str) -> Step:
    return Step(python("emulator", "stack.py", "up"), needs=("install-emulator", "install-tools", "build"), stack=stack)


def files(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file())


TEMPLATE = files("template.yaml", "monitoring.json", "samconfig.toml", "Makefile", "local/policies.py", "local/actions.py", "local/checkov.yaml", "local/requirements-*.txt")
CONSOLE = files("console/*.json", "console/src/*", "console/tests/*", "local/console.py")

STEPS = {
    "install-emulator": installing("emulator"),
    "install-tools": installing("tools"),
    "install-receivers": installing("receivers"),
    "install-readme": installing("readme"),
    "install-attack": installing("attack"),
    "install-checkov": installing("checkov"),
    "formatting": Step(["cargo", "fmt", "--all", "--check"]),
    "house": Step(here("house.py")),
    "documents": Step(here("docs.py")),
    "licences": Step(here("supply.py")),
    "console-files": Step(python("receivers", "console.py", "files"), needs=("install-receivers",)),
    "build": Step(here("stack.py", "build"), needs=("console-files", "install-tools"), is_compiling=True),
    "console-types": Step(python("receivers", "console.py", "check"), needs=("console-files",), checks=CONSOLE),
    "template": Step(["make", "--no-print-directory", "lint-template"], needs=("install-tools", "install-checkov"), checks=TEMPLATE),
    "compile": Step(here("compiled.py", "make"), needs=("build",), is_compiling=True),
    **{f"up-{stack}": up(stack) for stack in STACKS},
    "rules": Step(here("compiled.py", "run", "others"), needs=("compile",)),
    "integration": Step(here("compiled.py", "run", "it"), needs=("compile", "up-test-integration"), stack="test-integration"),
    "console": Step(python("receivers", "console.py", "stories"), needs=("up-test-console",), stack="test-console"),
    "readme": Step(python("readme", "readme.py"), needs=("up-test-steps", "install-readme"), stack="test-steps"),
    "receivers": Step(python("receivers", "receiving.py"), needs=("up-test-steps", "compile"), stack="test-steps"),
    "monitored": Step(python("emulator", "monitored.py"), needs=("readme",), stack="test-steps"),
    "attack": Step(python("attack", "attack.py", "3"), needs=("up-test-steps", "install-attack"), stack="test-steps"),
    "watch": Step(python("tools", "watch.py", "--once"), needs=("readme",), stack="test-steps"),
    # It has cargo-lambda compile a function, which would wait for `compile`.
    "variants": Step(python("emulator", "variants.py"), needs=("attack", "compile", "install-readme"), stack="test-steps"),
    "leaks": Step(python("emulator", "leaks.py", *STACKS), needs=("integration", "receivers", "monitored", "watch", "variants", "console")),
    # Last and alone: what it measures is not what other steps take of the processor.
    "realtime": Step(python("emulator", "realtime.py", "short"), needs=("leaks", "rules", "template", "house"), stack="test-console"),
}


def variables(stack: str) -> dict:
    """What a step's environment is: that of its stack, as `. target/<stack>/env` makes it."""
    # As `make up` compiles, so that each crate is compiled once.
    environment = os.environ | LINTED | {"CARGO_BUILD_TARGET": host_triple()}
    if sys.stdout.isatty():
        environment.setdefault("CARGO_TERM_COLOR", "always")
    if stack:
        environment[STACK_VARIABLE] = stack
        env = ROOT / "target" / stack / "env"
        if env.exists():
            shell = subprocess.run(["sh", "-c", f'. "{env}" && env -0'], env=environment, check=True, stdout=subprocess.PIPE, text=True)
            environment = dict(entry.split("=", 1) for entry in shell.stdout.split("\0") if entry)
    return environment


class Run:
    """The steps of one run, and how far they are."""

    def __init__(self, steps: dict[str, Step]) -> None:
        self.steps, self.waiting = steps, list(steps)
        self.running: dict[str, subprocess.Popen] = {}
        self.passed: set[str] = set()
        self.times: list[tuple[str, float, int]] = []
        self.results: list[str] = []
        self.status = 0
        self.changed = threading.Condition()
        self.compiling = threading.Lock()
        self.started = time.monotonic()

    def whole(self) -> int:
        threads = []
        with self.changed:
            while (self.waiting or self.running or any(it.is_alive() for it in threads)) and not self.status:
                for name in [it for it in self.waiting if set(self.steps[it].needs) <= self.passed]:
                    self.waiting.remove(name)
                    threads.append(threading.Thread(target=self.one, args=(name,), daemon=True))
                    threads[-1].start()
                self.changed.wait(timeout=1)
            self.end()
        return self.status

    def end(self) -> None:
        """Ends what runs, with all that it has started: each step is a group of processes."""
        for with_signal in (signal.SIGTERM, signal.SIGKILL):
            for step in self.running.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(step.pid, with_signal)
            deadline = time.monotonic() + 30
            while self.running and time.monotonic() < deadline:
                self.changed.wait(timeout=1)

    def one(self, name: str) -> None:
        step, stamp = self.steps[name], LOGS / f"{name}.passed"
        wanted = digest(step.checks) if step.checks else None
        started = time.monotonic()
        if wanted and stamp.exists() and stamp.read_text() == wanted:
            return self.note(name, started, 0, "nothing has changed since it passed\n")
        if step.is_compiling:  # one at a time: cargo would wait for the other one, and count it as this one's time
            with self.compiling:
                started = time.monotonic()
                status, text = self.carry_out(name, step)
        else:
            status, text = self.carry_out(name, step)
        if wanted and not status:
            stamp.write_text(wanted)
        self.note(name, started, status, text)

    def carry_out(self, name: str, step: Step) -> tuple[int, str]:
        log = LOGS / f"{name}.log"
        command = ["nice", "-n", str(NICE), *step.command] if step.is_compiling else step.command
        try:
            with open(log, "wb") as output, self.changed:
                if self.status:
                    return 130, ""
                process = subprocess.Popen(
                    [str(part) for part in command], cwd=ROOT, env=variables(step.stack), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self.running[name] = process
            status = process.wait()
        except OSError as failed:
            return 127, f"{failed}\n"
        return status, log.read_text(errors="replace")

    def note(self, name: str, started: float, status: int, text: str) -> None:
        with self.changed:
            self.running.pop(name, None)
            seconds = time.monotonic() - started
            if not self.status:  # what is ended because another step failed has nothing to say
                print(f"\n=== {name}: {seconds:.1f} s, {time.monotonic() - self.started:.0f} s after the beginning\n{text}", end="", flush=True)
                self.results += [line for line in text.splitlines() if line.startswith("test result:")]
                self.times.append((name, seconds, status))
                self.status = status
            if not status:
                self.passed.add(name)
            self.changed.notify_all()


def wanted(names: list[str]) -> dict[str, Step]:
    """The steps with these names and all that they need; every step where there is no name."""
    unknown = [name for name in names if name not in STEPS]
    if unknown:
        sys.exit(f"there is no step {', '.join(unknown)}; there are: {', '.join(STEPS)}")
    found, agenda = set(), list(names or STEPS)
    while agenda:
        name = agenda.pop()
        found.add(name)
        agenda += [need for need in STEPS[name].needs if need not in found]
    return {name: step for name, step in STEPS.items() if name in found}


def down(stack: str) -> int:
    """Stops a stack of the tests, with all that is in it."""
    if not (VENVS / "emulator").exists():
        return 0
    stopped = subprocess.run(python("emulator", "stack.py", "down"), cwd=ROOT, env=variables("") | {STACK_VARIABLE: stack}, stdout=subprocess.DEVNULL)
    return stopped.returncode


def main() -> int:
    for ends in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ends, signal.default_int_handler)  # as with Ctrl-C: what was started is stopped
    steps = wanted(sys.argv[1:])
    LOGS.mkdir(parents=True, exist_ok=True)
    for stack in STACKS:  # of a run that was killed
        down(stack)
    run, status = Run(steps), 130
    try:
        status = run.whole()
    except KeyboardInterrupt:
        with run.changed:
            run.status = 130
            run.end()
    finally:
        if status:
            for stack in STACKS:
                kept = ROOT / "target" / stack / "emulator.log"
                if kept.exists():
                    shutil.copy(kept, LOGS / f"{stack}.emulator.log")
        status = max([status, *map(down, STACKS)])
        print()
        for result in run.results:
            print(result)
        for name, seconds, failed in run.times:
            print(f"{seconds:8.1f} s  {name}{'  FAILED' if failed else ''}")
        print(f"{time.monotonic() - run.started:8.1f} s  in all")
        print("all tests passed" if status == 0 else f"tests FAILED (status {status})", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
