//! The floor of an invocation: the exchanges that a function made, with bodies of the same sizes, over kept connections of hyper alone.
//! `BENCH_PLAN` is a file with these: for each invocation the size of its answer, and sizes of requests and responses.

use std::{env, fs};

use bench::cloud::BYTES;
use bench::measure::Failure;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Sender = SendRequest<Full<Bytes>>;

/// About as long as a signature with its session token.
const HEADER_BYTES: usize = 700;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let plan: Vec<(usize, Vec<(usize, usize)>)> =
        serde_json::from_str(&fs::read_to_string(env::var("BENCH_PLAN")?)?)?;
    let mut runtime = connect(&env::var("AWS_LAMBDA_RUNTIME_API")?).await?;
    let mut services = connect(env::var("AWS_ENDPOINT_URL")?.trim_start_matches("http://")).await?;
    let most = plan
        .iter()
        .flat_map(|(answer, them)| them.iter().map(|(sent, _)| *sent).chain([*answer]));
    let bytes = Bytes::from(vec![b'x'; most.max().unwrap_or_default()]);
    for (answer, exchanges) in plan.iter().cycle() {
        let next = "/2018-06-01/runtime/invocation/next";
        let id = exchange(&mut runtime, Method::GET, next, Bytes::new()).await?;
        for (request, response) in exchanges {
            let path = format!("{BYTES}{response}");
            exchange(&mut services, Method::POST, &path, bytes.slice(..*request)).await?;
        }
        let path = format!("/2018-06-01/runtime/invocation/{id}/response");
        exchange(&mut runtime, Method::POST, &path, bytes.slice(..*answer)).await?;
    }
    Ok(())
}

async fn connect(address: &str) -> Result<Sender, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One exchange; the id of an invocation, where it is one.
async fn exchange(
    sender: &mut Sender,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<String, Failure> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1")
        .header("authorization", "x".repeat(HEADER_BYTES))
        .body(Full::new(body))?;
    sender.ready().await?;
    let mut response = sender.send_request(request).await?;
    while let Some(frame) = response.frame().await {
        frame?;
    }
    let id = response.headers().get("lambda-runtime-aws-request-id");
    Ok(id
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned())
}
