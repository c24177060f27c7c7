//! Cold starts: what a process uses until it asks for its first invocation, and what that invocation takes more than others, with
//! connections over TLS, as in the cloud.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bench::corpus::TENANT;
use bench::event_log::EventLog;
use bench::function::Function;
use bench::loads;
use bench::measure::Failure;
use bench::stored::Stored;
use domain::integration::IntegrationRef;
use domain::tasks::{Run, RunEvent};
use serde_json::json;
use serde_json::value::RawValue;
use shared::clock::Clock;
use ulid::Ulid;

use crate::export::certificate;
use crate::table::{Start, Table};
use bench::run::{TIME_LIMIT, World};

/// How often each function is started.
const STARTS: usize = 15;
/// All functions, in the order of the table.
const FUNCTIONS: [&str; 6] = ["api", "ingest", "delivery", "replay", "export", "notify"];

/// Starts each function of each side in turn, and the floor among them.
pub async fn measure(sides: &[PathBuf], table: &mut Table) -> Result<(), Failure> {
    for _ in 0..STARTS {
        for name in FUNCTIONS {
            for (side, binaries) in sides.iter().enumerate() {
                let start = start(&binaries.join(name), name).await?;
                table.note_start(side, name, start);
            }
        }
        let idle = Path::new(env!("CARGO_BIN_EXE_idle"));
        table.note_start(0, "floor", start(idle, "floor").await?);
    }
    Ok(())
}

async fn start(program: &Path, name: &str) -> Result<Start, Failure> {
    let (certificate, roots) = certificate()?;
    let none = Arc::new(EventLog::default());
    let from = Clock::system().now().before(Duration::from_secs(60));
    let world = World::new(&none, Some(certificate), |url| match name {
        "export" => Stored::new(&[loads::exported("erp-1".to_owned(), from)]),
        _ => Stored::new(&[loads::live("erp-1".to_owned(), url)]),
    })
    .await?;
    let more = [("SSL_CERT_FILE", roots.clone())];
    let function = Function::start(program, &world.encrypted, &more).await?;
    let before = function.cpu()?;
    function.invoke(first(name, &world)?, TIME_LIMIT).await?;
    let start = Start {
        bytes: fs::metadata(program)?.len(),
        cpu: function.start.0,
        wall: function.start.1,
        first: function.cpu()? - before,
    };
    let _ = fs::remove_file(roots);
    Ok(start)
}

/// The first invocation of a function: one event's, where it has to do with events.
fn first(name: &str, world: &World) -> Result<String, Failure> {
    let request = loads::requests(1, 1).concat();
    let now = Clock::system().now();
    let task = json!({"tenant": TENANT, "integration_id": "erp-1", "sent_at": now}).to_string();
    Ok(match name {
        "api" => request,
        "ingest" => {
            let event = json!({"id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "name": "order.created", "payload": {"number": 1}});
            loads::batch(&[json!({"tenant": TENANT, "events": [event]}).to_string()])
        }
        "delivery" => {
            let integration = serde_json::from_str(&world.cloud.stored().document())?;
            let event = RunEvent {
                index: 0,
                id: "6a7e8feb-b491-4cf7-a9f1-bf3703467718".to_owned(),
                name: "order.created".to_owned(),
                body: RawValue::from_string(r#"{"tenant":"acme"}"#.to_owned())?,
            };
            let segment = Ulid::from_parts(now.0, 1);
            let runs = Run::of(
                &IntegrationRef::from(&integration),
                segment,
                0,
                [event].into_iter(),
            );
            let bodies: Result<Vec<String>, _> = runs
                .iter()
                .map(|run| run.message().map(|it| it.body))
                .collect();
            loads::batch(&bodies?)
        }
        "export" => loads::batch(&[task]),
        "notify" => loads::changes(1),
        _ => r#"{"tick":"sweep"}"#.to_owned(),
    })
}
