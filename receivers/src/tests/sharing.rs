//! Receivers that serve a connection at a time, and what a process keeps of connections.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::*;

/// How long a receiver with a single connection may need for 30 events.
const DEADLINE: Duration = Duration::from_secs(12);

/// Serves one connection at a time, each for as long as the other side keeps it open; every request takes `work`. Returns the URL, and
/// how many connections and requests there were.
fn serve_singly(work: Duration) -> (String, Arc<[AtomicUsize; 2]>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let counter = counts.clone();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            counter[0].fetch_add(1, Ordering::SeqCst);
            let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                text.extend_from_slice(&buffer[..read]);
                if text.ends_with(b"\r\n\r\n{}") {
                    text.clear();
                    std::thread::sleep(work);
                    counter[1].fetch_add(1, Ordering::SeqCst);
                    if stream.write_all(EMPTY).is_err() {
                        break;
                    }
                }
            }
        }
    });
    (url, counts)
}

#[tokio::test]
async fn a_receiver_of_one_connection_at_a_time_gets_thirty_events_that_are_sent_at_once() {
    for work in [0, 20, 150].map(Duration::from_millis) {
        let (url, counts) = serve_singly(work);
        let receivers = Receivers::new(true);
        let thirty = (0..30).map(|_| async { receivers.post(&to(&url), Millis(0)).await.outcome });
        let outcomes = timeout(DEADLINE, join_all(thirty)).await;
        for outcome in outcomes.expect("all are answered in time") {
            assert_eq!(outcome, Outcome::Delivered, "{work:?}");
        }
        assert_eq!(counts[1].load(Ordering::SeqCst), 30, "{work:?}");
    }
}

#[tokio::test]
async fn two_processes_share_a_receiver_of_one_connection_at_a_time() {
    let (url, counts) = serve_singly(Duration::from_millis(5));
    let processes = [Receivers::new(true), Receivers::new(true)];
    // Ten at a time in each of them, three times.
    let posts = processes.iter().map(|receivers| async {
        for _ in 0..3 {
            let ten = (0..10).map(|_| async { receivers.post(&to(&url), Millis(0)).await.outcome });
            for outcome in join_all(ten).await {
                assert_eq!(outcome, Outcome::Delivered);
            }
        }
    });
    let ended = timeout(DEADLINE, join_all(posts)).await;
    assert!(ended.is_ok(), "{counts:?}");
    assert_eq!(counts[1].load(Ordering::SeqCst), 60);
}
