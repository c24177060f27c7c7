//! Why an exchange with a receiver failed, in words that its owner can act on.

use std::borrow::Cow;
use std::error::Error;
use std::io::ErrorKind;

use domain::receiver::outcome::Lack;
use rustls::{AlertDescription, CertificateError};

use crate::resolver::{NotPublic, NotResolved};
use crate::sockets::NoSocket;
use crate::tls::CertificateDemanded;

/// Why no response came.
#[derive(Debug)]
pub(crate) enum NoResponse {
    /// Connecting took too long.
    NoConnectionInTime,
    /// The whole exchange took too long.
    InTime,
    /// There is no connection.
    NoConnection(Box<dyn Error + Send + Sync>),
    /// The connection ended, or what came is no response.
    Broken(hyper::Error),
    /// The process had no socket for it.
    NoSocket,
}

impl From<NoSocket> for NoResponse {
    fn from(_: NoSocket) -> NoResponse {
        NoResponse::NoSocket
    }
}

/// A reason, for the integration log, and its class.
type Reason = (Cow<'static, str>, Lack);

/// What a failure of ours is called.
const NO_SOCKET: &str = "no connection was free here";
/// What a receiver wants that asks for a certificate.
const DEMANDED: &str = "the receiver demands a client certificate, which is never sent";

/// An error and all that it came from. What an I/O error wraps is not among its sources.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        let wrapped = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
        Some(cause)
    })
}

/// Whether the exchange ended because the connection was closed or reset, before any of a response had come.
pub(crate) fn is_closed(error: &hyper::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return true;
    }
    causes(error).any(|cause| {
        let kind = cause.downcast_ref().map(std::io::Error::kind);
        let is_end = |kind| {
            matches!(
                kind,
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
            )
        };
        kind.is_some_and(is_end)
    })
}

/// What a failed exchange is called in the integration log, neither with addresses nor with the resolver's words; and its class.
pub(crate) fn transport_reason(error: &NoResponse) -> Reason {
    let fixed = |reason, lack| (Cow::Borrowed(reason), lack);
    match error {
        NoResponse::NoConnectionInTime => fixed("no connection within 5 seconds", Lack::Time),
        NoResponse::InTime => fixed("no response within 15 seconds", Lack::Time),
        NoResponse::NoSocket => fixed(NO_SOCKET, Lack::Socket),
        NoResponse::NoConnection(error) => known(error.as_ref())
            .unwrap_or_else(|| fixed("the connection could not be made", Lack::Connection)),
        NoResponse::Broken(error) => {
            known(error).unwrap_or_else(|| fixed("the connection broke", Lack::Connection))
        }
    }
}

fn known(error: &(dyn Error + 'static)) -> Option<Reason> {
    causes(error).find_map(known_cause)
}

/// What a cause is called that its owner can mend.
fn known_cause(cause: &(dyn Error + 'static)) -> Option<Reason> {
    let (reason, lack) = if cause.is::<NoSocket>() {
        (NO_SOCKET, Lack::Socket)
    } else if cause.is::<NotPublic>() {
        ("the address is not allowed", Lack::Blocked)
    } else if cause.is::<NotResolved>() {
        ("the host name could not be resolved", Lack::Name)
    } else if cause.is::<CertificateDemanded>() {
        (DEMANDED, Lack::Tls)
    } else if let Some(error) = cause.downcast_ref::<std::io::Error>() {
        let reason = match error.kind() {
            ErrorKind::ConnectionRefused => "the connection was refused",
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "the host is unreachable",
            _ => return None,
        };
        (reason, Lack::Connection)
    } else if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        let is_parse = error.is_parse();
        return is_parse.then_some(("the response is not valid HTTP".into(), Lack::Protocol));
    } else {
        let reason = tls_reason(cause.downcast_ref()?)?;
        return Some((reason, Lack::Tls));
    };
    Some((reason.into(), lack))
}

fn tls_reason(error: &rustls::Error) -> Option<Cow<'static, str>> {
    Some(match error {
        rustls::Error::InvalidCertificate(certificate) => certificate_reason(certificate).into(),
        rustls::Error::InvalidMessage(_) => "the response is not TLS".into(),
        rustls::Error::PeerIncompatible(_) => NOTHING_AGREED.into(),
        rustls::Error::NoApplicationProtocol => NO_HTTP_1.into(),
        rustls::Error::AlertReceived(alert) => alert_reason(*alert),
        _ => return None,
    })
}

const NOTHING_AGREED: &str = "no TLS version and cipher were agreed on";
const NO_HTTP_1: &str = "the receiver does not speak HTTP/1.1";

