//! DynamoDB, SQS, KMS, S3, EventBridge and a receiver, as far as functions ask them: responses have AWS's shapes and are canned, and
//! whatever is billed is counted. What a function costs is measured, not what they do.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::aws_json;
use crate::event_log::EventLog;
use crate::stored::{Exchange, Stored, lock};

/// Where the totals are read.
pub const TOTALS: &str = "/_totals";
/// Where the document of the first integration is read.
pub const DOCUMENT: &str = "/_document";
/// What ends the leases of steps that were killed.
pub const END_LEASE: &str = "/_end_lease";
/// Where webhooks go.
pub const HOOK: &str = "/hook";
/// What is answered with as many bytes as follow.
pub const BYTES: &str = "/_bytes/";

/// The services.
pub struct Cloud {
    event_log: Arc<EventLog>,
    took: Duration,
    stored: Mutex<Stored>,
}

/// A certificate and its key, DER both.
pub type Certificate = (Vec<u8>, Vec<u8>);

impl Cloud {
    /// Services with this event log, and a receiver that takes `took` for each webhook.
    pub fn new(event_log: &Arc<EventLog>, stored: Stored, took: Duration) -> Arc<Cloud> {
        Arc::new(Cloud {
            event_log: Arc::clone(event_log),
            took,
            stored: Mutex::new(stored),
        })
    }

    /// What is stored and counted.
    pub fn stored(&self) -> MutexGuard<'_, Stored> {
        lock(&self.stored)
    }

    /// Serves these until the process ends.
    ///
    /// # Errors
    /// When the certificate is of no use.
    pub async fn serve(
        self: Arc<Cloud>,
        listener: TcpListener,
        certificate: Option<Certificate>,
    ) -> io::Result<()> {
        let app = Router::new().fallback(answer).with_state(self);
        let Some((certificate, key)) = certificate else {
            return axum::serve(Plain(listener), app).await;
        };
        let key = PrivateKeyDer::try_from(key).map_err(io::Error::other)?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate)], key)
            .map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        axum::serve(Encrypted { listener, acceptor }, app).await
    }

    async fn webhook(&self, id: String) {
        {
            let mut stored = self.stored();
            *stored.webhooks.entry(id).or_default() += 1;
            stored.busy += 1;
            stored.most = stored.most.max(stored.busy);
        }
        if !self.took.is_zero() {
            tokio::time::sleep(self.took).await;
        }
        self.stored().busy -= 1;
    }

    fn operation(&self, operation: &str, request: &Value) -> String {
        let is_log = !request["ExpressionAttributeValues"][":partition"].is_null();
        if operation == "Query" && is_log {
            let page = self.event_log.query(request);
            // A unit for 4 KB: events are read consistently.
            self.stored().billed.log_read_units += page.read_bytes.div_ceil(4096).max(1);
            return page.json;
        }
        self.stored().answer(operation, request)
    }
}

/// A port of this machine.
///
/// # Errors
/// When there is none left.
pub async fn bind() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

/// Connections without Nagle's algorithm, as those of AWS.
struct Plain(TcpListener);

impl axum::serve::Listener for Plain {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, address)) = self.0.accept().await {
                let _ = stream.set_nodelay(true);
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
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

async fn answer(State(cloud): State<Arc<Cloud>>, request: Request) -> Response {
    let (head, body) = aws_json::read(request).await;
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let path = head.uri.path();
    let json = match aws_json::operation(&head) {
        Some(operation) => {
            let request: Value = serde_json::from_slice(&body).unwrap_or_default();
            cloud.operation(operation, &request)
        }
        None if path == TOTALS => cloud.stored().totals().to_string(),
        None if path == DOCUMENT => cloud.stored().document(),
        None if path == END_LEASE => {
            cloud.stored().end_lease();
            String::new()
        }
        None if path.starts_with(BYTES) => {
            "x".repeat(path[BYTES.len()..].parse().unwrap_or_default())
        }
        None if path.starts_with(HOOK) => {
            cloud
                .webhook(header("webhook-id").unwrap_or_default().to_owned())
                .await;
            String::new()
        }
        None => {
            let crc64 = header("x-amz-checksum-crc64nvme");
            let crc32 = header("x-amz-checksum-crc32");
            cloud.stored().uploads.take(&body, crc64, crc32);
            String::new()
        }
    };
    let exchange = Exchange {
        request: body.len(),
        response: json.len(),
    };
    cloud.stored().exchanges.push(exchange);
    aws_json::response(json)
}
