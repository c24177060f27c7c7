//! What reads ranges of the event log: export, and replay that catches up. As fast as they can, until all is done.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bench::cloud::Certificate;
use bench::corpus::{Corpus, TENANT};
use bench::event_log::EventLog;
use bench::function::{Function, folder};
use bench::loads;
use bench::measure::{Failure, cpu_of};
use bench::stored::Stored;
use crc_fast::{CrcAlgorithm, Digest};
use domain::log::segment::Unpacker;
use domain::time::Millis;
use serde_json::json;
use shared::clock::Clock;

use crate::table::Sample;
use bench::run::{Plan, World, floor};

/// Eight files of 50 MiB.
const EXPORTED_BYTES: usize = 395 * 1024 * 1024;
/// The size of a step's answer.
const DONE_BYTES: usize = 24;
const FILE_BYTES: usize = 50 * 1024 * 1024;
/// About 20,000 events.
const REPLAYED_BYTES: usize = 50_000_000;

/// Event logs that every round reads.
pub struct Corpora {
    from: Millis,
    exported: Vec<Logged>,
    replayed: Logged,
}

/// A corpus as it is stored.
struct Logged {
    events_per_segment: usize,
    event_log: Arc<EventLog>,
    events: usize,
    bytes: usize,
    crc64: u64,
    /// What decompressing it takes.
    floor: Duration,
}

impl Corpora {
    /// Events of half an hour, which ended a quarter of an hour ago.
    pub fn new() -> Result<Corpora, Failure> {
        let from = Millis(Clock::system().now().0 - 45 * 60_000);
        Ok(Corpora {
            exported: vec![
                Logged::new(EXPORTED_BYTES, 200, from)?,
                Logged::new(EXPORTED_BYTES, 10, from)?,
            ],
            replayed: Logged::new(REPLAYED_BYTES, 50, from)?,
            from,
        })
    }
}

impl Logged {
    fn new(bytes: usize, events_per_segment: usize, from: Millis) -> Result<Logged, Failure> {
        let until = from.after(Duration::from_secs(30 * 60));
        let corpus = Corpus::new(bytes, events_per_segment, from, until);
        let (mut digest, mut unpacker) = (Digest::new(CrcAlgorithm::Crc64Nvme), Unpacker::new()?);
        let mut lines = Vec::new();
        for segment in &corpus.segments {
            lines.clear();
            unpacker.append(segment, &mut lines)?;
            digest.update(&lines);
        }
        let cpu = cpu_of("self")?;
        for segment in &corpus.segments {
            if lines.len() > FILE_BYTES {
                lines.clear();
            }
            unpacker.append(segment, &mut lines)?;
        }
        let floor = cpu_of("self")? - cpu;
        Ok(Logged {
            events_per_segment,
            event_log: Arc::new(EventLog::new(&corpus)),
            events: corpus.events,
            bytes: corpus.bytes,
            crc64: digest.finalize(),
            floor,
        })
    }
}

/// Exports each corpus over TLS, and catches up on one.
pub async fn measure(
    binaries: &Path,
    corpora: &Corpora,
    with_floor: bool,
    note: &mut impl FnMut(Sample),
) -> Result<(), Failure> {
    for logged in &corpora.exported {
        note(exported(binaries, corpora.from, logged).await?);
    }
    note(replayed(binaries, corpora.from, &corpora.replayed, with_floor).await?);
    Ok(())
}

async fn exported(binaries: &Path, from: Millis, logged: &Logged) -> Result<Sample, Failure> {
    let (certificate, roots) = certificate()?;
    let world = World::new(&logged.event_log, Some(certificate), |_| {
        Stored::new(&[loads::exported("sap-1".to_owned(), from)])
    })
    .await?;
    let limit = Duration::from_secs(300);
    let more = [
        ("SSL_CERT_FILE", roots),
        ("TIME_LIMIT_SECONDS", "300".to_owned()),
    ];
    let function = Function::start(&binaries.join("export"), &world.encrypted, &more).await?;
    let now = Clock::system().now();
    let task = json!({"tenant": TENANT, "integration_id": "sap-1", "sent_at": now}).to_string();
    let cpu = function.cpu()?;
    function.invoke(loads::batch(&[task]), limit).await?;
    let cpu = function.cpu()? - cpu;
    let stored = world.cloud.stored();
    assert_eq!(
        stored.uploads.crc64(),
        logged.crc64,
        "the files are the corpus"
    );
    assert_eq!(stored.uploads.bytes, logged.bytes);
    Ok(Sample {
        function: "export",
        load: match logged.events_per_segment {
            200 => "200 events a segment",
            _ => "10 events a segment",
        },
        events: logged.events,
        bytes: Some(logged.bytes),
        cpu,
        floor: Some(logged.floor),
        peak: function.peak()?,
    })
}

async fn replayed(
    binaries: &Path,
    from: Millis,
    logged: &Logged,
    with_floor: bool,
) -> Result<Sample, Failure> {
    let until = from.after(Duration::from_secs(44 * 60));
    let world = World::new(&logged.event_log, None, |url| {
        Stored::new(&[loads::temporary("erp-1".to_owned(), url, from, until)])
    })
    .await?;
    let limit = Duration::from_secs(90);
    let function = Function::start(&binaries.join("replay"), &world.endpoint, &[]).await?;
    let cpu = function.cpu()?;
    loop {
        let document = world.cloud.stored().document();
        let Some(step) = loads::next_step(&document)? else {
            break;
        };
        function.invoke(step, limit).await?;
    }
    let (cpu, peak) = (function.cpu()? - cpu, function.peak()?);
    drop(function);
    let plan: Plan = {
        let stored = world.cloud.stored();
        assert_eq!(
            stored.webhooks.len(),
            logged.events,
            "every event was delivered"
        );
        let exchanges = stored.exchanges.iter().map(|it| (it.request, it.response));
        vec![(DONE_BYTES, exchanges.collect())]
    };
    let floor = match with_floor {
        true => Some(
            floor(
                Path::new(env!("CARGO_BIN_EXE_floor")),
                &world,
                &plan,
                &[2, 2],
            )
            .await?,
        ),
        false => None,
    };
    Ok(Sample {
        function: "replay",
        load: "catching up, 50 events a segment",
        events: logged.events,
        bytes: None,
        cpu,
        floor,
        peak,
    })
}

/// A certificate of this machine, and a file with it beside the roots that a system has.
pub fn certificate() -> Result<(Certificate, String), Failure> {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let path = folder()?.join("roots.pem");
    let system = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
    ];
    let system = system.iter().find_map(|path| fs::read_to_string(path).ok());
    fs::write(&path, system.unwrap_or_default() + &signed.cert.pem())?;
    let key = signed.signing_key.serialize_der();
    Ok((
        (signed.cert.der().to_vec(), key),
        path.display().to_string(),
    ))
}
