//! What webhooks cost: a sender that catches up on 20,000 events, and delivery of live runs, with the real handlers and the real
//! SDK, against canned services and a receiver that count what AWS bills. Services and functions are processes of their own.

#![expect(
    clippy::print_stdout,
    reason = "what is measured is printed, and children report to their parent where they are"
)]

use std::env;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::cloud::{self, Cloud, DOCUMENT, END_LEASE, HOOK, TOTALS};
use bench::corpus::Corpus;
use bench::event_log::EventLog;
use bench::loads::{live as live_webhook, temporary};
use bench::measure::{Failure, ROLE, again, beside, cpu_seconds, number, peak_mib, ran, said};
use bench::stored::Stored;
use domain::integration::{Integration, IntegrationRef};
use domain::tasks::{ReplayTask, Run, RunEvent, message};
use domain::time::Millis;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::services::Services;
use ulid::Ulid;

/// About 20,000 events of 2.5 KB.
const BYTES: usize = 50_000_000;
/// How many events a segment has.
const SEGMENT: usize = 50;
/// As many as make 1 MiB: what a publisher makes who sends 500 events a request.
const LARGE_SEGMENT: usize = 400;
/// How often a sender is killed in the middle of catching up.
const KILLS: usize = 50;
/// The time limit of replay and of delivery, as in the cloud.
const REPLAY: Duration = Duration::from_secs(90);
const DELIVERY: Duration = Duration::from_secs(40);

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match env::var(ROLE).as_deref() {
        Ok("services") => runtime.block_on(services()),
        Ok("catch-up") => runtime.block_on(catch_up()),
        Ok("live") => runtime.block_on(live()),
        _ => all(),
    }
}

