//! What a receiver's TLS looks like, for a test of it. Nothing is sent for that: the handshake is all that is made, so that a
//! certificate is seen that no request would accept.

use std::time::Duration;

use domain::time::Millis;
use tokio_rustls::rustls::ProtocolVersion;
use x509_parser::parse_x509_certificate;

use crate::connections::Connections;
use crate::target::Origin;
use crate::tls::looking;

/// How long connecting and shaking hands may take together.
const LONGEST: Duration = Duration::from_secs(5);

/// What was seen of a receiver's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `TLS 1.2` or `TLS 1.3`.
    pub version: &'static str,
    /// When the certificate of the host ends, or ended.
    pub certificate_expires_at: Option<Millis>,
}

/// Looks at the TLS of a receiver; none where there is none, or none could be agreed upon.
pub(crate) async fn look(origin: &Origin, connections: &Connections) -> Option<Tls> {
    if !origin.is_encrypted {
        return None;
    }
    let seen = tokio::time::timeout(LONGEST, shake_hands(origin, connections));
    seen.await.ok().flatten()
}

async fn shake_hands(origin: &Origin, connections: &Connections) -> Option<Tls> {
    let socket = connections.socket().await.ok()?;
    let (tcp, _socket) = connections.reach(origin, socket).await.ok()?;
    let stream = looking()
        .connect(origin.host.server_name()?, tcp)
        .await
        .ok()?;
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version()? {
        ProtocolVersion::TLSv1_2 => "TLS 1.2",
        _ => "TLS 1.3",
    };
    let certificate = session.peer_certificates()?.first()?;
    let certificate_expires_at = parse_x509_certificate(certificate)
        .ok()
        .and_then(|(_, parsed)| u64::try_from(parsed.validity().not_after.timestamp()).ok())
        .map(|seconds| Millis(seconds * 1000));
    Some(Tls {
        version,
        certificate_expires_at,
    })
}
