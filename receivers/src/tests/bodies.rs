//! Responses whose body is slow, or has no end: the status decides, at the moment at which it comes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::*;

/// How long a test waits for what has to happen.
const DEADLINE: Duration = Duration::from_secs(10);

/// Answers the first request of each connection with `head`, and after a pause with `rest`, and leaves the connection open. Returns
/// the URL, and what reports that the other side has closed a connection.
async fn serve_slowly(
    head: &'static [u8],
    pause: Duration,
    rest: &'static [u8],
) -> (String, UnboundedReceiver<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (closed, closings) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let closed = closed.clone();
            tokio::spawn(async move {
                let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
                while !text.ends_with(b"\r\n\r\n{}") {
                    let read = stream.read(&mut buffer).await.unwrap();
                    text.extend_from_slice(&buffer[..read]);
                }
                stream.write_all(head).await.unwrap();
                tokio::time::sleep(pause).await;
                stream.write_all(rest).await.unwrap();
                while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
                let _ = closed.send(());
            });
        }
    });
    (url, closings)
}

#[tokio::test]
async fn a_status_counts_when_it_comes_however_long_its_body_takes() {
    for (head, status) in [
        (
            &b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\nok"[..],
            200,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{\"ok\":true}",
            200,
        ),
        (
            b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
            202,
        ),
        (
            b"HTTP/1.1 503 Busy\r\ncontent-length: 40\r\n\r\n{\"ok\":false}",
            503,
        ),
    ] {
        let (url, mut closings) = serve_slowly(head, Duration::ZERO, b"").await;
        let receivers = Receivers::new(true);
        let (post, began) = (to(&url), Instant::now());
        let exchange = timeout(DEADLINE, receivers.post(&post, Millis(0))).await;
        let (exchange, ended) = (exchange.unwrap(), began.elapsed());
        assert_eq!(exchange.status, Some(status));
        let is_delivered = exchange.outcome == Outcome::Delivered;
        assert_eq!(is_delivered, status < 300, "{exchange:?}");
        assert!(ended < Duration::from_millis(900), "{status}: {ended:?}");
        assert!(
            exchange.took < Duration::from_millis(900),
            "{status}: {exchange:?}"
        );
        // Its rest is waited for a moment, and the connection is closed then.
        let closing = timeout(DEADLINE, closings.recv()).await;
        assert!(closing.is_ok(), "{status}: the connection is still open");
        assert!(began.elapsed() < Duration::from_secs(5), "{status}");
    }
}

#[tokio::test]
async fn the_text_of_a_rejection_is_waited_for_within_bounds_and_not_counted_as_slowness() {
    let head = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 12\r\n\r\nno such";
    let pause = Duration::from_millis(1_500);
    let (url, _) = serve_slowly(head, pause, b" item").await;
    let receivers = Receivers::new(true);
    let exchange = receivers.post(&to(&url), Millis(0)).await;
    assert_eq!(
        exchange.outcome,
        Outcome::Rejected("no such item".to_owned())
    );
    assert!(exchange.took < pause, "{exchange:?}");
    let (url, _) = serve_slowly(head, Duration::ZERO, b"").await;
    let exchange = timeout(DEADLINE, receivers.post(&to(&url), Millis(0))).await;
    let text = Outcome::Rejected("no such".to_owned());
    assert_eq!(exchange.map(|it| it.outcome), Ok(text));
}
