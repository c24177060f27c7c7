//! One POST to a receiver, and what its answer means. The only place that knows receivers' HTTP statuses.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use http::StatusCode;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
    RETRY_AFTER,
};
use url::{Host, Url};

use crate::address::{can_be_public, is_host_name, is_public};
use crate::clock::Millis;
use crate::history::clip;
use crate::resolver::{NotPublic, NotResolved, PublicResolver};
use crate::secrets::Secret;

/// How long a connection may take to be made (contract, section 2).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole exchange may take (contract, section 2).
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of an answer is read (contract, section 2).
pub const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// How much of an answer is kept with a rejected event.
const MAX_KEPT_BYTES: usize = 1024;
/// How many hosts are remembered as having been connected to.
const MAX_HOSTS: usize = 1_000;
/// The longest URL.
pub const MAX_URL_CHARS: usize = 2_048;
/// How long an unused connection is kept: longer than Lambda freezes a busy function, shorter than most servers wait.
const KEPT_IDLE: Duration = Duration::from_secs(50);

/// What came of an attempt. A receiver's answer is a value, never an error of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx: the receiver has it.
    Delivered,
    /// 400: the receiver will never take this event. The start of its answer, without control characters.
    Rejected(String),
    /// 410: the receiver wants nothing any more.
    Gone,
    /// Anything else: to be tried again.
    Failed(Failure),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the integration log: `too many requests (HTTP status code 429)`.
    pub reason: String,
    /// How long the receiver asks us to wait.
    pub retry_after: Option<Duration>,
}

/// Calls receivers. Keeps connections, and the TLS sessions to resume, from one call to the next.
#[derive(Clone, Debug)]
pub struct Receivers {
    client: reqwest::Client,
    /// Keeps no connection: each of its requests has one of its own. Made when it is needed first.
    fresh: Arc<OnceLock<reqwest::Client>>,
    resolver: Arc<PublicResolver>,
    allow_private: bool,
    /// How long a whole exchange may take.
    exchange_timeout: Duration,
    /// When an exchange with a host ended last: from then on a connection may have been kept.
    kept: Arc<Mutex<HashMap<String, Instant>>>,
}

/// One event on its way to a receiver.
#[derive(Debug)]
pub struct Post<'a> {
    /// The receiver's address.
    pub url: &'a str,
    /// Sent as `Authorization: Bearer <api_key>`.
    pub api_key: Option<&'a Secret>,
    /// The event's id.
    pub event_id: &'a str,
    /// The envelope.
    pub body: &'a str,
}

impl Receivers {
    /// `allow_private` lets receivers be called at addresses that are not public, and over plain HTTP.
    ///
    /// # Panics
    /// When the platform has no usable root certificates: nothing could be delivered then.
    pub fn new(allow_private: bool) -> Receivers {
        Receivers::with_resolver(allow_private, PublicResolver::new(allow_private))
    }

    /// As [`Receivers::new`], with a resolver of its own.
    pub(crate) fn with_resolver(allow_private: bool, resolver: PublicResolver) -> Receivers {
        let resolver = Arc::new(resolver);
        Receivers {
            client: client(&resolver, true),
            fresh: Arc::default(),
            resolver,
            allow_private,
            exchange_timeout: EXCHANGE_TIMEOUT,
            kept: Arc::default(),
        }
    }

