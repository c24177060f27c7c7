//! What a benchmark measures of itself, and reads of the processes that it starts.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use serde_json::Value;

/// Why a benchmark could not be carried out.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Which part of a benchmark a process is; none for the one that was started by cargo.
pub const ROLE: &str = "BENCH_ROLE";

/// This program once more, in another role. It has an environment of its own: what every function of ours reads.
///
/// # Errors
/// When this program cannot be found.
pub fn again(role: &str) -> Result<Command, Failure> {
    let mut command = Command::new(env::current_exe()?);
    command
        .env_clear()
        .env(ROLE, role)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "eu-central-1")
        .env("INTEGRATIONS_TABLE", "integrations")
        .env("EVENTS_TABLE", "events")
        .env("SECRETS_KEY_ID", "k")
        .env("SEAL_MILLIS", "10000")
        .env("RETENTION_DAYS", "90")
        .env("EVENT_LOG_SHARDS", "1")
        .env("GIVE_UP_DAYS", "5");
    Ok(command)
}

/// Runs a program to its end; the line of JSON that it writes.
///
/// # Errors
/// When it cannot be started, or writes none.
pub fn ran(command: &mut Command) -> Result<Value, Failure> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let said = said(&mut child)?;
    child.wait()?;
    Ok(said)
}

/// Does `work` beside a child, which ends with it.
///
/// # Errors
/// Those of `work`, and when the child cannot be ended.
pub fn beside<T>(
    mut child: Child,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let done = work();
    child.kill()?;
    child.wait()?;
    done
}

/// A number of the environment.
///
/// # Errors
/// Where it is missing, or no number.
pub fn number(name: &str) -> Result<u64, Failure> {
    Ok(env::var(name)?.parse()?)
}

/// The line of JSON that a child writes.
///
/// # Errors
/// When it writes none, or something else.
pub fn said(child: &mut Child) -> Result<Value, Failure> {
    let stdout = child.stdout.take().ok_or("the child's output is taken")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// What this process has used of a processor: all its threads, in user and kernel.
///
/// # Errors
/// Where the kernel does not say.
pub fn cpu_seconds() -> Result<f64, Failure> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let ran = text.split(' ').next().ok_or("schedstat is empty")?;
        nanoseconds += ran.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// The most memory that this process ever had.
///
/// # Errors
/// Where the kernel does not say.
pub fn peak_mib() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("VmHWM is missing")?.trim().parse::<f64>()? / 1024.0)
}
