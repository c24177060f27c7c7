//! Connections to receivers: made to vetted addresses alone, and kept for the next request.
//!
//! HTTP/1.1 over hyper's own connections, since a pool for all purposes does not say whether a connection was a kept one: only then
//! does its end say nothing about the receiver.

use std::collections::HashMap;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::resolver::PublicResolver;
use crate::target::{Host, Origin};

/// How long an unused connection is kept: longer than Lambda freezes a busy function, shorter than most servers wait.
pub(crate) const KEPT_IDLE: Duration = Duration::from_secs(50);
/// How often connections are looked for that have been unused for longer.
const SWEPT_EVERY: Duration = Duration::from_secs(10);
/// How long an address has to itself before the next one is tried as well (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// One connection: a request at a time.
pub(crate) type Connection = SendRequest<Full<Bytes>>;

/// Makes connections, and keeps them.
pub(crate) struct Connections {
    resolver: PublicResolver,
    kept: Mutex<Kept>,
    /// Made for the first receiver with TLS: reading the root certificates takes some milliseconds.
    tls: OnceLock<TlsConnector>,
}

struct Kept {
    by_origin: HashMap<Origin, Vec<(Connection, Instant)>>,
    swept_at: Instant,
}

impl Connections {
    /// None yet.
    pub(crate) fn new(resolver: PublicResolver) -> Connections {
        let kept = Kept {
            by_origin: HashMap::new(),
            swept_at: Instant::now(),
        };
        Connections {
            resolver,
            kept: Mutex::new(kept),
            tls: OnceLock::new(),
        }
    }

    /// The connection that was used last, if one has been kept that is not known to be closed.
    pub(crate) fn kept(&self, origin: &Origin) -> Option<Connection> {
        let mut kept = self.lock();
        let connections = kept.by_origin.get_mut(origin)?;
        while let Some((connection, since)) = connections.pop() {
            if since.elapsed() < KEPT_IDLE && !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose response has been read to its end.
    pub(crate) fn keep(&self, origin: &Origin, connection: Connection) {
        if connection.is_closed() {
            return;
        }
        let now = Instant::now();
        let mut kept = self.lock();
        if now - kept.swept_at >= SWEPT_EVERY {
            kept.swept_at = now;
            kept.by_origin.retain(|_, connections| {
                let is_young = |(connection, since): &(Connection, Instant)| {
                    now - *since < KEPT_IDLE && !connection.is_closed()
                };
                connections.retain(is_young);
                !connections.is_empty()
            });
        }
        match kept.by_origin.get_mut(origin) {
            Some(connections) => connections.push((connection, now)),
            None => {
                kept.by_origin
                    .insert(origin.clone(), vec![(connection, now)]);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a connection.
    ///
    /// # Errors
    /// Why there is none: of the resolver, of the network, of TLS.
    ///
    /// # Panics
    /// When TLS is asked for and the platform has no root certificates: nothing could be delivered.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
    ) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        let tcp = self.reach(origin).await?;
        tcp.set_nodelay(true)?;
        if !origin.is_encrypted {
            return Ok(begin(tcp).await?);
        }
        let tls = self.tls.get_or_init(connector);
        let name = origin
            .host
            .server_name()
            .ok_or("no certificate is for such a name")?;
        Ok(begin(tls.connect(name, tcp).await?).await?)
    }

    /// Reaches the first address of a host that answers; each has been vetted.
    ///
    /// # Errors
    /// Those of the resolver, and of the address that failed last.
    pub(crate) async fn reach(
        &self,
        origin: &Origin,
    ) -> Result<TcpStream, Box<dyn Error + Send + Sync>> {
        let addresses: Vec<IpAddr> = match &origin.host {
            Host::Name(name) => self.resolver.addresses(name.clone()).await?,
            Host::Address(address) => vec![*address],
        };
        let port = origin.port;
        let addresses = addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, port));
        Ok(first(addresses).await?)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connections")
    }
}

/// A connection to the first of some addresses that answers: the next one is tried when one fails, or takes its time.
async fn first(mut addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut under_way = FuturesUnordered::new();
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let ended = match addresses.next() {
            Some(address) => {
                under_way.push(TcpStream::connect(address));
                match tokio::time::timeout(NEXT_ADDRESS, under_way.next()).await {
                    Ok(ended) => ended,
                    Err(_) => continue,
                }
            }
            None => under_way.next().await,
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failed = error,
            None => return Err(failed),
        }
    }
}

/// Begins to speak HTTP over a stream.
async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<Connection> {
    let (connection, driver) = Builder::new()
        // What old servers send, and every other client takes (RFC 9112, sections 5.1 and 5.2).
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await?;
    // Ends with the connection; what goes wrong is said to the request that waits for it.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    Ok(connection)
}

/// TLS 1.2 or 1.3 by the platform's root certificates, with sessions that are resumed.
fn connector() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    assert!(!roots.is_empty(), "the platform has root certificates");
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}
