//! An AWS service for tests: on this machine, one request a connection.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;

/// Begins to serve, for as long as the process lives: each request's JSON gets a status and JSON. Returns the endpoint.
pub fn serve(respond: impl Fn(Value) -> (u16, Value) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut request, mut buffer) = (Vec::new(), [0; 65_536]);
            let json = loop {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break None,
                    Ok(read) => request.extend_from_slice(&buffer[..read]),
                }
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                // It is whole as soon as it can be read.
                if let Some(json) = body.and_then(|body| serde_json::from_str(body).ok()) {
                    break Some(json);
                }
            };
            let Some(json) = json else { continue };
            let (status, json) = respond(json);
            let body = json.to_string();
            let length = body.len();
            let response = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let _ = stream.write_all(response.as_bytes());
        }
    });
    endpoint
}
