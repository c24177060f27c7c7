//! `make demo`: registers a webhook and an S3 integration, publishes a shop's events, and checks that each arrives where
//! it should, exactly once.
#![expect(clippy::print_stdout, reason = "the demo shows its user what it sees")]

mod catalogue;
mod check;
mod exports;
mod failure;
mod options;
mod progress;
mod publish;
mod service;
mod summary;
mod webhooks;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use shared::clock::Clock;
use tests::receiver::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use uuid::Uuid;

use crate::catalogue::{ENTITY_FILTER, EVENT_FILTER, passes};
use crate::check::Published;
use crate::exports::{BUCKET, Exports};
use crate::failure::Failure;
use crate::options::{Environment, HELP, Options};
use crate::progress::Progress;
use crate::service::Service;
use crate::summary::Summary;

/// The payloads are the same in every run, but for their ids.
const SEED: u64 = 2_100;
/// How long a new integration may take until it gets events at once; it should be three seals.
const LIVE_DEADLINE: Duration = Duration::from_secs(60);
/// How many entries of the integrations' logs are shown when something went wrong.
const LOG_SHOWN: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match Options::read(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("demo: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match demo(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("\ndemo: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The names of this run: no other has them.
struct Run {
    name: String,
    webhook: String,
    s3: String,
    key_prefix: String,
    api_key: String,
}

/// Runs the demo, and deletes its integrations however it ends.
async fn demo(options: &Options) -> Result<bool, Failure> {
    let environment = Environment::read()?;
    let service = Service::new(&environment)?;
    service.check_health().await?;
    let random = Uuid::new_v4().simple().to_string();
    let name = random[..6].to_owned();
    let run = Run {
        webhook: format!("demo-webhook-{name}"),
        s3: format!("demo-s3-{name}"),
        key_prefix: format!("demo/{name}"),
        api_key: format!("demo-key-{random}"),
        name,
    };
    let result = tokio::select! {
        result = show(options, &environment, &service, &run) => result,
        () = interrupted() => Err(Failure::new("Interrupted.")),
    };
    for id in [&run.webhook, &run.s3] {
        if let Err(failure) = service.delete(id).await {
            eprintln!("demo: {id} is left behind: {failure}");
        }
    }
    let (is_good, last_line) = result?;
    println!("{last_line}");
    Ok(is_good)
}

/// What there is to see. Gives the verdict and the last line, which comes after the integrations are deleted.
async fn show(
    options: &Options,
    environment: &Environment,
    service: &Service,
    run: &Run,
) -> Result<(bool, String), Failure> {
    let clock = Clock::system();
    let config = shared::aws::config();
    let mut exports = Exports::prepare(
        &aws_sdk_s3::Config::new(&config),
        &environment.region,
        &run.key_prefix,
    )
    .await?;
    let receiver = Receiver::start().await;
    register(service, environment, &receiver, run).await?;
    wait_until_live(service, run).await?;

    let mut events = catalogue::events(&run.name, SEED, options.events + options.bus_events);
    let expected_webhooks = events.iter().filter(|event| passes(event.name)).count();
    let bus_events = events.split_off(options.events);
    println!(
        "publishing {} events through the API and {} over the bus {}",
        events.len(),
        bus_events.len(),
        environment.bus
    );
    println!("(the files come with the export's next tick, after a minute at the most)");
    let progress = Progress::new(events.len() + bus_events.len(), expected_webhooks);
    let pace = (options.batch, options.rate);
    let work = async {
        let bus = aws_sdk_eventbridge::Client::new(&config);
        let (by_api, by_bus) = tokio::try_join!(
            publish::over_api(service, &clock, events, pace, &progress),
            publish::over_bus(&bus, &environment.bus, &clock, bus_events, &progress),
        )?;
        let published: HashMap<String, Published> = by_api
            .into_iter()
            .chain(by_bus)
            .map(|event| (event.event.reference.clone(), event))
            .collect();
        let webhooks = async {
            webhooks::wait(&receiver, &published, options.webhook_deadline).await;
            Ok(())
        };
        tokio::try_join!(
            webhooks,
            exports.wait(&published, options.export_deadline, &progress)
        )?;
        tokio::time::sleep(options.settle).await;
        exports.read_new().await?;
        Ok(published)
    };
    let published = progress.during(&receiver, work).await?;

    let webhooks = webhooks::check(&receiver.received(), &published, &run.api_key);
    let exported = exports.check(&published);
    let summary = Summary {
        published_api: options.events,
        published_bus: options.bus_events,
        webhooks: &webhooks,
        exported: &exported,
        files: &exports.files,
        webhook_duplicates_allowed: options.webhook_duplicates_allowed,
    };
    summary.print();
    if !summary.is_good() {
        print_logs(service, run).await?;
    }
    Ok((summary.is_good(), summary.line()))
}

async fn register(
    service: &Service,
    environment: &Environment,
    receiver: &Receiver,
    run: &Run,
) -> Result<(), Failure> {
    let webhook = json!({
        "id": run.webhook,
        "integration_type": "permanent",
        "callback_parameters": { "callback_url": format!("{}/webhooks", receiver.url()), "api_key": run.api_key },
        "filter_conditions": { "event_filter": EVENT_FILTER, "entity_filter": ENTITY_FILTER },
    });
    service.register(&run.webhook, &webhook).await?;
    println!(
        "registered {}: {} and all of {} go to {}",
        run.webhook,
        EVENT_FILTER.join(", "),
        ENTITY_FILTER.join(", "),
        receiver.url()
    );
    let s3 = json!({
        "id": run.s3,
        "integration_type": "permanent",
        "s3_parameters": {
            "aws_access_key_id": environment.bucket_access_key_id,
            "aws_secret_access_key": environment.bucket_secret_access_key,
            "aws_region": environment.region,
            "bucket": BUCKET,
            "key_prefix": run.key_prefix,
        },
    });
    service.register(&run.s3, &s3).await?;
    println!(
        "registered {}: everything goes to s3://{BUCKET}/{}/ at {}",
        run.s3, run.key_prefix, environment.aws_endpoint
    );
    Ok(())
}

/// Waits until events go out at once: before that they come, too, but from the event log and later.
async fn wait_until_live(service: &Service, run: &Run) -> Result<(), Failure> {
    let started = Instant::now();
    while service.is_catching_up(&run.webhook).await? {
        if started.elapsed() > LIVE_DEADLINE {
            let log = service.log(&run.webhook, LOG_SHOWN).await?.join("\n  ");
            return Err(Failure::new(format!(
                "{} is not live after {LIVE_DEADLINE:?}. Its log:\n  {log}",
                run.webhook
            )));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    println!(
        "{} is live after {:.1} s",
        run.webhook,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn print_logs(service: &Service, run: &Run) -> Result<(), Failure> {
    for id in [&run.webhook, &run.s3] {
        println!("The log of {id}, newest first:");
        for entry in service.log(id, LOG_SHOWN).await? {
            println!("  {entry}");
        }
    }
    Ok(())
}

/// Ends when the demo is asked to end, by Ctrl-C or by a program.
async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
