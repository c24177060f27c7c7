"""The local stack: the emulator, and in it the stack of template.yaml.

    stack.py up      start it, build and deploy what has changed, write target/local/env
    stack.py down    stop it, with every process that it left behind
    stack.py token   get new access tokens, write target/local/env again
    stack.py logs    print what the functions have logged
    stack.py build   build what `up` deploys, and start nothing

The port is PORT (default 4566). State is in target/local: env, emulator.log, stack.json. Needs .venv (see venvs.py).
With EVENTSTREAM_LOCAL_STACK=<name> it is another stack, beside that one: state in target/<name>, any free port.
"""

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import emulator
from emulator import LOG_FILE, REGION, ROOT, STATE_DIR, STATE_FILE, Failure, aws_environment, digest, endpoint, get, read_state, say, without_proxy, write
from logged import logged

ENV_FILE = STATE_DIR / "env"
TOOLS = ROOT / ".venv" / "tools" / "bin"
STACK = "event-stream-local"  # as in samconfig.toml
BUCKET = "event-stream-local-artifacts"  # as in samconfig.toml
CUSTOMER = "event-stream-local-customer"  # represents all customers whose buckets take files
FUNCTIONS = ["api", "ingest", "delivery", "replay", "export", "notify"]
QUEUES = ["ingest", "delivery", "replay", "export"]
READY_SECONDS = 30
# Clippy's driver is a compiler that lints besides: code that is compiled anyway need not be checked once more, with all that it links.
LINTED = {"RUSTC_WORKSPACE_WRAPPER": "clippy-driver"}
SAM_BUILD = ROOT / ".aws-sam" / "build"
BUILT = ROOT / "target" / "functions.built"  # what is in SAM_BUILD: a digest of its sources


def sources() -> list[Path]:
    """All that a deployment is made from. Tests, demo, benchmarks, fuzz targets and documents are not."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        here = Path(folder)
        folders[:] = [f for f in folders if not f.startswith(".") and (here != ROOT or f not in ("target", "tests", "demo", "bench", "fuzz", "local"))]
        found += [here / f for f in files if not f.endswith(".md") and not f.startswith(".")]
    return sorted(found)


# --- Deployment ---


def client(service: str, port: int):
    import botocore.config
    import botocore.session

    session = botocore.session.Session(profile=None)
    return session.create_client(
        service,
        region_name=REGION,
        endpoint_url=endpoint(port),
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=botocore.config.Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30),
    )


def build_environment(port: int) -> dict:
    """For cargo and sam. Nothing of the user's own AWS set-up gets in: this must never reach a real account."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {
        **aws_environment(port),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
        # The tests' profile, target directory and target triple, so that everything is compiled once.
        "SAM_BUILD_MODE": "debug",
        "CARGO_LAMBDA_COMPILER": "cargo",
        "CARGO_BUILD_TARGET": host_triple(),
        **LINTED,
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.2",
        "__SAM_CLI_APP_DIR": str(STATE_DIR / "sam"),
    }
    return environment


def host_triple() -> str:
    if os.environ.get("CARGO_BUILD_TARGET"):
        return os.environ["CARGO_BUILD_TARGET"]
    outs = run(["rustc", "-vV"], dict(os.environ))
    return next(line.split()[1] for line in outs.splitlines() if line.startswith("host:"))


def run(command: list, environment: dict) -> str:
    """Runs a program quietly; its output is shown when it fails."""
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failure(f"{done.stdout}\n`{' '.join(map(str, command))}` failed with status {done.returncode}.")
    return done.stdout


