//! Where a request goes: what a receiver's URL says, taken apart once and not for each event.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use domain::receiver::url::check_url;
use http::{HeaderValue, Uri};
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// How many URLs are remembered.
const MAX_KEPT: usize = 1_000;

/// What a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Whether TLS is spoken.
    pub is_encrypted: bool,
    /// The host.
    pub host: Host,
    /// Its port.
    pub port: u16,
}

/// A host: a name to be resolved, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// What its certificate has to be for; none where it is no name that a certificate can be for.
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            Host::Name(name) => ServerName::try_from(name.clone()).ok(),
            Host::Address(address) => Some((*address).into()),
        }
    }
}

/// A URL that may be called.
#[derive(Debug)]
pub(crate) struct Target {
    /// What is connected to.
    pub origin: Origin,
    /// The header `host`.
    pub host: HeaderValue,
    /// Path and query.
    pub path: Uri,
}

/// Targets by their URLs.
#[derive(Debug)]
pub(crate) struct Targets {
    allow_private: bool,
    kept: Mutex<HashMap<String, Arc<Target>>>,
}

impl Targets {
    /// None yet; `allow_private` lets receivers be called at addresses that are not public, and over plain HTTP.
    pub(crate) fn new(allow_private: bool) -> Targets {
        Targets {
            allow_private,
            kept: Mutex::default(),
        }
    }

    /// The target of a URL; none where it may not be called.
    pub(crate) fn of(&self, url: &str) -> Option<Arc<Target>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = kept.get(url) {
            return Some(Arc::clone(target));
        }
        let target = Arc::new(Target::of(&check_url(url, self.allow_private).ok()?)?);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(url.to_owned(), Arc::clone(&target));
        Some(target)
    }
}

impl Target {
    /// What a URL says that has been checked.
    fn of(url: &Url) -> Option<Target> {
        let is_encrypted = url.scheme() == "https";
        let host = match url.host()? {
            url::Host::Domain(name) => Host::Name(name.to_owned()),
            url::Host::Ipv4(address) => Host::Address(address.into()),
            url::Host::Ipv6(address) => Host::Address(address.into()),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        // The port is left out where it is the scheme's own, as in a URL.
        let authority = match (url.host_str()?, url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        Some(Target {
            origin: Origin {
                is_encrypted,
                host,
                port: url
                    .port()
                    .unwrap_or(if is_encrypted { HTTPS } else { HTTP }),
            },
            host: authority.parse().ok()?,
            path: path.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let targets = Targets::new(true);
        for (url, is_encrypted, host, port, path) in [
            (
                "https://erp.example/events",
                true,
                "erp.example",
                443,
                "/events",
            ),
            ("https://ERP.example:443", true, "erp.example", 443, "/"),
            (
                "https://erp.example:8443/a%20b?x=1&y=é",
                true,
                "erp.example:8443",
                8443,
                "/a%20b?x=1&y=%C3%A9",
            ),
            ("http://127.0.0.1:80/", false, "127.0.0.1", 80, "/"),
            ("http://[::1]:9/h?", false, "[::1]:9", 9, "/h?"),
            (
                "https://bücher.example/",
                true,
                "xn--bcher-kva.example",
                443,
                "/",
            ),
        ] {
            let target = targets.of(url).unwrap();
            let origin = &target.origin;
            assert_eq!(
                (origin.is_encrypted, origin.port),
                (is_encrypted, port),
                "{url}"
            );
            assert_eq!(
                (target.host.as_bytes(), target.path.to_string().as_str()),
                (host.as_bytes(), path),
                "{url}"
            );
            let is_address = url::Url::parse(url).unwrap().domain().is_none();
            assert_eq!(matches!(origin.host, Host::Address(_)), is_address, "{url}");
            assert!(Arc::ptr_eq(&target, &targets.of(url).unwrap()), "{url}");
        }
        assert!(targets.of("ftp://erp.example/").is_none());
        assert!(Targets::new(false).of("http://erp.example/").is_none());
    }
}
