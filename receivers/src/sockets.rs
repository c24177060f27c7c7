//! The sockets of a process: how many there may be, and what shows that it has none left.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How many sockets receivers have at a time: Lambda gives a process 1,024 descriptors, and the AWS SDK, files and look-ups of
/// names need some of them.
const MAX_SOCKETS: usize = 800;
/// How long an exchange waits for a socket. A fraction of what is left of an invocation when the last attempt begins.
const FREE_SOCKET: Duration = Duration::from_millis(500);
/// How long an address has to itself before the next one is tried as well (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The right to one socket, until it is dropped.
pub(crate) type Socket = OwnedSemaphorePermit;

/// The process has no socket left: a failure of ours, and not the receiver's.
#[derive(Debug, thiserror::Error)]
#[error("no socket is free")]
pub(crate) struct NoSocket;

/// The sockets of a process.
#[derive(Debug)]
pub(crate) struct Sockets(Arc<Semaphore>);

impl Sockets {
    /// All that a process may have.
    pub(crate) fn new() -> Sockets {
        Sockets::with_budget(MAX_SOCKETS)
    }

    /// So many.
    pub(crate) fn with_budget(budget: usize) -> Sockets {
        Sockets(Arc::new(Semaphore::new(budget)))
    }

    /// A socket, if one is free.
    pub(crate) fn free(&self) -> Option<Socket> {
        self.0.clone().try_acquire_owned().ok()
    }

    /// A socket, as soon as one is free.
    ///
    /// # Errors
    /// When none is in time.
    pub(crate) async fn wait(&self) -> Result<Socket, NoSocket> {
        match timeout(FREE_SOCKET, self.0.clone().acquire_owned()).await {
            Ok(Ok(socket)) => Ok(socket),
            _ => Err(NoSocket),
        }
    }

    /// Connects to the first of some addresses that answers: the next one is tried when one fails, or takes its time. Each attempt
    /// under way has a socket of its own; `socket` is that of the first.
    ///
    /// # Errors
    /// That of the address that failed last, or [`NoSocket`] wrapped in it.
    pub(crate) async fn connect(
        &self,
        socket: Socket,
        addresses: impl Iterator<Item = SocketAddr>,
    ) -> io::Result<(TcpStream, Socket)> {
        let mut addresses = addresses.peekable();
        let mut under_way = FuturesUnordered::new();
        let mut unused = Some(socket);
        let mut failed: Option<io::Error> = None;
        loop {
            let is_more = addresses.peek().is_some();
            let socket = is_more.then(|| unused.take().or_else(|| self.free()));
            let ended = match socket.flatten().zip(addresses.peek().copied()) {
                Some((socket, address)) => {
                    addresses.next();
                    under_way.push(attempt(address, socket));
                    match timeout(NEXT_ADDRESS, under_way.next()).await {
                        Ok(ended) => ended,
                        Err(_) => continue,
                    }
                }
                None => under_way.next().await,
            };
            match ended {
                Some(Ok(reached)) => return Ok(reached),
                Some(Err((error, socket))) => {
                    unused = Some(socket);
                    // What we lack is the reason, whatever else failed.
                    if !failed.as_ref().is_some_and(is_no_socket) {
                        failed = Some(error);
                    }
                }
                None => return Err(failed.unwrap_or_else(|| ErrorKind::NotConnected.into())),
            }
        }
    }
}

async fn attempt(
    address: SocketAddr,
    socket: Socket,
) -> Result<(TcpStream, Socket), (io::Error, Socket)> {
    match TcpStream::connect(address).await {
        Ok(stream) => Ok((stream, socket)),
        Err(error) => Err((named(error, address), socket)),
    }
}

/// An error of connecting, with those of ours told from the receiver's.
fn named(error: io::Error, address: SocketAddr) -> io::Error {
    if is_exhausted(&error, address.is_ipv4()) {
        return io::Error::other(NoSocket);
    }
    match error.kind() {
        // This machine has no address of version 6, which is no failure that passes.
        ErrorKind::AddrNotAvailable => ErrorKind::NetworkUnreachable.into(),
        _ => error,
    }
}

/// Whether the system has no descriptor, no port or no memory left for a socket.
fn is_exhausted(error: &io::Error, is_ipv4: bool) -> bool {
    // Linux: ENOMEM, ENFILE, EMFILE, ENOBUFS.
    let is_out = matches!(error.raw_os_error(), Some(12 | 23 | 24 | 105));
    is_out || (is_ipv4 && error.kind() == ErrorKind::AddrNotAvailable)
}

fn is_no_socket(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|it| it.is::<NoSocket>())
}

/// Whether the system refuses a socket at this moment. A resolver does not say that it had none for its questions, and the root
/// certificates cannot be read without a descriptor.
pub(crate) fn are_none_left() -> bool {
    let bound = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    bound.is_err_and(|error| is_exhausted(&error, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_told_from_what_the_receiver_does() {
        let [v4, v6] = ["192.0.2.1:443", "[2001:db8::1]:443"].map(|it| it.parse().unwrap());
        for (code, address, is_ours) in [
            (24, v4, true),
            (23, v6, true),
            (105, v4, true),
            (12, v6, true),
            // EADDRNOTAVAIL: no port is left, or there is no IPv6 here.
            (99, v4, true),
            (99, v6, false),
            // ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, ECONNRESET.
            (111, v4, false),
            (113, v4, false),
            (101, v6, false),
            (110, v4, false),
            (104, v4, false),
        ] {
            let error = named(io::Error::from_raw_os_error(code), address);
            assert_eq!(is_no_socket(&error), is_ours, "{code} {address}");
        }
        let missing = named(io::Error::from_raw_os_error(99), v6);
        assert_eq!(missing.kind(), ErrorKind::NetworkUnreachable);
        assert!(!are_none_left());
    }

    #[tokio::test]
    async fn a_socket_is_waited_for_within_bounds() {
        let sockets = Sockets::with_budget(1);
        let socket = sockets.wait().await.unwrap();
        assert!(sockets.free().is_none());
        assert!(sockets.wait().await.is_err());
        let (waited, ()) = tokio::join!(sockets.wait(), async { drop(socket) });
        assert!(waited.is_ok());
    }

    #[tokio::test]
    async fn the_next_address_is_tried_with_the_same_socket() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed_address = closed.local_addr().unwrap();
        drop(closed);
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open_address = open.local_addr().unwrap();
        let sockets = Sockets::with_budget(1);
        let socket = sockets.free().unwrap();
        let addresses = [closed_address, closed_address, open_address];
        let reached = sockets.connect(socket, addresses.into_iter()).await;
        let (stream, socket) = reached.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open_address);
        let failed = sockets.connect(socket, [closed_address].into_iter()).await;
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(sockets.free().is_some());
    }
}
