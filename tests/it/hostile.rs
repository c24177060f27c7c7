//! Receivers that mean harm: whatever one does, an attempt ends in time, has failed, and leaves memory as it was.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use domain::receiver::credentials::NONE;
use domain::receiver::outcome::Outcome;
use domain::time::Millis;
use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use receivers::EXCHANGE_TIMEOUT;
use receivers::{Post, Receivers};
use serde_json::json;
use tests::hostile::{Behaviour, Hostile};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::world::World;

/// What an attempt may take besides the time limit of the exchange, on a machine that is busy with other tests.
const SLACK: Duration = Duration::from_secs(5);
/// What an attempt may add to a process: the code that it touches for the first time, and buffers. A body or a header that
/// was read whole would be far above it.
const MAX_GROWTH_KIB: u64 = 8 * 1024;

/// What came of an attempt in a process of its own.
#[derive(Debug)]
struct Attempt {
    time: Duration,
    growth_kib: u64,
    outcome: String,
}

impl Attempt {
    fn has_failed(&self) -> bool {
        self.outcome.contains("Failed(")
    }
}

async fn attempt(url: String, environment: Vec<(&'static str, String)>) -> Attempt {
    let run = tokio::task::spawn_blocking(move || {
        Command::new(env!("CARGO_BIN_EXE_attempt"))
            .arg(url)
            .envs(environment)
            .output()
            .unwrap()
    });
    let output = run.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default();
    Attempt {
        time: Duration::from_millis(next().parse().unwrap()),
        growth_kib: next().parse().unwrap(),
        outcome: next().to_owned(),
    }
}

#[tokio::test]
async fn whatever_a_receiver_does_an_attempt_ends_in_time_has_failed_and_leaves_memory_flat() {
    use Behaviour::{
        Close, CloseInHead, Endless, Flood, Garbage, Informs, Injection, LongHeader, ManyHeaders,
        Silent, Trickle, TrickleBody, TwoLengths,
    };
    let behaviours = [
        Silent,
        Trickle,
        TrickleBody(500),
        Flood(500),
        Endless(500),
        ManyHeaders,
        LongHeader,
        Garbage,
        Injection,
        TwoLengths,
        Close,
        CloseInHead,
        Informs,
    ];
    let attempts = behaviours.map(|behaviour| async move {
        let receiver = Hostile::start(behaviour.clone(), None).await;
        let attempt = attempt(receiver.url("http", "127.0.0.1"), Vec::new()).await;
        (behaviour, attempt, receiver.connections())
    });
    for (behaviour, attempt, connections) in join_all(attempts).await {
        assert!(connections > 0, "{behaviour:?}");
        assert!(attempt.has_failed(), "{behaviour:?}: {attempt:?}");
        let limit = EXCHANGE_TIMEOUT + SLACK;
        assert!(attempt.time < limit, "{behaviour:?}: {attempt:?}");
        let is_flat = attempt.growth_kib < MAX_GROWTH_KIB;
        assert!(is_flat, "{behaviour:?}: {attempt:?}");
    }
}

#[tokio::test]
async fn the_status_decides_however_the_body_goes_on() {
    let behaviours = [
        Behaviour::Flood(204),
        Behaviour::Endless(200),
        Behaviour::Unended(202),
        Behaviour::Proper,
    ];
    let attempts = behaviours.map(|behaviour| async move {
        let receiver = Hostile::start(behaviour, None).await;
        attempt(receiver.url("http", "127.0.0.1"), Vec::new()).await
    });
    for attempt in join_all(attempts).await {
        assert!(attempt.outcome.contains("Delivered"), "{attempt:?}");
        assert!(attempt.time < SLACK && attempt.growth_kib < MAX_GROWTH_KIB);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inside = Hostile::start(Behaviour::Proper, None).await;
    let metadata = "http://169.254.169.254/latest/meta-data/".to_owned();
    for target in [inside.url("http", "127.0.0.1"), metadata] {
        let receiver = Hostile::start(Behaviour::Redirect(target), None).await;
        let attempt = attempt(receiver.url("http", "127.0.0.1"), Vec::new()).await;
        assert!(
            attempt.has_failed() && attempt.outcome.contains("302"),
            "{attempt:?}"
        );
        assert_eq!(receiver.connections(), 1);
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_asked() {
    let proxy = Hostile::start(Behaviour::Proper, None).await;
    let receiver = Hostile::start(Behaviour::Proper, None).await;
    let names = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ];
    let environment = names.map(|name| (name, proxy.url("http", "127.0.0.1")));
    let attempt = attempt(receiver.url("http", "127.0.0.1"), environment.to_vec()).await;
    assert!(attempt.outcome.contains("Delivered"), "{attempt:?}");
    assert_eq!((proxy.connections(), receiver.connections()), (0, 1));
}

/// An authority that the attempt trusts, as a file, and the TLS configurations of servers that it certifies.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        let file = std::env::temp_dir().join(format!("authority-{}.pem", uuid::Uuid::new_v4()));
        std::fs::write(&file, certificate.pem()).unwrap();
        Authority {
            issuer: Issuer::new(parameters, key),
            file,
        }
    }

    fn certify(&self, name: &str, until: i32) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(until, 1, 1);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        configuration(certificate.der().clone(), &key)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn configuration(certificate: CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

/// What an attempt says of a certificate that no authority vouches for.
const UNKNOWN: &str = "the certificate is not signed by an authority that is known";

#[tokio::test]
async fn only_a_certificate_that_is_valid_for_the_name_is_accepted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        configuration(certificate.der().clone(), &key)
    };
    let cases = [
        ("Delivered", Some(authority.certify("localhost", 2099))),
        (
            "the certificate has expired",
            Some(authority.certify("localhost", 2021)),
        ),
        (
            "the certificate is for another name",
            Some(authority.certify("other.example", 2099)),
        ),
        (UNKNOWN, Some(stranger.certify("localhost", 2099))),
        (UNKNOWN, Some(self_signed)),
        ("the response is not TLS", None),
    ];
    let attempts = cases.map(|(name, tls)| {
        let trusted = authority.file.to_str().unwrap().to_owned();
        async move {
            let receiver = Hostile::start(Behaviour::Proper, tls).await;
            let environment = vec![("SSL_CERT_FILE", trusted)];
            let attempt = attempt(receiver.url("https", "localhost"), environment).await;
            (name, attempt, receiver.connections())
        }
    });
    for (name, attempt, connections) in join_all(attempts).await {
        assert!(connections > 0, "{name}");
        assert!(attempt.outcome.contains(name), "{name}: {attempt:?}");
        if name != "Delivered" {
            assert!(attempt.has_failed(), "{name}: {attempt:?}");
            assert!(attempt.time < SLACK, "{name}: {attempt:?}");
        }
    }
    let old = Hostile::start(Behaviour::OldTls, None).await;
    let attempt = attempt(old.url("https", "localhost"), Vec::new()).await;
    assert!(attempt.has_failed() && attempt.time < SLACK, "{attempt:?}");
}

#[tokio::test]
async fn a_hostile_receiver_costs_failed_attempts_and_holds_up_no_other() {
    let world = World::start().await;
    let behaviours = [
        ("silent", Behaviour::Silent),
        ("flood", Behaviour::Flood(503)),
        ("headers", Behaviour::ManyHeaders),
        ("garbage", Behaviour::Garbage),
        ("close", Behaviour::CloseInHead),
        (
            "redirect",
            Behaviour::Redirect("http://169.254.169.254/".to_owned()),
        ),
    ];
    let mut receivers = Vec::new();
    for (id, behaviour) in behaviours.clone() {
        let receiver = Hostile::start(behaviour, None).await;
        let callback = json!({"callback_url": receiver.url("http", "127.0.0.1")});
        let body =
            json!({"id": id, "integration_type": "permanent", "callback_parameters": callback});
        assert_eq!(world.call("POST", "/", body).await.status, 200);
        receivers.push(receiver);
    }
    let good = tests::receiver::Receiver::start().await;
    world.register_webhook("good", &good.url()).await;
    let ids = world
        .publish(&[json!({"name": "order.created", "payload": {}})])
        .await;
    world.drain().await;
    assert_eq!(good.events().len(), 1);
    assert_eq!(good.events()[0].0, ids[0]);
    for ((id, behaviour), receiver) in behaviours.iter().zip(&receivers) {
        assert!(receiver.connections() > 0, "{behaviour:?}");
        let entry = world.entry(id, "retry_triggered").await;
        let reason = entry["reason"].as_str().unwrap();
        assert!(!reason.contains(['\r', '\n']), "{reason}");
    }
}

#[tokio::test]
async fn a_test_says_when_a_certificate_ends_whether_or_not_it_is_accepted() {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2020, 2, 1);
    let certificate = parameters.self_signed(&key).unwrap();
    let tls = configuration(certificate.der().clone(), &key);
    let receiver = Hostile::start(Behaviour::Proper, Some(tls)).await;
    let post = Post {
        url: &receiver.url("https", "localhost"),
        credentials: &NONE,
        event_id: "e",
        body: "{}",
    };
    let tested = Receivers::new(true).test(&post, Millis(0)).await;
    assert!(matches!(tested.exchange.outcome, Outcome::Failed(_)));
    assert_eq!(tested.response, "");
    let seen = tested.tls.unwrap();
    let ended = Millis::parse("2020-02-01T00:00:00Z").unwrap();
    assert_eq!(
        (seen.version, seen.certificate_expires_at),
        ("TLS 1.3", Some(ended))
    );
}