/// Measures each combination, each in processes of its own.
fn all() -> Result<(), Failure> {
    println!(
        "| | receiver | events | events/s | most at once | CPU s per 1,000 | WCU per event | RCU of the log | other RCU | SQS requests per event | repeated | peak MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (role, took, segment) in [
        ("catch-up", 20, SEGMENT),
        ("catch-up", 20, LARGE_SEGMENT),
        ("catch-up", 200, SEGMENT),
        ("catch-up", 1, SEGMENT),
        ("live", 1, SEGMENT),
    ] {
        let mut services = again("services")?
            .env("BENCH_TOOK", took.to_string())
            .env("BENCH_LIVE", if role == "live" { "1" } else { "0" })
            .env("BENCH_SEGMENT", segment.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let port = said(&mut services)?["port"].clone();
        let endpoint = format!("http://127.0.0.1:{port}");
        let measured = beside(services, || {
            ran(again(role)?.env("AWS_ENDPOINT_URL", &endpoint))
        })?;
        let of = |name: &str| measured[name].as_f64().unwrap_or_default();
        let total = |name: &str| measured["totals"][name].as_f64().unwrap_or_default();
        let events = total("events");
        println!(
            "| {role}, {segment} events a segment | {took} ms | {events} | {:.0} | {} | {:.3} | {:.4} | {:.4} | {:.4} | {:.4} | {} | {:.0} |",
            events / of("wall"),
            total("most"),
            of("cpu") * 1_000.0 / events,
            total("write_units") / events,
            total("log_read_units") / events,
            total("other_read_units") / events,
            total("sqs_requests") / events,
            total("repeated"),
            of("peak"),
        );
    }
    kills()
}

/// Kills senders in the middle of catching up, and counts what their successors send again.
fn kills() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut repeated = Vec::new();
    let (mut rounds, mut most) = (0, 0);
    while repeated.len() < KILLS {
        let mut services = again("services")?
            .env("BENCH_TOOK", "20")
            .env("BENCH_LIVE", "0")
            .env("BENCH_SEGMENT", SEGMENT.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let endpoint = format!("http://127.0.0.1:{}", said(&mut services)?["port"]);
        let ended = beside(services, || {
            runtime.block_on(round(&endpoint, &mut repeated))
        });
        most = ended?.max(most);
        rounds += 1;
    }
    let (kills, all) = (repeated.len(), repeated.iter().sum::<u64>());
    println!(
        "\n{kills} kills in {rounds} rounds: {:.0} events repeated by a kill, at most {}; most requests at once {most}",
        all as f64 / kills as f64,
        repeated.iter().max().unwrap_or(&0)
    );
    Ok(())
}

/// Catches up with senders that are killed, until all has been sent. Adds what each kill repeated; the most requests at once.
async fn round(endpoint: &str, repeated: &mut Vec<u64>) -> Result<u64, Failure> {
    let number = |totals: &Value, name: &str| totals[name].as_u64().unwrap_or_default();
    let mut before = None;
    loop {
        let mut sender = again("catch-up")?
            .env("AWS_ENDPOINT_URL", endpoint)
            .stdout(Stdio::null())
            .spawn()?;
        let lives = Duration::from_millis(rand::random_range(1_000..6_000));
        let begun = Instant::now();
        let mut ended = None;
        while ended.is_none() && begun.elapsed() < lives {
            tokio::time::sleep(Duration::from_millis(5)).await;
            ended = sender.try_wait()?;
        }
        if ended.is_none() {
            sender.kill()?;
            sender.wait()?;
        }
        // What the killed one before has sent was repeated by this one, if by any.
        let totals = get(endpoint, TOTALS).await?;
        let now = number(&totals, "repeated");
        repeated.extend(before.map(|before| now - before));
        before = Some(now);
        if ended.is_some() {
            return Ok(number(&totals, "most"));
        }
        reqwest::get(format!("{endpoint}{END_LEASE}")).await?;
    }
}

async fn services() -> Result<(), Failure> {
    let now = Clock::system().now();
    let (from, until) = (Millis(now.0 - 44 * 60_000), Millis(now.0 - 2 * 60_000));
    let corpus = Corpus::new(BYTES, number("BENCH_SEGMENT")? as usize, from, until);
    let took = Duration::from_millis(number("BENCH_TOOK")?);
    let listener = cloud::bind().await?;
    let address = listener.local_addr()?;
    let (id, url) = ("erp-1".to_owned(), format!("http://{address}{HOOK}"));
    let integration = match number("BENCH_LIVE")? {
        1 => live_webhook(id, url),
        _ => temporary(id, url, Millis(now.0 - 45 * 60_000), Millis(now.0 - 60_000)),
    };
    let cloud = Cloud::new(
        &Arc::new(EventLog::new(&corpus)),
        Stored::new(&[integration]),
        took,
    );
    println!("{}", json!({"port": address.port()}));
    Ok(cloud.serve(listener, None).await?)
}

async fn get(endpoint: &str, path: &str) -> Result<Value, Failure> {
    let text = reqwest::get(format!("{endpoint}{path}"))
        .await?
        .text()
        .await?;
    Ok(serde_json::from_str(&text)?)
}

/// The integration as it is stored.
async fn stored() -> Result<Integration, Failure> {
    let document = get(&env::var("AWS_ENDPOINT_URL")?, DOCUMENT).await?;
    Ok(serde_json::from_value(document)?)
}

/// Steps of replay, one after another, until the range has been sent.
async fn catch_up() -> Result<(), Failure> {
    let app = replay::App::new(&Services::from_env());
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    loop {
        let integration = stored().await?;
        let Some(stream) = integration.stream().filter(|_| integration.is_running()) else {
            break;
        };
        let task = ReplayTask::Step {
            integration_ref: IntegrationRef::from(&integration),
            turn: stream.schedule.turn,
        };
        let body = message(&task, Duration::ZERO)?.body;
        let batch = json!({"Records": [{"messageId": "1", "body": body}]});
        let batch = replay::Invocation::Batch(serde_json::from_value(batch)?);
        let answer = replay::handle(&app, batch, REPLAY).await?;
        assert!(answer.batch_item_failures.is_empty());
    }
    report(began, cpu).await
}

/// Batches of ten runs of fifty events each.
async fn live() -> Result<(), Failure> {
    let app = delivery::App::new(&Services::from_env());
    let integration = stored().await?;
    let integration_ref = IntegrationRef::from(&integration);
    let payload = "x".repeat(900);
    let event = |index: u32| {
        RunEvent {
        index: index % 50,
        id: format!("event-{index}"),
        name: "order.created".to_owned(),
        body: RawValue::from_string(format!(
            "{{\"tenant\":\"acme\",\"name\":\"order.created\",\"payload\":{{\"text\":\"{payload}\"}}}}"
        ))
        .unwrap_or_default(),
    }
    };
    let segment = |n: u32| Ulid::from_parts(integration.starts_at.0 + 60_000 + u64::from(n), 1);
    let mut batches = Vec::new();
    for batch in 0..40 {
        let mut records = Vec::new();
        for run in 0..10 {
            let first = (batch * 10 + run) * 50;
            let runs = Run::of(
                &integration_ref,
                segment(first),
                0,
                (first..first + 50).map(event),
            );
            for run in runs {
                records.push(json!({"messageId": first.to_string(), "body": run.message()?.body}));
            }
        }
        batches.push(serde_json::from_value(json!({"Records": records}))?);
    }
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    for batch in batches {
        delivery::handle(&app, delivery::Invocation::Batch(batch), DELIVERY).await?;
    }
    report(began, cpu).await
}

async fn report(began: Instant, cpu: f64) -> Result<(), Failure> {
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let peak = peak_mib()?;
    let totals = get(&env::var("AWS_ENDPOINT_URL")?, TOTALS).await?;
    println!(
        "{}",
        json!({"wall": wall, "cpu": cpu, "peak": peak, "totals": totals})
    );
    Ok(())
}
