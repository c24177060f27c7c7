//! Why handshakes fail, with servers that speak TLS.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, duplex};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::{connector_by, provider, secure};

/// The host of the receiver.
const HOST: &str = "erp.example";
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Someone who certifies.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// Certified by another one, or by itself.
    fn new(name: &str, by: Option<&Authority>) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let certificate = match by {
            Some(by) => parameters.signed_by(&key, &by.issuer),
            None => parameters.self_signed(&key),
        };
        Authority {
            certificate: certificate.unwrap().into(),
            issuer: Issuer::new(parameters, key),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    /// The certificate of a receiver with these names, and its key.
    fn certify(&self, names: &[&str], until: i32) -> Certified {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(until, 1, 1);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.into(), private(&key))
    }
}

/// A certificate and its key.
type Certified = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// One that has certified itself, as `openssl req -x509` does.
fn self_signed(is_ca: IsCa) -> Certified {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new([HOST.to_owned()]).unwrap();
    parameters.is_ca = is_ca;
    let certificate = parameters.self_signed(&key).unwrap();
    (certificate.into(), private(&key))
}

/// A receiver of these versions, which demands a certificate of this authority if there is one.
fn receiver(
    (certificate, key): Certified,
    versions: &[&'static SupportedProtocolVersion],
    demands: Option<&Authority>,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider().into())
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match demands {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = authority.roots().into();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, provider().into()).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    builder.with_single_cert(vec![certificate], key).unwrap()
}

/// Why a handshake fails with someone who knows these authorities, or what comes behind it.
async fn reason(roots: RootCertStore, receiver: ServerConfig) -> String {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(Arc::new(receiver)).accept(far).await?;
        stream.read(&mut [0]).await
    });
    let name = ServerName::try_from(HOST).unwrap();
    let error = match secure(&connector_by(roots), name, near).await {
        Err(error) => error,
        Ok(mut stream) => stream.read(&mut [0]).await.unwrap_err(),
    };
    let (reason, lack) = transport_reason(&NoResponse::NoConnection(error.into()));
    assert_eq!(lack, Lack::Tls, "{reason}");
    reason.into_owned()
}

#[tokio::test]
async fn a_certificate_that_is_refused_is_refused_with_what_its_owner_can_mend() {
    let known = Authority::new("known", None);
    let between = Authority::new("between", Some(&known));
    let unknown = "the certificate is not signed by an authority that is known, or the receiver \
                   does not send its intermediate certificates";
    for (certified, expected) in [
        (
            self_signed(IsCa::Ca(BasicConstraints::Unconstrained)),
            "the certificate is an authority's own, such as a self-signed one",
        ),
        (self_signed(IsCa::NoCa), unknown),
        (between.certify(&[HOST], 2099), unknown),
        (
            known.certify(&[], 2099),
            "the certificate has no subjectAltName",
        ),
        (
            known.certify(&["shop.example"], 2099),
            "the certificate is for another name",
        ),
        (known.certify(&[HOST], 2021), "the certificate has expired"),
    ] {
        let receiver = receiver(certified, VERSIONS, None);
        assert_eq!(reason(known.roots(), receiver).await, expected);
    }
}

#[tokio::test]
async fn what_a_receiver_demands_is_said() {
    let known = Authority::new("known", None);
    let demanded = "the receiver demands a client certificate, which is never sent";
    for version in VERSIONS {
        let receiver = receiver(known.certify(&[HOST], 2099), &[version], Some(&known));
        let reason = reason(known.roots(), receiver).await;
        assert_eq!(reason, demanded, "{version:?}");
    }
    let mut of_http_2 = receiver(known.certify(&[HOST], 2099), VERSIONS, None);
    of_http_2.alpn_protocols = vec![b"h2".to_vec()];
    assert_eq!(
        reason(known.roots(), of_http_2).await,
        "the receiver does not speak HTTP/1.1"
    );
}
