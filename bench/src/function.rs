//! One process of a function, as Lambda would run it, and what it uses.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;

use crate::cloud;
use crate::measure::{Failure, cpu_of, environment, peak_of};
use crate::runtime_api::RuntimeApi;

/// How long a process may take until it asks for work.
const START: Duration = Duration::from_secs(10);

/// Where a benchmark puts what is of use to it alone.
///
/// # Errors
/// When the folder cannot be made.
pub fn folder() -> Result<PathBuf, Failure> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/lines");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A process that waits for invocations. It ends with this.
pub struct Function {
    child: Child,
    api: Arc<RuntimeApi>,
    /// What its start took, until it asked for its first invocation: processor time, and time.
    pub start: (Duration, Duration),
    lines: PathBuf,
}

impl Function {
    /// Starts a program beside services at `endpoint`. What it writes goes into a file, as it goes into a pipe in the cloud.
    ///
    /// # Errors
    /// When it cannot be started, or does not ask for work.
    pub async fn start(
        program: &Path,
        endpoint: &str,
        more: &[(&str, String)],
    ) -> Result<Function, Failure> {
        let (api, listener) = (RuntimeApi::new(), cloud::bind().await?);
        let address = listener.local_addr()?;
        tokio::spawn(Arc::clone(&api).serve(listener));
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let lines = folder()?.join(format!("{name}-{}", address.port()));
        let mut command = Command::new(program);
        environment(&mut command)
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .envs(more.iter().map(|(name, value)| (*name, value)))
            .stdout(File::create(&lines)?);
        let began = Instant::now();
        let child = command.spawn()?;
        let mut function = Function {
            child,
            api,
            start: Default::default(),
            lines,
        };
        tokio::time::timeout(START, function.api.polled()).await?;
        function.start = (function.cpu()?, began.elapsed());
        Ok(function)
    }

    /// Invokes it once; its answer.
    ///
    /// # Errors
    /// When it fails, or takes longer than `time_limit`.
    pub async fn invoke(&self, body: String, time_limit: Duration) -> Result<Bytes, Failure> {
        self.api.invoke(body, time_limit).await
    }

    /// What it has used of a processor so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        cpu_of(&self.child.id().to_string())
    }

    /// The most memory that it ever had, in MiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak(&self) -> Result<f64, Failure> {
        peak_of(&self.child.id().to_string())
    }

    /// What it has written as errors or warnings.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn complaints(&self) -> Result<Vec<String>, Failure> {
        let text = fs::read_to_string(&self.lines)?;
        let bad = text.lines().filter(|line| {
            line.contains(r#""level":"ERROR""#) || line.contains(r#""level":"WARN""#)
        });
        Ok(bad.map(str::to_owned).collect())
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.lines);
    }
}
