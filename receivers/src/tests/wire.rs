//! What goes over the wire, byte for byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn names_of_headers_are_spelled_as_old_servers_look_for_them() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let reading = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n{}") {
            stream.read_buf(&mut text).await.unwrap();
        }
        stream.write_all(EMPTY).await.unwrap();
        String::from_utf8(text).unwrap()
    });
    let exchange = Receivers::new(true).post(&to(&url), Millis(0)).await;
    assert_eq!(exchange.outcome, Outcome::Delivered);
    let text = timeout(DEADLINE, reading).await.unwrap().unwrap();
    for header in [
        "Host: 127.0.0.1:",
        "Content-Length: 2\r\n",
        "Content-Type: application/json\r\n",
        "Webhook-Id: e\r\n",
        "Webhook-Timestamp: 0\r\n",
    ] {
        assert!(text.contains(&format!("\r\n{header}")), "{header}: {text}");
    }
}

/// The body of an extension of a ClientHello, which is a record with one handshake message.
fn extension(hello: &[u8], wanted: u16) -> Vec<u8> {
    let number = |at: usize| u16::from_be_bytes([hello[at], hello[at + 1]]);
    // The headers of record and message, the version, and the random bytes.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + usize::from(number(at));
    at += 1 + usize::from(hello[at]);
    at += 2;
    while at < hello.len() {
        let (name, length) = (number(at), usize::from(number(at + 2)));
        at += 4;
        if name == wanted {
            return hello[at..at + length].to_vec();
        }
        at += length;
    }
    panic!("the extension {wanted} is not there");
}

#[tokio::test]
async fn a_client_hello_is_one_small_packet_and_offers_a_hybrid_key_exchange_without_a_key() {
    const X25519: [u8; 2] = [0x00, 0x1d];
    const X25519_ML_KEM_768: [u8; 2] = [0x11, 0xec];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let reading = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = vec![0; 5];
        stream.read_exact(&mut hello).await.unwrap();
        let length = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
        hello.resize(5 + length, 0);
        stream.read_exact(&mut hello[5..]).await.unwrap();
        hello
    });
    let url = format!("https://localhost:{port}/");
    let exchange = Receivers::new(true).post(&to(&url), Millis(0)).await;
    assert!(matches!(exchange.outcome, Outcome::Failed(_)));
    let hello = timeout(DEADLINE, reading).await.unwrap().unwrap();
    assert!(hello.len() < 600, "{} bytes", hello.len());
    // A list of groups, each of two bytes, behind its length.
    let groups = extension(&hello, 10);
    let groups: Vec<&[u8]> = groups[2..].chunks(2).collect();
    assert_eq!(groups[0], X25519);
    assert!(groups.contains(&&X25519_ML_KEM_768[..]), "{groups:?}");
    // One key of 32 bytes, behind the length of the list, its group and its own length.
    let keys = extension(&hello, 51);
    assert_eq!((&keys[2..4], keys.len()), (&X25519[..], 2 + 2 + 2 + 32));
}
