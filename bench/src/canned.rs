//! DynamoDB, KMS and S3 as far as an export asks them, with canned responses: what a run costs is measured, not what they do.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crc_fast::{CrcAlgorithm, Digest, checksum};
use domain::time::Millis;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::aws_json;
use crate::corpus::{Corpus, TENANT};
use crate::event_log::EventLog;

/// The id of the one integration.
pub const INTEGRATION: &str = "sap-1";
/// Where the totals of what was uploaded are read.
pub const TOTALS: &str = "/_totals";

struct Services {
    event_log: EventLog,
    document: Mutex<(String, String)>,
    uploads: Mutex<Uploads>,
}

struct Uploads {
    files: usize,
    bytes: usize,
    largest: usize,
    all: Digest,
}

/// Serves a corpus at a free port of 127.0.0.1 until the process ends; with `tls` a certificate and its key, DER both.
///
/// # Errors
/// When there is no port left, or the certificate is of no use.
pub async fn serve(
    corpus: &Corpus,
    document: String,
    tls: Option<(Vec<u8>, Vec<u8>)>,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let services = Arc::new(Services {
        event_log: EventLog::new(corpus),
        document: Mutex::new((document, "1".to_owned())),
        uploads: Mutex::new(Uploads {
            files: 0,
            bytes: 0,
            largest: 0,
            all: Digest::new(CrcAlgorithm::Crc64Nvme),
        }),
    });
    let app = Router::new().fallback(answer).with_state(services);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    ready(listener.local_addr()?);
    match tls {
        None => axum::serve(listener, app).await,
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key).map_err(io::Error::other)?;
            let config = ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![CertificateDer::from(certificate)], key)
                .map_err(io::Error::other)?;
            let acceptor = TlsAcceptor::from(Arc::new(config));
            axum::serve(Encrypted { listener, acceptor }, app).await
        }
    }
}

struct Encrypted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                continue;
            };
            let _ = stream.set_nodelay(true);
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn answer(State(services): State<Arc<Services>>, request: Request) -> Response {
    let (head, body) = aws_json::read(request).await;
    let operation = aws_json::operation(&head);
    let request: Value = match operation {
        Some(_) => serde_json::from_slice(&body).unwrap_or_default(),
        None => Value::Null,
    };
    let json = match operation {
        Some("GetItem") => services.get(),
        Some("PutItem") => services.put(&request["Item"]),
        // The integration, with an entry of its log or a file.
        Some("TransactWriteItems") => services.put(&request["TransactItems"][0]["Put"]["Item"]),
        Some("Query") => services.event_log.query(&request).json,
        Some("Decrypt") => {
            json!({"KeyId": "k", "Plaintext": BASE64_STANDARD.encode("secret")}).to_string()
        }
        Some(_) => "{}".to_owned(),
        None if head.uri.path() == TOTALS => services.totals(),
        None => services.upload(&body, head.headers.get("x-amz-checksum-crc32")),
    };
    aws_json::response(json)
}

impl Services {
    fn get(&self) -> String {
        let (document, version) = &*lock(&self.document);
        json!({"Item": {"document": {"S": document}, "version": {"N": version}}}).to_string()
    }

    fn put(&self, item: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // An entry of a log has no document.
        if item["document"].is_object() {
            *lock(&self.document) = (text(&item["document"]["S"]), text(&item["version"]["N"]));
        }
        "{}".to_owned()
    }

    fn upload(&self, body: &Bytes, crc32: Option<&axum::http::HeaderValue>) -> String {
        let actual = checksum(CrcAlgorithm::Crc32IsoHdlc, body) as u32;
        let actual = BASE64_STANDARD.encode(actual.to_be_bytes());
        assert_eq!(
            crc32.and_then(|crc32| crc32.to_str().ok()),
            Some(actual.as_str())
        );
        let mut uploads = lock(&self.uploads);
        uploads.files += 1;
        uploads.bytes += body.len();
        uploads.largest = uploads.largest.max(body.len());
        uploads.all.update(body);
        String::new()
    }

    fn totals(&self) -> String {
        let uploads = lock(&self.uploads);
        json!({
            "files": uploads.files, "bytes": uploads.bytes, "largest": uploads.largest,
            "crc64": format!("{:016x}", uploads.all.finalize()),
        })
        .to_string()
    }
}

/// The document of an integration whose export begins at `from`.
pub fn document(from: Millis) -> String {
    json!({
        "tenant": TENANT, "id": INTEGRATION, "generation": from.first_id().to_string(), "version": 1,
        "integration_type": "permanent", "starts_at": from, "ends_at": null, "filter": null,
        "status": "running", "stopped_at": null,
        "target": {"s3": {
            "bucket": {
                "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_region": "eu-central-1", "bucket": "exports",
                "key_prefix": "erp", "aws_secret_access_key": {"cipher": BASE64_STANDARD.encode("cipher"), "mask": "****"},
            },
            "export": domain::export::Export::registered(from),
        }},
    })
    .to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
