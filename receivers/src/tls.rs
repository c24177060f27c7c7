//! What a receiver's TLS looks like, for a test of it. Nothing is sent: the handshake is all that is made, so that a certificate is
//! seen that no request would accept.

use std::sync::Arc;
use std::time::Duration;

use domain::time::Millis;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme,
};
use x509_parser::parse_x509_certificate;

use crate::connections::Connections;
use crate::target::Origin;

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
    let tcp = connections.reach(origin).await.ok()?;
    let stream = connector()?
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

fn connector() -> Option<TlsConnector> {
    let provider = Arc::new(default_provider());
    let looks = Arc::new(Looks(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().ok()?;
    let config = config
        .dangerous()
        .with_custom_certificate_verifier(looks)
        .with_no_client_auth();
    Some(TlsConnector::from(Arc::new(config)))
}

/// Takes every certificate, since it is only looked at.
#[derive(Debug)]
struct Looks(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Looks {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
