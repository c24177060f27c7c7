//! What a benchmark measures of itself, and reads of the processes that it starts.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Child;

use serde_json::Value;

/// Why a benchmark could not be carried out.
pub type Failure = Box<dyn Error + Send + Sync>;

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
