//! A receiver that means harm: below HTTP, so that it can break every rule of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What it does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Reads, and never responds.
    Silent,
    /// A byte of the response's head a second.
    Trickle,
    /// A whole head, then a byte of the body a second.
    TrickleBody(u16),
    /// A body of 1 GiB, as fast as it is taken.
    Flood(u16),
    /// A body of chunks without an end.
    Endless(u16),
    /// A part of a body that is not continued.
    Unended(u16),
    /// 10,000 headers.
    ManyHeaders,
    /// One header of 10 MiB.
    LongHeader,
    /// What is no HTTP.
    Garbage,
    /// Headers with bare CRs, and a second response hidden in one.
    Injection,
    /// Two lengths that differ.
    TwoLengths,
    /// Closes without a byte.
    Close,
    /// Closes in the middle of the head.
    CloseInHead,
    /// Informs (100, 103) forever, and never responds.
    Informs,
    /// Sends the caller elsewhere.
    Redirect(String),
    /// A proper 204: to see that a test would notice.
    Proper,
    /// Instead of TLS, TLS 1.1.
    OldTls,
}

/// A running hostile receiver; gone when dropped.
#[derive(Debug)]
pub struct Hostile {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Hostile {
    /// Starts one on a free port of 127.0.0.1, with TLS where there is a configuration for it.
    ///
    /// # Panics
    /// When the machine has no port left for it.
    pub async fn start(behaviour: Behaviour, tls: Option<ServerConfig>) -> Hostile {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("the port is known");
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, acceptor) = (
            connections.clone(),
            tls.map(|tls| TlsAcceptor::from(Arc::new(tls))),
        );
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                let (behaviour, acceptor) = (behaviour.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => misbehave(behaviour, stream).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => misbehave(behaviour, stream).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Hostile {
            address,
            connections,
            server,
        }
    }

    /// Its address with the given scheme and host name, which has to lead to this machine.
    pub fn url(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}/", self.address.port())
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// `None` when the caller has had enough.
async fn misbehave(
    behaviour: Behaviour,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Option<()> {
    let mut request = [0; 16 * 1024];
    if stream.read(&mut request).await.ok()? == 0 {
        return None;
    }
    let mut stream = Writer(stream);
    match behaviour {
        Behaviour::Silent => std::future::pending().await,
        Behaviour::Trickle => stream.trickle(b"HTTP/1.1 200 OK\r\nx: yyyyyyyyyyyyyyy\r\n\r\n").await,
        Behaviour::TrickleBody(status) => {
            stream.head(status, "content-length: 1000000").await?;
            stream.trickle(&[b'x'; 1000]).await
        }
        Behaviour::Flood(status) => {
            stream.head(status, "content-length: 1073741824").await?;
            let mebibyte = vec![b'x'; 1024 * 1024];
            for _ in 0..1024 {
                stream.write(&mebibyte).await?;
            }
            Some(())
        }
        Behaviour::Endless(status) => {
            stream.head(status, "transfer-encoding: chunked").await?;
            let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x1_0000], b"\r\n"].concat();
            loop {
                stream.write(&chunk).await?;
            }
        }
        Behaviour::Unended(status) => {
            stream.head(status, "content-length: 40").await?;
            stream.write(b"{\"ok\":true}").await?;
            std::future::pending().await
        }
        Behaviour::ManyHeaders => {
            stream.write(b"HTTP/1.1 200 OK\r\n").await?;
            for index in 0..10_000 {
                stream.write(format!("x-{index}: y\r\n").as_bytes()).await?;
            }
            stream.write(b"content-length: 0\r\n\r\n").await
        }
        Behaviour::LongHeader => {
            stream.write(b"HTTP/1.1 200 OK\r\nx: ").await?;
            stream.write(&vec![b'y'; 10 * 1024 * 1024]).await?;
            stream.write(b"\r\ncontent-length: 0\r\n\r\n").await
        }
        Behaviour::Garbage => stream.write(b"\x00\xff\xfe220 mail.example ESMTP\r\n\r\n\r\n").await,
        Behaviour::Injection => {
            stream.write(b"HTTP/1.1 500 No\rHTTP/1.1 200 OK\r\nx: a\rHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await
        }
        Behaviour::TwoLengths => {
            stream.head(200, "content-length: 5\r\ncontent-length: 50").await?;
            stream.write(b"hello").await
        }
        Behaviour::Close => Some(()),
        Behaviour::CloseInHead => stream.write(b"HTTP/1.1 200 OK\r\ncontent-le").await,
        Behaviour::Informs => loop {
            stream.write(b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
        Behaviour::Redirect(to) => stream.head(302, &format!("location: {to}\r\ncontent-length: 0")).await,
        Behaviour::Proper => stream.head(204, "x: y").await,
        Behaviour::OldTls => {
            // A ServerHello of TLS 1.1: record, handshake, version 3.2, random, no session, an RSA suite, no compression.
            let hello = [
                &[22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2][..],
                &[7; 32],
                &[0, 0, 47, 0],
            ];
            stream.write(&hello.concat()).await?;
            std::future::pending().await
        }
    }
}

/// Writes until the other side closes.
struct Writer<S>(S);

impl<S: AsyncWrite + Unpin> Writer<S> {
    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.write_all(bytes).await.ok()?;
        self.0.flush().await.ok()
    }

    async fn head(&mut self, status: u16, headers: &str) -> Option<()> {
        self.write(format!("HTTP/1.1 {status} Any\r\n{headers}\r\n\r\n").as_bytes())
            .await
    }

    async fn trickle(&mut self, bytes: &[u8]) -> Option<()> {
        for byte in bytes {
            self.write(&[*byte]).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Some(())
    }
}
