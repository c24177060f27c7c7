//! Tests of calls of receivers.

mod bodies;
mod handshakes;
mod sharing;
mod sockets;
mod wire;

use std::time::Instant;

use domain::receiver::credentials::NONE;

use super::*;

#[tokio::test]
async fn a_name_with_an_inner_address_is_refused_where_it_is_connected() {
    let receivers = Receivers::new(false);
    let post = Post {
        url: "https://localhost:1/",
        credentials: &NONE,
        event_id: "e",
        body: "{}",
    };
    let Outcome::Failed(failure) = receivers.post(&post, Millis(0)).await.outcome else {
        panic!("localhost is not public")
    };
    assert_eq!(failure.reason, "the address is not allowed");
}

/// Serves one connection after another, each with as many responses as are left before it closes without a word.
fn serve(connections: Vec<u32>) -> (String, std::thread::JoinHandle<Vec<u32>>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let serve = |answers: u32| {
            let (mut connection, _) = listener.accept().unwrap();
            let mut requests = 0;
            // The last request is read, and answered by closing.
            for n in 0..=answers {
                let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
                while !text.ends_with(b"\r\n\r\n{}") {
                    match connection.read(&mut buffer).unwrap() {
                        0 => return requests,
                        read => text.extend_from_slice(&buffer[..read]),
                    }
                }
                requests += 1;
                if n < answers {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    connection.write_all(answer).unwrap();
                }
            }
            requests
        };
        connections.into_iter().map(serve).collect()
    });
    (url, served)
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_made_anew_and_counts_for_nothing() {
    let (url, served) = serve(vec![1, 1]);
    let receivers = Receivers::new(true);
    let post = Post {
        url: &url,
        credentials: &NONE,
        event_id: "e",
        body: "{}",
    };
    for attempt in ["on a new connection", "on a kept one, then on a new one"] {
        let outcome = receivers.post(&post, Millis(0)).await.outcome;
        assert_eq!(outcome, Outcome::Delivered, "{attempt}");
    }
    drop(receivers);
    let served = tokio::task::spawn_blocking(|| served.join().unwrap());
    assert_eq!(served.await.unwrap(), [2, 1]);
}

#[tokio::test]
async fn a_connection_that_breaks_at_once_is_a_failed_attempt() {
    let (url, served) = serve(vec![0]);
    let post = Post {
        url: &url,
        credentials: &NONE,
        event_id: "e",
        body: "{}",
    };
    let Outcome::Failed(failure) = Receivers::new(true).post(&post, Millis(0)).await.outcome else {
        panic!("nothing was answered")
    };
    assert_eq!(failure.reason, "the connection broke");
    assert_eq!(served.join().unwrap(), [1], "it is not tried twice");
}

/// What a connection does with the request behind its last response.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It closes (FIN), after a while.
    Close(Duration),
    /// It resets (RST).
    Reset,
}

/// Serves any number of connections: each answers its first request with these bytes, and ends at its second. All of the
/// first `together` requests are answered once they are there. Returns the URL, and how many requests have come.
async fn serve_raw(
    answer: &'static [u8],
    end: End,
    together: usize,
) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let requests = counter.clone();
            tokio::spawn(async move {
                for is_first in [true, false] {
                    let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
                    while !text.ends_with(b"\r\n\r\n{}") {
                        match stream.read(&mut buffer).await {
                            Ok(read) if read > 0 => text.extend_from_slice(&buffer[..read]),
                            _ => return,
                        }
                    }
                    let count = requests.fetch_add(1, Ordering::SeqCst) + 1;
                    match end {
                        _ if is_first => {
                            while count <= together && requests.load(Ordering::SeqCst) < together {
                                tokio::task::yield_now().await;
                            }
                            let _ = stream.write_all(answer).await;
                            if !answer.ends_with(b"\r\n\r\n") {
                                return;
                            }
                        }
                        End::Close(pause) => tokio::time::sleep(pause).await,
                        End::Reset => stream.set_zero_linger().unwrap(),
                    }
                }
            });
        }
    });
    (url, requests)
}

const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn to(url: &str) -> Post<'_> {
    Post {
        url,
        credentials: &NONE,
        event_id: "e",
        body: "{}",
    }
}

#[tokio::test]
async fn kept_connections_that_end_at_their_second_request_count_for_nothing() {
    use std::sync::atomic::Ordering;
    for end in [End::Close(Duration::ZERO), End::Reset] {
        let (url, requests) = serve_raw(EMPTY, end, 10).await;
        let receivers = Receivers::new(true);
        // Ten connections are kept, and all of them are dead.
        let ten = (0..10).map(|_| async { receivers.post(&to(&url), Millis(0)).await.outcome });
        for outcome in futures_util::future::join_all(ten).await {
            assert_eq!(outcome, Outcome::Delivered, "{end:?}");
        }
        for n in 0..12 {
            let before = requests.load(Ordering::SeqCst);
            let outcome = receivers.post(&to(&url), Millis(0)).await.outcome;
            assert_eq!(outcome, Outcome::Delivered, "{end:?} {n}");
            let made = requests.load(Ordering::SeqCst) - before;
            assert!(made <= 2, "{end:?} {n}: {made} requests");
        }
    }
}

#[tokio::test]
async fn a_second_request_has_what_is_left_of_the_time() {
    let (first, _) = serve_raw(EMPTY, End::Close(Duration::from_millis(1_800)), 0).await;
    let mut receivers = Receivers::new(true);
    receivers.exchange_timeout = Duration::from_secs(2);
    assert_eq!(
        receivers.post(&to(&first), Millis(0)).await.outcome,
        Outcome::Delivered
    );
    // The kept connection is closed after 1.8 s; the new one is answered at once, but not more slowly than in 0.2 s.
    let began = Instant::now();
    assert_eq!(
        receivers.post(&to(&first), Millis(0)).await.outcome,
        Outcome::Delivered
    );
    assert!(began.elapsed() < Duration::from_secs(2));
    let (silent, _) = serve_raw(b"", End::Reset, usize::MAX).await;
    let began = Instant::now();
    let Outcome::Failed(failure) = receivers.post(&to(&silent), Millis(0)).await.outcome else {
        panic!("nothing was answered")
    };
    assert_eq!(failure.reason, "no response within 15 seconds");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn responses_of_old_servers_are_read() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nx-folded: one\r\n two\r\ncontent-length: 0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nx-spaced : one\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon at all\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx name: one\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-latin: \xfcber\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 \xfcber\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 0\n\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        b"HTTP/1.0 200 OK\r\n\r\nuntil it closes",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nuntil it closes",
    ] {
        let (url, _) = serve_raw(answer, End::Reset, 0).await;
        let outcome = Receivers::new(true)
            .post(&to(&url), Millis(0))
            .await
            .outcome;
        let answer = String::from_utf8_lossy(answer);
        assert_eq!(outcome, Outcome::Delivered, "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_said_to_be_none_and_a_closed_port_to_be_closed() {
    let (url, _) = serve_raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", End::Reset, 0).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed_url = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    for (url, reason) in [
        (url, "the response is not valid HTTP"),
        (closed_url, "the connection was refused"),
    ] {
        let Outcome::Failed(failure) = Receivers::new(true)
            .post(&to(&url), Millis(0))
            .await
            .outcome
        else {
            panic!("{reason}")
        };
        assert_eq!(failure.reason, reason);
    }
}
