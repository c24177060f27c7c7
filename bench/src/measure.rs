//! What a benchmark measures of itself, and reads of the processes that it starts.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use serde_json::Value;

/// Why a benchmark could not be carried out.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Which part of a benchmark a process is; none for the one that was started by cargo.
pub const ROLE: &str = "BENCH_ROLE";

/// This program once more, in another role, with the environment of a function.
///
/// # Errors
/// When this program cannot be found.
pub fn again(role: &str) -> Result<Command, Failure> {
    let mut command = Command::new(env::current_exe()?);
    environment(&mut command).env(ROLE, role);
    Ok(command)
}

/// Gives a program the environment of a function, and no other: all variables of template.yaml, as Lambda's own.
pub fn environment(command: &mut Command) -> &mut Command {
    command.env_clear().envs([
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        (
            "AWS_SECRET_ACCESS_KEY",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ),
        ("AWS_SESSION_TOKEN", SESSION_TOKEN),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
        ("RUST_LOG", "info"),
        ("METRICS_NAMESPACE", "bench"),
        ("INTEGRATIONS_TABLE", "integrations"),
        ("EVENTS_TABLE", "events"),
        ("SEAL_MILLIS", "10000"),
        ("RETENTION_DAYS", "90"),
        ("EVENT_LOG_SHARDS", "1"),
        ("GIVE_UP_DAYS", "5"),
        ("TIME_LIMIT_SECONDS", "30"),
        ("INGEST_QUEUE_URL", "http://127.0.0.1:9/1/ingest"),
        (
            "INGEST_DEAD_LETTER_QUEUE_URL",
            "http://127.0.0.1:9/1/ingest-dead",
        ),
        ("DELIVERY_QUEUE_URL", "http://127.0.0.1:9/1/delivery"),
        (
            "DELIVERY_DEAD_LETTER_QUEUE_URL",
            "http://127.0.0.1:9/1/delivery-dead",
        ),
        ("REPLAY_QUEUE_URL", "http://127.0.0.1:9/1/replay"),
        (
            "REPLAY_DEAD_LETTER_QUEUE_URL",
            "http://127.0.0.1:9/1/replay-dead",
        ),
        ("EXPORT_QUEUE_URL", "http://127.0.0.1:9/1/export"),
        (
            "EXPORT_DEAD_LETTER_QUEUE_URL",
            "http://127.0.0.1:9/1/export-dead",
        ),
        ("DELIVERY_FUNCTION", "delivery"),
        ("EXPORT_FUNCTION", "export"),
        ("EXPORT_ROLE_ARN", "arn:aws:iam::123456789012:role/export"),
        ("SECRETS_KEY_ID", "k"),
        ("TENANT_CLAIM", "tenant"),
        ("ALLOW_PRIVATE_RECEIVERS", "true"),
        ("SECRETS_IN_RESPONSES", "masked"),
        ("MAX_RUNNING_REPLAYS", "2"),
        ("EVENT_BUS_NAME", "bus"),
    ])
}

/// Signed into every call, as in Lambda: about as long as a real one.
const SESSION_TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLEaDGV1LWNlbnRyYWwtMSJHMEUCIQDEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEAiBEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEKokDCEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLE";

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

/// What this process has used of a processor, in seconds: all its threads, in user and kernel.
///
/// # Errors
/// Where the kernel does not say.
pub fn cpu_seconds() -> Result<f64, Failure> {
    Ok(cpu_of("self")?.as_secs_f64())
}

/// What a process has used of a processor: all threads that it has, in user and kernel.
///
/// # Errors
/// Where the kernel does not say.
pub fn cpu_of(pid: &str) -> Result<Duration, Failure> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let ran = text.split(' ').next().ok_or("schedstat is empty")?;
        nanoseconds += ran.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The most memory that this process ever had, in MiB.
///
/// # Errors
/// Where the kernel does not say.
pub fn peak_mib() -> Result<f64, Failure> {
    peak_of("self")
}

/// The most memory that a process ever had, in MiB.
///
/// # Errors
/// Where the kernel does not say.
pub fn peak_of(pid: &str) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("VmHWM is missing")?.trim().parse::<f64>()? / 1024.0)
}

/// The one in the middle; of an even number, the upper one of two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