    /// Sends one event, at `now`.
    pub async fn post(&self, post: &Post<'_>, now: Millis) -> Outcome {
        let url = match check_url(post.url, self.allow_private) {
            Ok(url) => url,
            Err(_) => return failed("the address is not allowed"),
        };
        let host = url.authority().to_owned();
        let headers = match headers(post, now) {
            Ok(headers) => headers,
            Err(_) => return failed("the api_key cannot be sent in a header"),
        };
        let ends_at = Instant::now() + self.exchange_timeout;
        let request = |client: &reqwest::Client| {
            client
                .post(url.clone())
                .headers(headers.clone())
                .timeout(ends_at.saturating_duration_since(Instant::now()))
                .body(post.body.to_owned())
        };
        let mut sent = request(&self.client).send().await;
        // A kept connection that the receiver has closed meanwhile says nothing about the receiver. Other kept ones may be
        // closed as well, so the second request has a connection of its own, within what is left of the time.
        if let Err(error) = &sent
            && self.may_be_kept(&host)
            && is_closed(error)
        {
            sent = request(self.fresh()).send().await;
        }
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => return failed(transport_reason(&error)),
        };
        let (status, retry_after) = (
            response.status(),
            retry_after(response.headers().get(RETRY_AFTER), now),
        );
        let coding = response.headers().get(CONTENT_ENCODING).cloned();
        // Read so that the connection can be used again; an answer that is longer closes it. Whatever becomes of the rest, the
        // status has been received: it decides.
        let (mut read, mut start) = (0, Vec::new());
        while read < MAX_ANSWER_BYTES {
            let Ok(Some(chunk)) = response.chunk().await else {
                break;
            };
            read += chunk.len();
            let room = (MAX_KEPT_BYTES - start.len()).min(chunk.len());
            start.extend_from_slice(&chunk[..room]);
        }
        self.keep(host);
        outcome(status, retry_after, &readable(&start, coding.as_ref()))
    }

    fn fresh(&self) -> &reqwest::Client {
        self.fresh.get_or_init(|| client(&self.resolver, false))
    }

    /// Whether an earlier exchange with this host may have left a connection.
    fn may_be_kept(&self, host: &str) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(host)
            .is_some_and(|ended_at| ended_at.elapsed() < KEPT_IDLE)
    }

    fn keep(&self, host: String) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_HOSTS {
            kept.retain(|_, ended_at| ended_at.elapsed() < KEPT_IDLE);
        }
        if kept.len() < MAX_HOSTS {
            kept.insert(host, Instant::now());
        }
    }
}

