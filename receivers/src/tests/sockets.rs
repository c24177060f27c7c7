//! What a process keeps of connections, and what it does without sockets.

use std::env;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// What happens to the connections of a receiver.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Opened,
    Closed,
}

/// Answers every request with `answer`, and reports connections. One without an answer waits for ever.
async fn serve_reporting(answer: &'static [u8]) -> (String, UnboundedReceiver<Seen>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (reports, seen) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let reports = reports.clone();
            let _ = reports.send(Seen::Opened);
            tokio::spawn(async move {
                let mut text = Vec::new();
                while matches!(stream.read_buf(&mut text).await, Ok(1..)) {
                    if text.ends_with(b"\r\n\r\n{}") {
                        text.clear();
                        stream.write_all(answer).await.unwrap();
                    }
                }
                let _ = reports.send(Seen::Closed);
            });
        }
    });
    (url, seen)
}

fn with_budget(budget: usize) -> Receivers {
    let sockets = Sockets::with_budget(budget);
    Receivers {
        connections: Arc::new(Connections::new(PublicResolver::new(true), sockets)),
        ..Receivers::new(true)
    }
}

#[tokio::test]
async fn a_connection_that_is_unused_for_a_second_is_closed() {
    let (url, mut seen) = serve_reporting(EMPTY).await;
    let receivers = Receivers::new(true);
    for _ in 0..3 {
        let outcome = receivers.post(&to(&url), Millis(0)).await.outcome;
        assert_eq!(outcome, Outcome::Delivered);
    }
    assert_eq!(seen.recv().await, Some(Seen::Opened));
    let closed = timeout(DEADLINE, seen.recv()).await;
    assert_eq!(closed, Ok(Some(Seen::Closed)));
}

#[tokio::test]
async fn a_connection_of_before_a_long_freeze_is_not_used() {
    for (wall, connections) in [(4_000, 1), (5_000, 2)] {
        let (url, mut seen) = serve_reporting(EMPTY).await;
        let receivers = Receivers::new(true);
        for wall in [0, wall] {
            let exchange = receivers.post(&to(&url), Millis(wall)).await;
            assert_eq!(exchange.outcome, Outcome::Delivered);
        }
        let mut opened = 0;
        while let Ok(seen) = seen.try_recv() {
            opened += usize::from(seen == Seen::Opened);
        }
        assert_eq!(opened, connections, "{wall}");
    }
}

#[tokio::test]
async fn beyond_the_budget_of_sockets_an_exchange_is_not_made_and_blames_nobody() {
    let (silent, _seen) = serve_reporting(b"").await;
    let (well, _reports) = serve_reporting(EMPTY).await;
    let mut receivers = with_budget(3);
    receivers.exchange_timeout = Duration::from_secs(2);
    let five = (0..5).map(|_| async { receivers.post(&to(&silent), Millis(0)).await });
    let (ours, theirs): (Vec<Exchange>, Vec<Exchange>) = join_all(five)
        .await
        .into_iter()
        .partition(Exchange::is_ours);
    assert_eq!((ours.len(), theirs.len()), (2, 3));
    for exchange in ours {
        let Outcome::Failed(failure) = &exchange.outcome else {
            panic!("{exchange:?}")
        };
        assert!(!failure.is_refusal && exchange.status.is_none());
        assert!(exchange.took < Duration::from_millis(100), "{exchange:?}");
    }
    assert!(theirs.iter().all(|it| it.lack == Some(Lack::Time)));
    // What was given up gives its sockets back.
    let outcome = receivers.post(&to(&well), Millis(0)).await.outcome;
    assert_eq!(outcome, Outcome::Delivered);
}

#[tokio::test]
async fn an_unused_connection_gives_its_socket_to_another_receiver() {
    let receivers = with_budget(1);
    for _ in 0..3 {
        let (url, _seen) = serve_reporting(EMPTY).await;
        let outcome = receivers.post(&to(&url), Millis(0)).await.outcome;
        assert_eq!(outcome, Outcome::Delivered);
    }
}

/// The test itself, again, in a process that may open few files: its receiver is in this variable.
const RECEIVER: &str = "RECEIVER_OF_A_PROCESS_WITHOUT_DESCRIPTORS";

#[tokio::test]
async fn a_process_without_descriptors_blames_no_receiver() {
    if let Ok(url) = env::var(RECEIVER) {
        return run_out_of_descriptors(&url).await;
    }
    let (silent, _seen) = serve_reporting(b"").await;
    let itself = "tests::sockets::a_process_without_descriptors_blames_no_receiver";
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", itself])
        .env(RECEIVER, silent);
    let output = tokio::task::spawn_blocking(move || limited.output().unwrap());
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

async fn run_out_of_descriptors(url: &str) {
    let mut receivers = Receivers::new(true);
    receivers.exchange_timeout = Duration::from_secs(2);
    let sixty = (0..60).map(|_| async { receivers.post(&to(url), Millis(0)).await });
    let exchanges = join_all(sixty).await;
    let ours = exchanges.iter().filter(|it| it.is_ours()).count();
    assert!((20..60).contains(&ours), "{ours}");
    let others = exchanges.iter().filter(|it| !it.is_ours());
    for exchange in others {
        assert_eq!(exchange.lack, Some(Lack::Time), "{exchange:?}");
    }
    // A name cannot be looked up either.
    let named = "http://localhost:1/";
    let mut held: Vec<TcpListener> = Vec::new();
    // Connections that were given up are closed by their own tasks.
    for _ in 0..100 {
        tokio::task::yield_now().await;
        held.extend(std::iter::from_fn(|| TcpListener::bind("127.0.0.1:0").ok()));
    }
    let exchange = receivers.post(&to(named), Millis(0)).await;
    assert!(exchange.is_ours(), "{exchange:?}");
    drop(held);
    let exchange = receivers.post(&to(named), Millis(0)).await;
    assert_eq!(exchange.lack, Some(Lack::Connection), "{exchange:?}");
}
