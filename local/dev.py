"""`make dev FUNCTION=delivery`: a function of the local stack runs under `cargo lambda watch`, behind its real triggers.

Each change of the code is compiled and takes the next call. Ctrl-C gives the function back to the emulator. It runs with the variables
of the deployed one, but with the emulator's all-powerful credentials: what its role may do is tried by `make up` and `make test`.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

from emulator import ROOT, STATE_DIR, Failure, aws_environment, free_port, say, status, write
from stack import FUNCTIONS, STACK, TOOLS, build_environment, client, running

# The emulator sends a function's calls here where its environment has this (ministack, lambda_svc).
PROXY = "MINISTACK_LAMBDA_PROXY_URL"
READY_SECONDS = 60
ALIAS = "live"  # of the API, as in template.yaml


def deployed(port: int, name: str) -> dict:
    """The configuration of a function of the stack."""
    functions = client("lambda", port)
    for page in functions.get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            if function["FunctionName"].startswith(f"{STACK}-{name.capitalize()}Function-"):
                return functions.get_function_configuration(FunctionName=function["FunctionName"])
    raise Failure(f"The stack has no function {name}: make up")


def set_variables(functions, function: str, variables: dict) -> None:
    """Gives a function other variables, also where its calls go to a version by the alias `live`."""
    functions.update_function_configuration(FunctionName=function, Environment={"Variables": variables})
    if any(alias["Name"] == ALIAS for alias in functions.list_aliases(FunctionName=function)["Aliases"]):
        version = functions.publish_version(FunctionName=function)["Version"]
        functions.update_alias(FunctionName=function, Name=ALIAS, FunctionVersion=version)


def watch(port: int, name: str, variables: dict, listens_at: int) -> subprocess.Popen:
    """Starts cargo-lambda, and waits until it takes calls; it compiles when the first one comes."""
    file = STATE_DIR / f"dev-{name}.env"
    own = {"AWS_LAMBDA_FUNCTION_NAME": name, **variables, **aws_environment(port)}
    write(file, "".join(f"{key}={value}\n" for key, value in own.items()))
    command = [TOOLS / "cargo-lambda", "lambda", "watch", "--env-file", file, "--concurrency", "4", "--invoke-address", "127.0.0.1", "--invoke-port", str(listens_at)]
    process = subprocess.Popen(command, cwd=ROOT, env=build_environment(port), stdin=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", listens_at), timeout=1):
            return process
        time.sleep(0.1)
    stop(process)
    raise Failure("cargo lambda watch does not take calls.")


def stop(process: subprocess.Popen) -> None:
    """Ends cargo-lambda with all that it started: they are a group of their own."""
    for with_signal in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, with_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)


def dev(port: int, name: str) -> None:
    functions, configuration = client("lambda", port), deployed(port, name)
    function = configuration["FunctionName"]
    variables = {key: value for key, value in configuration["Environment"]["Variables"].items() if key != PROXY}
    listens_at = free_port()
    process = watch(port, name, variables, listens_at)
    try:
        proxied = variables | {PROXY: f"http://127.0.0.1:{listens_at}/2015-03-31/functions/{name}/invocations"}
        set_variables(functions, function, proxied)
        say(f"dev: calls of {name} come here; Ctrl-C gives it back")
        process.wait()
        raise Failure("cargo lambda watch has ended.")
    except KeyboardInterrupt:
        pass
    finally:
        set_variables(functions, function, variables)
        stop(process)
        say(f"dev: {name} is the emulator's again")


def main() -> int:
    for ends in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ends, signal.default_int_handler)
    name = os.environ.get("FUNCTION", "")
    if name not in FUNCTIONS:
        print(f"FUNCTION is one of {', '.join(FUNCTIONS)}: make dev FUNCTION=delivery", file=sys.stderr)
        return 2
    return status(lambda: dev(running()[0], name))


if __name__ == "__main__":
    sys.exit(main())