/// An HTTP client that keeps connections or not.
fn client(resolver: &Arc<PublicResolver>, keeps: bool) -> reqwest::Client {
    reqwest::Client::builder()
        .user_agent(concat!("event-stream/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(KEPT_IDLE)
        .pool_max_idle_per_host(if keeps { usize::MAX } else { 0 })
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        // What old servers send, and every other client takes (RFC 9112, sections 5.1 and 5.2).
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .min_tls_version(reqwest::tls::Version::TLS_1_2)
        .dns_resolver(resolver.clone())
        .build()
        .expect("an HTTP client can be built")
}

/// The headers of a request.
fn headers(post: &Post<'_>, now: Millis) -> Result<HeaderMap, http::header::InvalidHeaderValue> {
    let mut headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        // The start of a response is kept to be read by people.
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
    ]);
    headers.insert("webhook-id", HeaderValue::try_from(post.event_id)?);
    headers.insert("webhook-timestamp", HeaderValue::from(now.epoch_seconds()));
    if let Some(api_key) = post.api_key {
        let mut value = HeaderValue::try_from(format!("Bearer {}", api_key.expose()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// An error and all that it came from. What an I/O error wraps stands beside it.
fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next: Option<&'a (dyn Error + 'static)> = Some(error);
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
fn is_closed(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if error.is_timeout() || error.is_connect() {
        return false;
    }
    causes(error).any(|cause| {
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            return error.is_incomplete_message() || error.is_canceled() || error.is_closed();
        }
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

/// Checks a receiver's URL: https (http where private receivers are allowed), at most [`MAX_URL_CHARS`], a host, no
/// userinfo, no fragment; not an address that is not public, however it is spelled, nor a name that cannot be public.
///
/// # Errors
/// A sentence for the caller.
pub fn check_url(text: &str, allow_private: bool) -> Result<Url, String> {
    if text.chars().count() > MAX_URL_CHARS {
        return Err(format!(
            "must not be longer than {MAX_URL_CHARS} characters"
        ));
    }
    // Backslashes are slashes to some parsers and part of a name to others: what we check would not be what others read.
    if text
        .chars()
        .any(|letter| letter.is_control() || letter.is_whitespace() || letter == '\\')
    {
        return Err("must not contain spaces, backslashes or control characters".to_owned());
    }
    let url = Url::parse(text)
        .map_err(|_| "must be an absolute URL such as https://erp.example.com/events".to_owned())?;
    let begins_with = |start: &str| {
        text.get(..start.len())
            .is_some_and(|given| given.eq_ignore_ascii_case(start))
    };
    let is_allowed = begins_with("https://") || (allow_private && begins_with("http://"));
    if !is_allowed {
        return Err("must begin with https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or a password".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not contain a fragment (#)".to_owned());
    }
    if url.port() == Some(0) {
        return Err("must not have the port 0".to_owned());
    }
    let public = match url.host() {
        None => return Err("must name a host".to_owned()),
        Some(Host::Domain(name)) if !is_host_name(name) => {
            return Err("must name a host that can exist: letters, digits, dashes and dots, with no placeholder left in it".to_owned());
        }
        Some(Host::Domain(name)) => can_be_public(name),
        Some(Host::Ipv4(address)) => is_public(address.into()),
        Some(Host::Ipv6(address)) => is_public(address.into()),
    };
    if !public && !allow_private {
        return Err("must be an address of the public internet".to_owned());
    }
    Ok(url)
}

fn failed(reason: impl Into<String>) -> Outcome {
    Outcome::Failed(Failure {
        reason: reason.into(),
        retry_after: None,
    })
}

/// The start of a response, as text that can be shown: without control characters. What is no text, since it is compressed
/// though nothing asked for that, is named instead.
fn readable(start: &[u8], coding: Option<&HeaderValue>) -> String {
    let coding = coding.and_then(|value| value.to_str().ok());
    if let Some(coding) = coding.filter(|coding| !coding.trim().eq_ignore_ascii_case("identity"))
        && !start.is_empty()
    {
        return format!("(compressed: {})", clip(coding, 40));
    }
    let mut text = String::from_utf8_lossy(start).into_owned();
    let is_odd = |letter: &char| {
        *letter == char::REPLACEMENT_CHARACTER || (letter.is_control() && !letter.is_whitespace())
    };
    if text.chars().filter(is_odd).count() * 8 > text.chars().count() {
        return "(not text)".to_owned();
    }
    text.retain(|letter| !letter.is_control());
    clip(&text, MAX_KEPT_BYTES).to_owned()
}

fn outcome(status: StatusCode, retry_after: Option<Duration>, shown: &str) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Delivered,
        StatusCode::BAD_REQUEST => Outcome::Rejected(shown.to_owned()),
        StatusCode::GONE => Outcome::Gone,
        status => {
            let name = status
                .canonical_reason()
                .unwrap_or("unexpected answer")
                .to_lowercase();
            let reason = format!("{name} (HTTP status code {})", status.as_u16());
            Outcome::Failed(Failure {
                reason,
                retry_after,
            })
        }
    }
}

/// What a failed exchange is called in the integration log: neither addresses nor the resolver's words.
fn transport_reason(error: &reqwest::Error) -> &'static str {
    if let Some(reason) = causes(error).find_map(known_cause) {
        return reason;
    }
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => "no connection within 5 seconds",
        (true, false) => "no answer within 15 seconds",
        (false, true) => "the connection could not be made",
        (false, false) => "the connection broke",
    }
}

/// What a cause is called that its owner can mend.
fn known_cause(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if cause.is::<NotPublic>() {
        return Some("the address is not allowed");
    }
    if cause.is::<NotResolved>() {
        return Some("the host name could not be resolved");
    }
    if let Some(error) = cause.downcast_ref::<std::io::Error>() {
        let is_refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
        return is_refused.then_some("the connection was refused");
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return error
            .is_parse()
            .then_some("what was answered is not HTTP that can be read");
    }
    match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(certificate) => Some(certificate_reason(certificate)),
        rustls::Error::InvalidMessage(_) => Some("what was answered is not TLS"),
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => {
            Some("no TLS version and cipher were agreed on")
        }
        _ => None,
    }
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

/// `Retry-After` in seconds or as an HTTP date, of which there are three forms (RFC 9110, sections 10.2.3 and 5.6.7).
fn retry_after(value: Option<&HeaderValue>, now: Millis) -> Option<Duration> {
    let text = value?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Millis(0).after(since_epoch).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_receivers_are_public_https() {
        for url in [
            "https://erp.example.com",
            "https://erp.example.com:8443/a/b?c=d",
            "https://8.8.8.8/x",
            "https://xn--mnchen-3ya.example/",
            "https://münchen.example/",
            "https://erp.example.com./",
            "HTTPS://ERP.EXAMPLE.COM/",
            "https://erp_1.example.com/",
            "https://[2606:4700::1111]/",
        ] {
            assert!(check_url(url, false).is_ok(), "{url}");
        }
        for url in [
            "",
            "erp.example.com",
            "http://erp.example.com",
            "ftp://erp.example.com",
            "https://",
            "https://user@erp.example.com/",
            "https://user:pw@erp.example.com/",
            "https://:pw@erp.example.com/",
            "https://erp.example.com/#part",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fe80::1%25eth0]/",
            "https://169.254.169.254/latest/meta-data",
            "https://127.1/",
            "https://erp.example.com/a b",
            "https://erp.example.com/\u{7}",
            "javascript:alert(1)",
            "https:erp.example.com",
            "https:/erp.example.com",
            "https:\\\\erp.example.com\\",
            "https://erp.example.com\\@127.0.0.1/",
            "https://127.0.0.1\\@erp.example.com/",
            "https://erp.example.com:0/",
            "https://erp.example.com:65536/",
            "https://a..example/",
            "https://.example.com/",
            "https://erp.example.com../",
            &format!("https://{}.example/", "a".repeat(64)),
            &format!("https://{}example/", "a.".repeat(124)),
            // Loopback and the metadata service, in every spelling that a resolver or a parser may take for them.
            "https://127.0.0.1./",
            "https://127.0.0.1.:443/",
            "https://017700000001/",
            "https://0x7f000001/",
            "https://0x7f.0x0.0x0.0x1/",
            "https://0/",
            "https://0x/",
            "https://127.0.1/",
            "https://①②⑦.⓪.⓪.①/",
            "https://１２７.０.０.１/",
            "https://127。0。0。1/",
            "https://%31%32%37.0.0.1/",
            "https://2852039166/",
            "https://0xa9fea9fe/",
            "https://0251.0376.0251.0376/",
            "https://[::]/",
            "https://[::127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://[0:0:0:0:0:ffff:169.254.169.254]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://[2002:7f00:1::]/",
            "https://[::1%25lo]/",
            "https://[::1%lo]/",
            "https://[fd00:ec2::254]/",
            // Names that are never public.
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://ｌｏｃａｌｈｏｓｔ/",
            "https://intranet/",
            "https://intranet./",
            "https://printer.local/",
            "https://ip-10-0-0-1.ec2.internal/",
            // Placeholders that were not filled in, and what else no host is called.
            "https://${CALLBACK_HOST}.example.com/h",
            "https://{{host}}.example.com/",
            "https://$host.example.com/",
            "https://%24host.example.com/",
            "https://<host>.example.com/",
            "https://[host].example.com/",
            "https://a,b.example.com/",
            "https://-a.example.com/",
            "https://a-.example.com/",
            "https://a..example.com/",
            &format!("https://erp.example.com/{}", "a".repeat(2_048)),
        ] {
            assert!(check_url(url, false).is_err(), "{url}");
        }
        assert!(check_url("http://127.0.0.1:9000/hook", true).is_ok());
        assert!(check_url("http://user@127.0.0.1:9000/hook", true).is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_accepted_is_public_https_and_stays_accepted(
            text in r"(https?:/{0,3})?([a-z0-9@:.%\[\]-]{0,12}[./@:\\#?]){0,4}[0-9a-fx.]{0,12}(/[a-z#?]{0,5})?",
        ) {
            if let Ok(url) = check_url(&text, false) {
                proptest::prop_assert_eq!(url.scheme(), "https");
                proptest::prop_assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
                proptest::prop_assert_eq!(check_url(url.as_str(), false), Ok(url.clone()));
                match url.host() {
                    Some(Host::Ipv4(address)) => proptest::prop_assert!(is_public(address.into())),
                    Some(Host::Ipv6(address)) => proptest::prop_assert!(is_public(address.into())),
                    Some(Host::Domain(name)) => proptest::prop_assert!(name.parse::<std::net::IpAddr>().is_err()),
                    None => proptest::prop_assert!(false, "a host"),
                }
            }
        }

        #[test]
        fn no_spelling_of_an_inner_ipv4_address_is_accepted(bits in proptest::num::u32::ANY, spelling in 0_usize..6) {
            let address = std::net::Ipv4Addr::from_bits(bits);
            let [a, b, c, d] = address.octets();
            let host = match spelling {
                0 => address.to_string(),
                1 => bits.to_string(),
                2 => format!("0x{bits:x}"),
                3 => format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
                4 => format!("{a}.{}", bits & 0xff_ffff),
                _ => format!("[::ffff:{address}]"),
            };
            proptest::prop_assert_eq!(check_url(&format!("https://{host}/"), false).is_ok(), is_public(address.into()), "{}", host);
        }
    }

    #[test]
    fn the_status_decides() {
        for (status, expected) in [
            (200, Outcome::Delivered),
            (204, Outcome::Delivered),
            (299, Outcome::Delivered),
            (400, Outcome::Rejected("no such item".into())),
            (410, Outcome::Gone),
        ] {
            let shown = readable(b"no such\r\n item\x07", None);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(outcome(status, None, &shown), expected, "{status}");
        }
        for status in [301, 304, 401, 404, 408, 422, 429, 500, 503, 599] {
            assert!(
                matches!(
                    outcome(StatusCode::from_u16(status).unwrap(), None, ""),
                    Outcome::Failed(_)
                ),
                "{status}"
            );
        }
        let Outcome::Failed(failure) = outcome(StatusCode::TOO_MANY_REQUESTS, None, "") else {
            panic!("429 is a failure")
        };
        assert_eq!(failure.reason, "too many requests (HTTP status code 429)");
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let read = |text: &str| {
            retry_after(
                Some(&HeaderValue::from_str(text).unwrap()),
                Millis(1_445_412_470_000),
            )
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            read("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::from_secs(10))
        );
        assert_eq!(read("Wed, 21 Oct 2015 07:27:00 GMT"), Some(Duration::ZERO));
        // The obsolete forms: RFC 850's, and that of C's asctime.
        for date in [
            " Wed, 21 Oct 2015 07:28:00 GMT ",
            "Wednesday, 21-Oct-15 07:28:00 GMT",
            "Wed Oct 21 07:28:00 2015",
        ] {
            assert_eq!(read(date), Some(Duration::from_secs(10)), "{date}");
        }
        for text in ["", "soon", "-1", "1.5"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_with_an_inner_address_is_refused_where_it_is_connected() {
        let receivers = Receivers::new(false);
        let post = Post {
            url: "https://localhost:1/",
            api_key: None,
            event_id: "e",
            body: "{}",
        };
        let Outcome::Failed(failure) = receivers.post(&post, Millis(0)).await else {
            panic!("localhost is not public")
        };
        assert_eq!(failure.reason, "the address is not allowed");
    }

    /// Serves one connection after another, each with as many answers as are left before it closes without a word.
    fn serve(connections: Vec<u32>) -> (String, std::thread::JoinHandle<Vec<u32>>) {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let serve = |answers: u32| {
                let (mut connection, _) = listener.accept().unwrap();
                let mut requests = 0;
                // The last request is read, and answered by closing.
                for n in 0..=answers {
                    let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
                    while !text.ends_with(b"\r\n\r\n{}") {
                        match connection.read(&mut buffer).unwrap() {
                            0 => return requests,
                            read => text.extend_from_slice(&buffer[..read]),
                        }
                    }
                    requests += 1;
                    if n < answers {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        connection.write_all(answer).unwrap();
                    }
                }
                requests
            };
            connections.into_iter().map(serve).collect()
        });
        (url, served)
    }

    #[tokio::test]
    async fn a_kept_connection_that_was_closed_is_made_anew_and_counts_for_nothing() {
        let (url, served) = serve(vec![1, 1]);
        let receivers = Receivers::new(true);
        let post = Post {
            url: &url,
            api_key: None,
            event_id: "e",
            body: "{}",
        };
        for attempt in ["on a new connection", "on a kept one, then on a new one"] {
            let outcome = receivers.post(&post, Millis(0)).await;
            assert_eq!(outcome, Outcome::Delivered, "{attempt}");
        }
        drop(receivers);
        let served = tokio::task::spawn_blocking(|| served.join().unwrap());
        assert_eq!(served.await.unwrap(), [2, 1]);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_at_once_is_a_failed_attempt() {
        let (url, served) = serve(vec![0]);
        let post = Post {
            url: &url,
            api_key: None,
            event_id: "e",
            body: "{}",
        };
        let Outcome::Failed(failure) = Receivers::new(true).post(&post, Millis(0)).await else {
            panic!("nothing was answered")
        };
        assert_eq!(failure.reason, "the connection broke");
        assert_eq!(served.join().unwrap(), [1], "it is not tried twice");
    }

    /// What a connection does with the request behind its last answer.
    #[derive(Clone, Copy, Debug)]
    enum End {
        /// It closes (FIN), after a while.
        Close(Duration),
        /// It resets (RST).
        Reset,
    }

    /// Serves any number of connections: each answers its first request with these bytes, and ends at its second. All of the
    /// first `together` requests are answered once they are there. Returns the URL, and how many requests have come.
    async fn serve_raw(
        answer: &'static [u8],
        end: End,
        together: usize,
    ) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
        use std::sync::atomic::{AtomicUsize, Ordering};
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let requests = counter.clone();
                tokio::spawn(async move {
                    for is_first in [true, false] {
                        let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
                        while !text.ends_with(b"\r\n\r\n{}") {
                            match stream.read(&mut buffer).await {
                                Ok(read) if read > 0 => text.extend_from_slice(&buffer[..read]),
                                _ => return,
                            }
                        }
                        let count = requests.fetch_add(1, Ordering::SeqCst) + 1;
                        match end {
                            _ if is_first => {
                                while count <= together
                                    && requests.load(Ordering::SeqCst) < together
                                {
                                    tokio::task::yield_now().await;
                                }
                                let _ = stream.write_all(answer).await;
                                if !answer.ends_with(b"\r\n\r\n") {
                                    return;
                                }
                            }
                            End::Close(pause) => tokio::time::sleep(pause).await,
                            End::Reset => stream.set_zero_linger().unwrap(),
                        }
                    }
                });
            }
        });
        (url, requests)
    }

    const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    fn to(url: &str) -> Post<'_> {
        Post {
            url,
            api_key: None,
            event_id: "e",
            body: "{}",
        }
    }

    #[tokio::test]
    async fn kept_connections_that_end_at_their_second_request_count_for_nothing() {
        use std::sync::atomic::Ordering;
        for end in [End::Close(Duration::ZERO), End::Reset] {
            let (url, requests) = serve_raw(EMPTY, end, 10).await;
            let receivers = Receivers::new(true);
            // Ten connections are kept, and all of them are dead.
            let ten = (0..10).map(|_| async { receivers.post(&to(&url), Millis(0)).await });
            for outcome in futures_util::future::join_all(ten).await {
                assert_eq!(outcome, Outcome::Delivered, "{end:?}");
            }
            for n in 0..12 {
                let before = requests.load(Ordering::SeqCst);
                let outcome = receivers.post(&to(&url), Millis(0)).await;
                assert_eq!(outcome, Outcome::Delivered, "{end:?} {n}");
                let made = requests.load(Ordering::SeqCst) - before;
                assert!(made <= 2, "{end:?} {n}: {made} requests");
            }
        }
    }

    #[tokio::test]
    async fn a_second_request_has_what_is_left_of_the_time() {
        let (first, _) = serve_raw(EMPTY, End::Close(Duration::from_millis(1_800)), 0).await;
        let mut receivers = Receivers::new(true);
        receivers.exchange_timeout = Duration::from_secs(2);
        assert_eq!(
            receivers.post(&to(&first), Millis(0)).await,
            Outcome::Delivered
        );
        // The kept connection is closed after 1.8 s; the new one is answered at once, but not more slowly than in 0.2 s.
        let began = Instant::now();
        assert_eq!(
            receivers.post(&to(&first), Millis(0)).await,
            Outcome::Delivered
        );
        assert!(began.elapsed() < Duration::from_secs(2));
        let (silent, _) = serve_raw(b"", End::Reset, usize::MAX).await;
        let began = Instant::now();
        let Outcome::Failed(failure) = receivers.post(&to(&silent), Millis(0)).await else {
            panic!("nothing was answered")
        };
        assert_eq!(failure.reason, "no answer within 15 seconds");
        assert!(began.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn responses_of_old_servers_are_read() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nx-folded: one\r\n two\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nx-spaced : one\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon at all\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx name: one\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx-latin: \xfcber\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 \xfcber\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\ncontent-length: 0\n\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
            b"HTTP/1.0 200 OK\r\n\r\nuntil it closes",
            b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nuntil it closes",
        ] {
            let (url, _) = serve_raw(answer, End::Reset, 0).await;
            let outcome = Receivers::new(true).post(&to(&url), Millis(0)).await;
            let answer = String::from_utf8_lossy(answer);
            assert_eq!(outcome, Outcome::Delivered, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_http_is_said_to_be_none_and_a_closed_port_to_be_closed() {
        let (url, _) = serve_raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", End::Reset, 0).await;
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed_url = format!("http://{}/", closed.local_addr().unwrap());
        drop(closed);
        for (url, reason) in [
            (url, "what was answered is not HTTP that can be read"),
            (closed_url, "the connection was refused"),
        ] {
            let Outcome::Failed(failure) = Receivers::new(true).post(&to(&url), Millis(0)).await
            else {
                panic!("{reason}")
            };
            assert_eq!(failure.reason, reason);
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xab\x56\x4a\x2c\x28\xc8";
        let coding = |text: &'static str| Some(HeaderValue::from_static(text));
        for (start, coding, shown) in [
            (&gzip[..], coding("gzip"), "(compressed: gzip)"),
            (b"plain", coding("br"), "(compressed: br)"),
            (b"", coding("gzip"), ""),
            (gzip, None, "(not text)"),
            (b"\x00\x01\x02\x03", None, "(not text)"),
            (b"plain", coding("Identity"), "plain"),
            ("für alle".as_bytes(), None, "für alle"),
            (b"f\xfcr alle Artikel", None, "f\u{fffd}r alle Artikel"),
            (b"", None, ""),
        ] {
            assert_eq!(readable(start, coding.as_ref()), shown);
        }
    }
}
