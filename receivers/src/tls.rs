//! TLS with receivers.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use crate::sockets::{NoSocket, are_none_left};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    sign,
};

/// The SDK's cryptography, but X25519 before the hybrid group, which is offered without a key: a key of it makes a ClientHello longer
/// than a packet, which old appliances reset. A receiver that insists on the hybrid group asks for its key.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
            kx_group::X25519MLKEM768,
        ],
        ..default_provider()
    }
}

/// What requests are made with: TLS 1.2 or 1.3 by the platform's root certificates, with sessions that are resumed.
///
/// # Errors
/// When there is no descriptor to read the certificates with.
///
/// # Panics
/// When the platform has no root certificates: nothing could be delivered.
pub(crate) fn requesting() -> Result<TlsConnector, NoSocket> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() && are_none_left() {
        return Err(NoSocket);
    }
    assert!(!roots.is_empty(), "the platform has root certificates");
    Ok(connector_by(roots))
}

/// What requests are made with where these authorities are known.
pub(crate) fn connector_by(roots: RootCertStore) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(NoCertificate));
    connector(config)
}

/// What a receiver's TLS is looked at with: as requests are made, but with any certificate.
pub(crate) fn looking() -> TlsConnector {
    let provider = Arc::new(provider());
    let looks = Arc::new(Looks(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(looks)
        .with_client_cert_resolver(Arc::new(NoCertificate));
    connector(config)
}

fn connector(mut config: ClientConfig) -> TlsConnector {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// The receiver has asked for a client certificate, and ended the handshake without one.
#[derive(Debug, thiserror::Error)]
#[error("a client certificate is demanded")]
pub(crate) struct CertificateDemanded;

/// Shakes hands.
///
/// # Errors
/// That of the handshake; [`CertificateDemanded`] where that is what was missing: with TLS 1.2, servers call it a handshake failure, as
/// they call ciphers that do not match.
pub(crate) async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &TlsConnector,
    name: ServerName<'static>,
    stream: S,
) -> io::Result<TlsStream<S>> {
    let shaking = async {
        tls.connect(name, stream).await.map_err(|error| {
            let alert = error.get_ref().and_then(|it| it.downcast_ref());
            let is_refused = matches!(
                alert,
                Some(Error::AlertReceived(AlertDescription::HandshakeFailure))
            );
            match is_refused && IS_ASKED.with(Cell::get) {
                true => io::Error::other(CertificateDemanded),
                false => error,
            }
        })
    };
    IS_ASKED.scope(Cell::new(false), shaking).await
}

tokio::task_local! {
    /// Whether the receiver with which hands are shaken has asked for a client certificate.
    static IS_ASKED: Cell<bool>;
}

/// Has no client certificate, and notes that it was asked for one. The same one for all connections, since a session is resumed only
/// with that of its first connection.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<sign::CertifiedKey>> {
        // Outside of a handshake, nobody wants to know.
        let _ = IS_ASKED.try_with(|is_asked| is_asked.set(true));
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
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

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio_rustls::rustls::server::WebPkiClientVerifier;
    use tokio_rustls::rustls::version::TLS12;
    use tokio_rustls::rustls::{HandshakeKind, ServerConfig};

    use super::*;

    /// How much a connection of these tests holds.
    const SIZE: usize = 64 * 1024;

    /// A server of TLS 1.2, which may ask for a client certificate.
    fn server(asks: bool) -> TlsAcceptor {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["erp.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&TLS12])
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider().into())
            .allow_unauthenticated()
            .build();
        let builder = match asks {
            true => builder.with_client_cert_verifier(verifier.unwrap()),
            false => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(vec![cert.der().clone()], key);
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }

    /// What comes of a handshake with a server that ends it with a handshake failure, once the client has answered it.
    async fn refused(asks: bool) -> io::Error {
        let (client, mut wire) = duplex(SIZE);
        let (end, mut behind) = duplex(SIZE);
        tokio::spawn(async move { server(asks).accept(end).await.map(drop) });
        tokio::spawn(async move {
            let (mut asked, mut answered) = (vec![0; SIZE], vec![0; SIZE]);
            let read = wire.read(&mut asked).await.unwrap();
            behind.write_all(&asked[..read]).await.unwrap();
            loop {
                tokio::select! {
                    read = behind.read(&mut answered) => {
                        wire.write_all(&answered[..read.unwrap()]).await.unwrap();
                    }
                    _ = wire.read(&mut asked) => break,
                }
            }
            wire.write_all(&[21, 3, 3, 0, 2, 2, 40]).await.unwrap();
        });
        let name = ServerName::try_from("erp.example").unwrap();
        secure(&looking(), name, client).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_handshake_failure_of_a_server_that_asks_for_a_certificate_is_told_from_others() {
        for asks in [true, false] {
            let error = refused(asks).await;
            let cause = error.get_ref().unwrap();
            assert_eq!(cause.is::<CertificateDemanded>(), asks, "{error:?}");
            assert_eq!(cause.is::<Error>(), !asks, "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_session_is_resumed_by_the_next_connection() {
        let (server, looking) = (server(true), looking());
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (client, end) = duplex(SIZE);
            let name = ServerName::try_from("erp.example").unwrap();
            let (accepted, secured) =
                tokio::join!(server.accept(end), secure(&looking, name, client));
            accepted.unwrap();
            kinds.push(secured.unwrap().get_ref().1.handshake_kind());
        }
        assert_eq!(
            kinds,
            [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]
        );
    }
}