def build(port: int, made_from: str) -> None:
    """Builds the functions, unless this is what was built last, for this stack or another one."""
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    with open(BUILT.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if BUILT.exists() and BUILT.read_text() == made_from and (SAM_BUILD / "template.yaml").exists():
            return
        BUILT.unlink(missing_ok=True)
        compile_and_collect(port)
        BUILT.write_text(made_from)


def compile_and_collect(port: int) -> None:
    environment = build_environment(port)
    started = time.monotonic()
    # All at once and with cargo's own progress; sam build then finds everything compiled.
    binaries = [part for name in FUNCTIONS for part in ("--bin", name)]
    if subprocess.run(["cargo", "build", *binaries], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL).returncode:
        raise Failure("The functions do not compile.")
    compiled = time.monotonic()
    run([TOOLS / "sam", "build", "--config-env", "local"], environment)
    say(f"built: {compiled - started:.1f} s cargo, {time.monotonic() - compiled:.1f} s sam build")


def deploy(port: int) -> None:
    started = time.monotonic()
    client("s3", port).create_bucket(Bucket=BUCKET)
    try:
        run([TOOLS / "sam", "deploy", "--config-env", "local"], build_environment(port))
    except Failure as failure:
        raise Failure(f"{failure}\nTo begin afresh: make down up") from None
    say(f"deployed: {time.monotonic() - started:.1f} s sam deploy")


def outputs_of(cloudformation, stack: str) -> dict:
    """What the Outputs of a stack say, wherever it is."""
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def outputs(port: int) -> dict | None:
    """What the template's Outputs say; None before the first deployment."""
    import botocore.exceptions

    try:
        return outputs_of(client("cloudformation", port), STACK)
    except botocore.exceptions.ClientError:
        return None


def running() -> tuple[int, dict]:
    """The port and the outputs of the stack that is up."""
    state = read_state()
    if state.get("pid") not in emulator.processes() or not (outs := outputs(state["port"])):
        raise Failure("The stack is not up: make up")
    return state["port"], outs


def customer(port: int) -> dict:
    """A customer's access key for its buckets, which may do what the contract asks for and nothing else."""
    iam = client("iam", port)
    iam.create_user(UserName=CUSTOMER)
    allowed = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::*"}
    iam.put_user_policy(UserName=CUSTOMER, PolicyName="exports", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}))
    key = iam.create_access_key(UserName=CUSTOMER)["AccessKey"]
    return {"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}


def api_url(port: int, outs: dict) -> str:
    """The address under the emulator's own host name, which every client can reach without naming a host."""
    return f"{endpoint(port)}/_aws/execute-api/{outs['ApiId']}"


def wait_for_api(port: int, outs: dict) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while (answer := get(f"{api_url(port, outs)}/health", seconds=15))[0] != 200:
        if time.monotonic() > deadline:
            raise Failure(f"The API does not respond: GET /health gives {answer[0]} {answer[1].decode(errors='replace')[:500]}\nLogs: make logs, {LOG_FILE.relative_to(ROOT)}")
        time.sleep(0.2)


# --- Tokens and the environment of clients ---


def token(port: int, outs: dict, client_id: str) -> str:
    """An access token by the client credentials grant, as any machine client gets it."""
    described = client("cognito-idp", port).describe_user_pool_client(UserPoolId=outs["UserPoolId"], ClientId=client_id)
    return granted(port, client_id, described["UserPoolClient"]["ClientSecret"])


def granted(port: int, client_id: str, secret: str) -> str:
    """The token that a client gets for its id and secret."""
    request = urllib.request.Request(
        f"{endpoint(port)}/oauth2/token",
        data=urllib.parse.urlencode({"grant_type": "client_credentials"}).encode(),
        headers={"authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["access_token"]


def write_env(port: int, outs: dict) -> None:
    values = {
        "EVENTSTREAM_URL": api_url(port, outs),
        "EVENTSTREAM_TOKEN": token(port, outs, outs["FirstTenantClientId"]),
        "EVENTSTREAM_TOKEN_OTHER": token(port, outs, outs["SecondTenantClientId"]),
        "EVENTSTREAM_BUS": outs["BusName"],
    }
    for name in QUEUES:
        stem = name.capitalize()
        values[f"EVENTSTREAM_{name.upper()}_QUEUE_URL"] = outs[f"{stem}QueueUrl"]
        values[f"EVENTSTREAM_{name.upper()}_DEAD_LETTER_QUEUE_URL"] = outs[f"{stem}DeadLetterQueueUrl"]
    key = read_state()["customer"]
    values |= {"EVENTSTREAM_BUCKET_ACCESS_KEY_ID": key["id"], "EVENTSTREAM_BUCKET_SECRET_ACCESS_KEY": key["secret"]}
    values["EVENTSTREAM_INTEGRATIONS_TABLE"] = outs["IntegrationsTableName"]
    values["EVENTSTREAM_EVENTS_TABLE"] = outs["EventsTableName"]
    values |= aws_environment(port) | without_proxy(os.environ)
    lines = [f"export {name}='{value}'" for name, value in values.items()]
    write(ENV_FILE, "# Written by `make up`: . target/local/env\n" + "\n".join(lines) + "\n")


# --- Commands ---


def up() -> None:
    started = time.monotonic()
    port, is_new = emulator.start()
    made_from = digest(sources())
    state = read_state()
    outs = outputs(port)
    if is_new or not outs or state.get("deployed") != made_from:
        build(port, made_from)
        deploy(port)
        outs = outputs(port)
        known = state.get("customer") or customer(port)
        write(STATE_FILE, json.dumps(state | {"deployed": made_from, "customer": known}))
    else:
        say("nothing has changed since the last deployment")
    wait_for_api(port, outs)
    write_env(port, outs)
    say(f"up in {time.monotonic() - started:.1f} s: {api_url(port, outs)}\nnext: make console, or . target/local/env, then curl -H \"authorization: Bearer $EVENTSTREAM_TOKEN\" $EVENTSTREAM_URL/api/v1/org/integrations/eventstream/")


def down() -> None:
    stopped = emulator.stop()
    shutil.rmtree(STATE_DIR / "tmp", ignore_errors=True)
    STATE_FILE.unlink(missing_ok=True)
    ENV_FILE.unlink(missing_ok=True)
    say(f"down: {stopped} processes stopped" if stopped else "down: nothing was running")


def renew() -> None:
    write_env(*running())
    say("new tokens in target/local/env")


def logs() -> None:
    reader = client("logs", running()[0])
    events = []
    for name in FUNCTIONS:
        found = logged(reader, f"/aws/lambda/{STACK}/{name}")
        events += [(event["timestamp"], name, event["message"]) for event in found]
    for at, name, message in sorted(events, key=lambda event: event[0]):
        if not message.startswith(("START ", "END ", "REPORT ")):
            say(f"{time.strftime('%H:%M:%S', time.localtime(at / 1000))}.{at % 1000:03} {name:8} {message}")


def main() -> int:
    commands = {"up": up, "down": down, "token": renew, "logs": logs, "build": lambda: build(0, digest(sources()))}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        say(__doc__.strip())
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as with Ctrl-C: what runs for us ends with us
    STATE_DIR.mkdir(parents=True, exist_ok=True)
    with open(STATE_DIR / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would deploy over each other
        try:
            return emulator.status(commands[sys.argv[1]])
        except KeyboardInterrupt:
            return 130


if __name__ == "__main__":
    sys.exit(main())
