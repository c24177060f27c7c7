//! Connections to receivers: made to vetted addresses alone, and kept for the next request.
//!
//! HTTP/1.1 over hyper's own connections, since a pool for all purposes does not say whether a connection was a kept one: only then
//! does its end say nothing about the receiver.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::kept::{Kept, Moment};
use crate::resolver::PublicResolver;
use crate::sockets::{NoSocket, Socket, Sockets};
use crate::target::{Host, Origin, Target};
use crate::tls::{requesting, secure};

/// How long an exchange waits for a busy connection to return before it makes one of its own: a receiver that serves one connection at
/// a time gets a burst over that one, and for any other it is a fraction of what a connection costs.
const RETURN: Duration = Duration::from_millis(50);
/// How often connections are looked for that have been unused for too long.
const SWEPT_EVERY: Duration = Duration::from_millis(250);

/// One connection: a request at a time.
type Connection = SendRequest<Full<Bytes>>;

/// Makes connections, and keeps them.
pub(crate) struct Connections {
    resolver: PublicResolver,
    kept: Mutex<Kept<Connection>>,
    sockets: Sockets,
    /// Made for the first receiver with TLS: reading the root certificates takes some milliseconds.
    tls: OnceLock<TlsConnector>,
}

/// A connection that one exchange has to itself.
pub(crate) struct Used {
    connection: Connection,
    /// Whether its first response took so long that the receiver may have been busy with other connections: it makes room for them.
    pub is_late: bool,
    made: Moment,
    busy: Busy,
}

/// A connection that is being made or used, until this is dropped.
struct Busy {
    connections: Arc<Connections>,
    target: Arc<Target>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.connections.lock().end(&self.target.origin);
    }
}

/// A request that has waited for long on a connection of its own, until this is dropped.
pub(crate) struct Late<'a> {
    connections: &'a Connections,
    origin: &'a Origin,
}

impl Drop for Late<'_> {
    fn drop(&mut self) {
        self.connections.lock().end_late(self.origin);
    }
}

impl Connections {
    /// None yet.
    pub(crate) fn new(resolver: PublicResolver, sockets: Sockets) -> Connections {
        Connections {
            resolver,
            kept: Mutex::new(Kept::new()),
            sockets,
            tls: OnceLock::new(),
        }
    }

    /// The connection that was used last, if one has been kept that is not known to be closed, or one that returns in a moment.
    pub(crate) async fn kept(
        self: &Arc<Connections>,
        target: &Arc<Target>,
        at: Moment,
    ) -> Option<Used> {
        if let Some(used) = self.take(target, at) {
            return Some(used);
        }
        let returning = async {
            loop {
                let returned = self.lock().returned(&target.origin)?;
                let mut notified = pin!(returned.notified());
                notified.as_mut().enable();
                // What has returned before this notification was asked for.
                if let Some(used) = self.take(target, at.later()) {
                    return Some(used);
                }
                notified.await;
            }
        };
        timeout(RETURN, returning).await.ok().flatten()
    }

    fn take(self: &Arc<Connections>, target: &Arc<Target>, at: Moment) -> Option<Used> {
        let is_open = |connection: &Connection| !connection.is_closed();
        let (connection, made) = self.lock().take(&target.origin, at, is_open)?;
        let busy = Busy {
            connections: Arc::clone(self),
            target: Arc::clone(target),
        };
        Some(Used {
            connection,
            is_late: false,
            made,
            busy,
        })
    }

    /// A socket, for which the connection that has been unused for the longest time is closed where none is free.
    ///
    /// # Errors
    /// When none becomes free in time.
    pub(crate) async fn socket(&self) -> Result<Socket, NoSocket> {
        match self.sockets.free() {
            Some(socket) => Ok(socket),
            None => {
                self.lock().drop_oldest();
                self.sockets.wait().await
            }
        }
    }

    /// A request to this origin has waited for long on a connection of its own.
    pub(crate) fn late<'a>(&'a self, origin: &'a Origin) -> Late<'a> {
        self.lock().late(origin);
        Late {
            connections: self,
            origin,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a connection over a socket; `at` is this moment.
    ///
    /// # Errors
    /// Why there is none: of the resolver, of the network, of TLS, or [`NoSocket`].
    ///
    /// # Panics
    /// When TLS is asked for and the platform has no root certificates: nothing could be delivered.
    pub(crate) async fn connect(
        self: &Arc<Connections>,
        target: &Arc<Target>,
        socket: Socket,
        at: Moment,
    ) -> Result<Used, Box<dyn Error + Send + Sync>> {
        let origin = &target.origin;
        self.lock().begin(origin);
        let busy = Busy {
            connections: Arc::clone(self),
            target: Arc::clone(target),
        };
        let (tcp, socket) = self.reach(origin, socket).await?;
        tcp.set_nodelay(true)?;
        let connection = if origin.is_encrypted {
            let name = origin
                .host
                .server_name()
                .ok_or("no certificate is for such a name")?;
            begin(secure(self.tls()?, name, tcp).await?, socket).await?
        } else {
            begin(tcp, socket).await?
        };
        Ok(Used {
            connection,
            is_late: false,
            made: at.later(),
            busy,
        })
    }

    fn tls(&self) -> Result<&TlsConnector, NoSocket> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls);
        }
        let made = requesting()?;
        Ok(self.tls.get_or_init(|| made))
    }

    /// Reaches the first address of a host that answers; each has been vetted.
    ///
    /// # Errors
    /// Those of the resolver, and of the address that failed last.
    pub(crate) async fn reach(
        &self,
        origin: &Origin,
        socket: Socket,
    ) -> Result<(TcpStream, Socket), Box<dyn Error + Send + Sync>> {
        let addresses: Vec<IpAddr> = match &origin.host {
            Host::Name(name) => self.resolver.addresses(name.clone()).await?,
            Host::Address(address) => vec![*address],
        };
        let port = origin.port;
        let addresses = addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, port));
        Ok(self.sockets.connect(socket, addresses).await?)
    }
}

impl Used {
    /// The response to a request.
    ///
    /// # Errors
    /// When the connection ends, or what comes is no response.
    pub(crate) async fn answer(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.connection.ready().await?;
        self.connection.send_request(request).await
    }

    /// Keeps a connection whose response has been read to its end; `at` is this moment.
    pub(crate) fn keep(self, at: Moment) {
        let Used {
            connection,
            is_late,
            made,
            busy,
        } = self;
        if is_late || connection.is_closed() {
            return;
        }
        let connections = &busy.connections;
        let begins = connections
            .lock()
            .keep(&busy.target.origin, connection, made, at);
        if begins {
            tokio::spawn(sweep(Arc::downgrade(connections)));
        }
    }
}

/// Closes connections that have been unused for too long, until none is left.
async fn sweep(connections: Weak<Connections>) {
    loop {
        tokio::time::sleep(SWEPT_EVERY).await;
        let Some(connections) = connections.upgrade() else {
            return;
        };
        if !connections.lock().sweep(Instant::now()) {
            return;
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connections")
    }
}

/// Begins to speak HTTP over a stream, which has the socket.
async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    socket: Socket,
) -> hyper::Result<Connection> {
    let (connection, driver) = Builder::new()
        // As every other client spells them, for servers that do not know that case is nothing (RFC 9110, section 5.1).
        .title_case_headers(true)
        // What old servers send, and every other client takes (RFC 9112, sections 5.1 and 5.2).
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await?;
    // Ends with the connection; what goes wrong is said to the request that waits for it.
    tokio::spawn(async move {
        let _ = driver.await;
        drop(socket);
    });
    Ok(connection)
}
