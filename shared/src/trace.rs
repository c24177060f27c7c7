//! Traces: one of X-Ray's shows the way of a publication from the API to the receiver.
//!
//! X-Ray decides which requests are sampled, and Lambda hands the API the header of one that is. It travels with the messages, as
//! SQS's attribute `AWSTraceHeader`. A function that takes one up adds a segment of its own to the same trace, by one datagram to the
//! daemon beside it; what is not sampled costs nothing. Header and document:
//! <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>,
//! <https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html>.

use std::net::{SocketAddr, UdpSocket};

use domain::time::Millis;
use serde_json::json;

use crate::clock::Clock;
use crate::env::Environment;

/// Where segments go; nowhere without a daemon.
#[derive(Clone, Debug)]
pub struct Tracer {
    daemon: Option<SocketAddr>,
    clock: Clock,
}

/// A place in a sampled trace: what comes next is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    root: String,
    parent: Option<String>,
}

/// What a function does for a sampled trace.
#[derive(Debug)]
pub struct Segment {
    above: Trace,
    id: String,
    name: &'static str,
    began: Millis,
}

impl Trace {
    /// Reads a header; none where it is not sampled, or is no header.
    pub fn read(header: &str) -> Option<Trace> {
        let part = |name: &str| {
            let mut parts = header
                .split(';')
                .filter_map(|part| part.trim().split_once('='));
            parts.find(|(its, _)| *its == name).map(|(_, value)| value)
        };
        let is_sampled = part("Sampled") == Some("1");
        let root = part("Root").filter(|root| is_sampled && is_trace_id(root))?;
        let parent = part("Parent").filter(|id| id.len() == 16 && is_hexadecimal(id));
        Some(Trace {
            root: root.to_owned(),
            parent: parent.map(str::to_owned),
        })
    }

    /// The header that leads on from here.
    pub fn header(&self) -> String {
        match &self.parent {
            Some(parent) => format!("Root={};Parent={parent};Sampled=1", self.root),
            None => format!("Root={};Sampled=1", self.root),
        }
    }
}

/// `1-`, the second of its beginning and a number of 96 bits, hexadecimal.
fn is_trace_id(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts[..], ["1", second, number] if second.len() == 8 && number.len() == 24)
        && parts.iter().all(|part| is_hexadecimal(part))
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Tracer {
    /// The one beside this process: `AWS_XRAY_DAEMON_ADDRESS`, which Lambda sets.
    pub fn new(environment: &Environment, clock: Clock) -> Tracer {
        let address = environment.optional("AWS_XRAY_DAEMON_ADDRESS");
        Tracer {
            daemon: address.parse().ok(),
            clock,
        }
    }

    /// Begins a segment below `above`; none where nothing is sampled.
    pub fn begin(&self, name: &'static str, above: Option<&Trace>) -> Option<Segment> {
        Some(Segment {
            above: above?.clone(),
            id: format!("{:016x}", rand::random::<u64>()),
            name,
            began: self.clock.now(),
        })
    }

    /// Ends a segment, which then leaves. What is lost on its way is lost: a trace is a sample.
    pub fn end(&self, segment: Option<Segment>, tenant: &str, integration: &str, is_fault: bool) {
        let (Some(segment), Some(daemon)) = (segment, self.daemon) else {
            return;
        };
        let seconds = |at: Millis| at.0 as f64 / 1000.0;
        let document = json!({
            "name": segment.name,
            "id": segment.id,
            "trace_id": segment.above.root,
            "parent_id": segment.above.parent,
            "start_time": seconds(segment.began),
            "end_time": seconds(self.clock.now()),
            "fault": is_fault,
            "annotations": { "tenant": tenant, "integration": integration },
        });
        let datagram = format!("{{\"format\":\"json\",\"version\":1}}\n{document}");
        let any = SocketAddr::new(
            match daemon {
                SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
            },
            0,
        );
        if let Ok(socket) = UdpSocket::bind(any) {
            let _ = socket.send_to(datagram.as_bytes(), daemon);
        }
    }
}

impl Segment {
    /// What comes below it.
    pub fn trace(&self) -> Trace {
        Trace {
            root: self.above.root.clone(),
            parent: Some(self.id.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "1-67891233-abcdef012345678912345678";

    #[test]
    fn only_what_is_sampled_is_a_trace() {
        let header = format!("Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=a:0");
        let trace = Trace::read(&header).unwrap();
        assert_eq!(
            trace.header(),
            format!("Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1")
        );
        let rootless = Trace::read(&format!("Root={ROOT}; Sampled=1")).unwrap();
        assert_eq!(rootless.header(), format!("Root={ROOT};Sampled=1"));
        for header in [
            "",
            "Sampled=1",
            "Root=1-2-3;Sampled=1",
            &format!("Root={ROOT};Sampled=0"),
            &format!("Root={ROOT}"),
            &format!("Root={};Sampled=1", ROOT.replace('a', "x")),
        ] {
            assert_eq!(Trace::read(header), None, "{header}");
        }
    }

    #[test]
    fn a_segment_reaches_the_daemon_with_its_place_in_the_trace() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = daemon.local_addr().unwrap().to_string();
        let environment = Environment::from([("AWS_XRAY_DAEMON_ADDRESS", address)]);
        let clock = Clock::manual(Millis(1_764_305_572_250));
        let tracer = Tracer::new(&environment, clock.clone());
        let above = Trace::read(&format!("Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1"));
        let segment = tracer.begin("ingest", above.as_ref());
        let below = segment.as_ref().unwrap().trace();
        clock.set(Millis(1_764_305_573_000));
        tracer.end(segment, "acme", "", false);
        let mut buffer = [0; 2048];
        let length = daemon.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (head, document) = text.split_once('\n').unwrap();
        assert_eq!(head, r#"{"format":"json","version":1}"#);
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        assert_eq!(
            document,
            json!({
                "name": "ingest", "id": below.parent, "trace_id": ROOT, "parent_id": "53995c3f42cd8ad8",
                "start_time": 1_764_305_572.25, "end_time": 1_764_305_573.0, "fault": false,
                "annotations": { "tenant": "acme", "integration": "" },
            })
        );
        assert!(tracer.begin("ingest", None).is_none());
    }
}