/// Why the receiver ended the handshake, as it says itself (RFC 8446, section 6.2).
fn alert_reason(alert: AlertDescription) -> Cow<'static, str> {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateRequired, HandshakeFailure, InsufficientSecurity,
        NoApplicationProtocol, ProtocolVersion, UnrecognisedName,
    };
    match alert {
        HandshakeFailure | ProtocolVersion | InsufficientSecurity => NOTHING_AGREED.into(),
        CertificateRequired | BadCertificate | AccessDenied => DEMANDED.into(),
        NoApplicationProtocol => NO_HTTP_1.into(),
        UnrecognisedName => "the receiver does not know this host name".into(),
        alert => {
            let number = u8::from(alert);
            format!("the receiver ended the handshake (TLS alert {number})").into()
        }
    }
}

fn certificate_reason(error: &CertificateError) -> &'static str {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, Other, Revoked, UnknownIssuer,
    };
    match error {
        Expired | ExpiredContext { .. } => "the certificate has expired",
        NotValidYet | NotValidYetContext { .. } => "the certificate is not valid yet",
        // Not a word of a common name, which is not looked at.
        NotValidForName => "the certificate is for another name",
        NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "the certificate has no subjectAltName"
        }
        NotValidForNameContext { .. } => "the certificate is for another name",
        UnknownIssuer | BadSignature => {
            "the certificate is not signed by an authority that is known, or the receiver does not \
             send its intermediate certificates"
        }
        Revoked => "the certificate was revoked",
        Other(rustls::OtherError(error))
            if matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            "the certificate is an authority's own, such as a self-signed one"
        }
        _ => "the certificate is not valid",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    /// As it comes from a connection: wrapped by I/O.
    fn reason(error: rustls::Error) -> Reason {
        transport_reason(&NoResponse::NoConnection(Box::new(std::io::Error::other(
            error,
        ))))
    }

    #[test]
    fn an_alert_is_called_what_the_receiver_wants() {
        use AlertDescription::{
            AccessDenied, BadCertificate, CertificateRequired, HandshakeFailure,
            InsufficientSecurity, InternalError, NoApplicationProtocol, ProtocolVersion,
            UnrecognisedName,
        };
        for (alert, expected) in [
            (CertificateRequired, DEMANDED),
            (BadCertificate, DEMANDED),
            (AccessDenied, DEMANDED),
            (NoApplicationProtocol, NO_HTTP_1),
            (
                UnrecognisedName,
                "the receiver does not know this host name",
            ),
            (HandshakeFailure, NOTHING_AGREED),
            (ProtocolVersion, NOTHING_AGREED),
            (InsufficientSecurity, NOTHING_AGREED),
            (
                InternalError,
                "the receiver ended the handshake (TLS alert 80)",
            ),
        ] {
            let (reason, lack) = reason(rustls::Error::AlertReceived(alert));
            assert_eq!((&*reason, lack), (expected, Lack::Tls), "{alert:?}");
        }
        let demanded = std::io::Error::other(CertificateDemanded);
        let (reason, lack) = transport_reason(&NoResponse::NoConnection(demanded.into()));
        assert_eq!((&*reason, lack), (DEMANDED, Lack::Tls));
    }

    #[test]
    fn a_certificate_is_refused_with_what_its_owner_can_mend() {
        let other = |error: webpki::Error| CertificateError::Other(OtherError(Arc::new(error)));
        let for_names = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: "erp.example".try_into().unwrap(),
            presented: presented.iter().map(|&name| name.to_owned()).collect(),
        };
        for (error, expected) in [
            (
                other(webpki::Error::CaUsedAsEndEntity),
                "the certificate is an authority's own, such as a self-signed one",
            ),
            (
                other(webpki::Error::EndEntityUsedAsCa),
                "the certificate is not valid",
            ),
            (
                CertificateError::UnknownIssuer,
                "the certificate is not signed by an authority that is known, or the receiver does \
                 not send its intermediate certificates",
            ),
            (for_names(&[]), "the certificate has no subjectAltName"),
            (
                for_names(&["shop.example"]),
                "the certificate is for another name",
            ),
            (CertificateError::Expired, "the certificate has expired"),
        ] {
            let text = format!("{error:?}");
            let (reason, lack) = reason(rustls::Error::InvalidCertificate(error));
            assert_eq!((&*reason, lack), (expected, Lack::Tls), "{text}");
        }
    }

    #[test]
    fn what_this_process_lacks_is_no_reason_of_the_receivers() {
        for error in [
            NoResponse::NoSocket,
            NoResponse::NoConnection(Box::new(NoSocket)),
            NoResponse::NoConnection(std::io::Error::other(NoSocket).into()),
        ] {
            let (reason, lack) = transport_reason(&error);
            assert_eq!((&*reason, lack), (NO_SOCKET, Lack::Socket), "{error:?}");
        }
    }
}
