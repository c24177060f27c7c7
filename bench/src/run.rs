//! Drives a function through a load, and measures what it uses.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cloud::{self, Certificate, Cloud};
use crate::event_log::EventLog;
use crate::function::{Function, folder};
use crate::measure::Failure;
use crate::stored::Stored;

/// How long one invocation may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// What each invocation made: the size of its answer, and those of its exchanges.
pub type Plan = Vec<(usize, Vec<(usize, usize)>)>;

/// What a load took.
pub struct Load {
    /// Processor time of all invocations but the first.
    pub cpu: Duration,
    /// What each invocation sent to this queue.
    pub sent: Vec<Vec<String>>,
    /// The exchanges of all invocations but the first.
    pub plan: Plan,
}

/// Services at two ports: plain, and where there is a certificate, over TLS.
pub struct World {
    /// What they hold.
    pub cloud: Arc<Cloud>,
    /// Where they are.
    pub endpoint: String,
    /// Where they are over TLS.
    pub encrypted: String,
}

impl World {
    /// Serves what `stored` makes of the address of the receiver.
    ///
    /// # Errors
    /// When no port is left.
    pub async fn new(
        event_log: &Arc<EventLog>,
        certificate: Option<Certificate>,
        stored: impl FnOnce(String) -> Stored,
    ) -> Result<World, Failure> {
        let (plain, tls) = (cloud::bind().await?, cloud::bind().await?);
        let endpoint = format!("http://{}", plain.local_addr()?);
        let encrypted = format!("https://{}", tls.local_addr()?);
        let stored = stored(format!("{endpoint}{}", cloud::HOOK));
        let cloud = Cloud::new(event_log, stored, Duration::ZERO);
        tokio::spawn(Arc::clone(&cloud).serve(plain, None));
        if certificate.is_some() {
            tokio::spawn(Arc::clone(&cloud).serve(tls, certificate));
        }
        Ok(World {
            cloud,
            endpoint,
            encrypted,
        })
    }
}

/// Invokes a function with each body, one after the other. The first invocation, which makes connections, counts as part of the
/// start.
///
/// # Errors
/// When one fails, its answer is not the `expected` one, or the function has logged a warning.
pub async fn drive(
    function: &Function,
    world: &World,
    bodies: Vec<String>,
    queue: &str,
    expected: &str,
) -> Result<Load, Failure> {
    let mut load = Load {
        cpu: Duration::ZERO,
        sent: Vec::new(),
        plan: Plan::new(),
    };
    let mut cpu = Duration::ZERO;
    for (number, body) in bodies.into_iter().enumerate() {
        if number == 1 {
            cpu = function.cpu()?;
        }
        world.cloud.stored().exchanges.clear();
        let answer = function.invoke(body, TIME_LIMIT).await?;
        let text = String::from_utf8_lossy(&answer);
        if !text.contains(expected) {
            return Err(format!("a function answered {text}").into());
        }
        let mut stored = world.cloud.stored();
        load.sent.push(stored.take(queue));
        let exchanges = stored.exchanges.iter();
        if number > 0 {
            let exchanges = exchanges.map(|it| (it.request, it.response));
            load.plan.push((answer.len(), exchanges.collect()));
        }
    }
    load.cpu = function.cpu()? - cpu;
    let complaints = function.complaints()?;
    match complaints.first() {
        Some(first) => Err(format!("{} complaints, such as {first}", complaints.len()).into()),
        None => Ok(load),
    }
}

/// The same exchanges as a load's, with bodies of the same sizes, made by `program` without SDK and without anything to do:
/// processor time.
///
/// # Errors
/// When it cannot be started, or an exchange fails.
pub async fn floor(
    program: &Path,
    world: &World,
    plan: &Plan,
    sizes: &[usize],
) -> Result<Duration, Failure> {
    let path = folder()?.join("plan.json");
    // The first invocation is not counted here either.
    let first = plan.first().cloned().unwrap_or_default();
    let whole: Plan = [first].into_iter().chain(plan.iter().cloned()).collect();
    fs::write(&path, serde_json::to_string(&whole)?)?;
    let plan = [("BENCH_PLAN", path.display().to_string())];
    let function = Function::start(program, &world.endpoint, &plan).await?;
    let bodies = sizes.iter().map(|size| "x".repeat(*size)).collect();
    let load = drive(&function, world, bodies, "none", "").await?;
    fs::remove_file(path)?;
    Ok(load.cpu)
}
