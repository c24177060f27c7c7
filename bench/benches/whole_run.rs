//! A whole run: the real handler with the real SDK, against canned answers of DynamoDB, KMS and S3 on this machine. Services
//! and run are processes of their own, so that processor time and memory are the run's alone.

#![expect(
    clippy::print_stdout,
    reason = "what is measured is printed, and children report to their parent where they are"
)]

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, fs};

use bench::canned::{self, INTEGRATION, TOTALS};
use bench::corpus::{Corpus, TENANT};
use bench::measure::{Failure, ROLE, again, beside, cpu_seconds, number, peak_mib, ran, said};
use crc_fast::{CrcAlgorithm, Digest};
use domain::log::segment::Unpacker;
use domain::time::Millis;
use serde_json::{Value, json};
use shared::clock::Clock;

const MIB: f64 = 1024.0 * 1024.0;
/// Eight files of 50 MiB.
const BYTES: usize = 395 * 1024 * 1024;

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match env::var(ROLE).as_deref() {
        Ok("services") => runtime.block_on(services()),
        Ok("run") => runtime.block_on(run()),
        _ => all(),
    }
}

/// Measures every combination, each in processes of its own.
fn all() -> Result<(), Failure> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("whole-run");
    fs::create_dir_all(&folder)?;
    println!(
        "| services over | events a segment | zstd ratio | files | MiB | CPU s | MiB per CPU s | wall s | peak RSS MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (scheme, events_per_segment) in [("https", 200), ("https", 10), ("http", 200)] {
        let certificate = folder.join("certificate.pem");
        let now = Clock::system().now();
        let from = Millis(now.0 - 45 * 60_000);
        let mut services = command("services")?
            .env("BENCH_EVENTS", events_per_segment.to_string())
            .env("BENCH_FROM", from.0.to_string())
            .env("BENCH_TLS", if scheme == "https" { "1" } else { "0" })
            .env("SSL_CERT_FILE", &certificate)
            .stdout(Stdio::piped())
            .spawn()?;
        let reported = said(&mut services)?;
        let port = &reported["port"];
        let endpoint = format!("{scheme}://127.0.0.1:{port}");
        let measured = beside(services, || {
            let mut runner = command("run")?;
            runner.env("AWS_ENDPOINT_URL", &endpoint);
            ran(runner.env("SSL_CERT_FILE", &certificate))
        })?;
        assert_eq!(
            measured["totals"]["crc64"], reported["crc64"],
            "the files are the corpus"
        );
        let mib = reported["bytes"].as_f64().unwrap_or_default() / MIB;
        let number = |name: &str| measured[name].as_f64().unwrap_or_default();
        println!(
            "| {scheme} | {events_per_segment} | {:.1} | {} | {mib:.0} | {:.2} | {:.0} | {:.2} | {:.0} |",
            reported["ratio"].as_f64().unwrap_or_default(),
            measured["totals"]["files"],
            number("cpu"),
            mib / number("cpu"),
            number("wall"),
            number("peak"),
        );
    }
    Ok(())
}

/// This program once more, in another role, with what export reads.
fn command(role: &str) -> Result<Command, Failure> {
    let mut command = again(role)?;
    command
        .env("EXPORT_QUEUE_URL", "http://127.0.0.1:9/q")
        .env("EXPORT_DEAD_LETTER_QUEUE_URL", "http://127.0.0.1:9/d")
        .env("TIME_LIMIT_SECONDS", "300");
    Ok(command)
}

async fn services() -> Result<(), Failure> {
    let from = Millis(number("BENCH_FROM")?);
    let until = Millis(from.0 + 30 * 60_000);
    let corpus = Corpus::new(BYTES, number("BENCH_EVENTS")? as usize, from, until);
    let (mut digest, mut unpacker) = (Digest::new(CrcAlgorithm::Crc64Nvme), Unpacker::new()?);
    for segment in &corpus.segments {
        let mut lines = Vec::new();
        unpacker.append(segment, &mut lines)?;
        digest.update(&lines);
    }
    let tls = match number("BENCH_TLS")? {
        0 => None,
        _ => {
            let signed = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
            fs::write(env::var("SSL_CERT_FILE")?, signed.cert.pem())?;
            let certificate = signed.cert.der().to_vec();
            Some((certificate, signed.signing_key.serialize_der()))
        }
    };
    let reported = |port: u16| {
        json!({
            "port": port, "bytes": corpus.bytes, "ratio": corpus.ratio(),
            "crc64": format!("{:016x}", digest.finalize()),
        })
    };
    canned::serve(&corpus, canned::document(from), tls, |address| {
        println!("{}", reported(address.port()));
    })
    .await?;
    Ok(())
}

/// The run that is measured: what the function's `main` does, with one batch.
async fn run() -> Result<(), Failure> {
    let app = export::App::new(&shared::services::Services::from_env());
    let task = json!({"tenant": TENANT, "integration_id": INTEGRATION, "sent_at": app.clock.now()});
    let batch = json!({"Records": [{"messageId": "1", "body": task.to_string()}]});
    let batch = export::Invocation::Batch(serde_json::from_value(batch)?);
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let answer = export::handle(&app, batch).await?;
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let is_whole = matches!(&answer, export::Answer::Batch(batch) if batch.batch_item_failures.is_empty());
    assert!(is_whole, "{answer:?}");
    let peak = peak_mib()?;
    let mut client = reqwest::Client::builder();
    if let Ok(pem) = fs::read(env::var("SSL_CERT_FILE")?) {
        client = client.add_root_certificate(reqwest::Certificate::from_pem(&pem)?);
    }
    let url = format!("{}{TOTALS}", env::var("AWS_ENDPOINT_URL")?);
    let totals = client.build()?.get(url).send().await?.text().await?;
    let totals: Value = serde_json::from_str(&totals)?;
    println!(
        "{}",
        json!({"wall": wall, "cpu": cpu, "peak": peak, "totals": totals})
    );
    Ok(())
}
