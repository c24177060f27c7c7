//! Why an exchange with a receiver failed, in words that its owner can act on.

use std::error::Error;
use std::io::ErrorKind;

use domain::receiver::outcome::Lack;

use crate::resolver::{NotPublic, NotResolved};

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
}

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
pub(crate) fn transport_reason(error: &NoResponse) -> (&'static str, Lack) {
    match error {
        NoResponse::NoConnectionInTime => ("no connection within 5 seconds", Lack::Time),
        NoResponse::InTime => ("no response within 15 seconds", Lack::Time),
        NoResponse::NoConnection(error) => {
            known(error.as_ref()).unwrap_or(("the connection could not be made", Lack::Connection))
        }
        NoResponse::Broken(error) => {
            known(error).unwrap_or(("the connection broke", Lack::Connection))
        }
    }
}

fn known(error: &(dyn Error + 'static)) -> Option<(&'static str, Lack)> {
    causes(error).find_map(known_cause)
}

/// What a cause is called that its owner can mend.
fn known_cause(cause: &(dyn Error + 'static)) -> Option<(&'static str, Lack)> {
    if cause.is::<NotPublic>() {
        return Some(("the address is not allowed", Lack::Blocked));
    }
    if cause.is::<NotResolved>() {
        return Some(("the host name could not be resolved", Lack::Name));
    }
    if let Some(error) = cause.downcast_ref::<std::io::Error>() {
        return match error.kind() {
            ErrorKind::ConnectionRefused => Some(("the connection was refused", Lack::Connection)),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                Some(("the host is unreachable", Lack::Connection))
            }
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        let is_parse = error.is_parse();
        return is_parse.then_some(("the response is not valid HTTP", Lack::Protocol));
    }
    let reason = match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(certificate) => certificate_reason(certificate),
        rustls::Error::InvalidMessage(_) => "the response is not TLS",
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => {
            "no TLS version and cipher were agreed on"
        }
        _ => return None,
    };
    Some((reason, Lack::Tls))
}

fn certificate_reason(error: &rustls::CertificateError) -> &'static str {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, Revoked, UnknownIssuer,
    };
    match error {
        Expired | ExpiredContext { .. } => "the certificate has expired",
        NotValidYet | NotValidYetContext { .. } => "the certificate is not valid yet",
        NotValidForName | NotValidForNameContext { .. } => "the certificate is for another name",
        UnknownIssuer | BadSignature => {
            "the certificate is not signed by an authority that is known"
        }
        Revoked => "the certificate was revoked",
        _ => "the certificate is not valid",
    }
}
