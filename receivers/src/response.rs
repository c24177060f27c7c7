//! What a receiver's response means.

use std::time::{Duration, UNIX_EPOCH};

use domain::integration_log::clip;
use domain::receiver::outcome::{Failure, Outcome};
use domain::time::Millis;
use http::StatusCode;
use http::header::HeaderValue;

/// How much of a response is kept with a rejected event.
pub(crate) const MAX_KEPT_BYTES: usize = 1024;

/// The start of a response, as text that can be shown: without control characters. What is no text, since it is compressed
/// though nothing asked for that, is named instead.
pub(crate) fn readable(start: &[u8], coding: Option<&HeaderValue>) -> String {
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

/// How much of the address is named that a redirect leads to.
const MAX_LOCATION: usize = 200;

/// What a status means. `shown` is the start of the body, and `location` where a redirect leads to.
pub(crate) fn outcome(
    status: StatusCode,
    retry_after: Option<Duration>,
    location: Option<&HeaderValue>,
    shown: &str,
) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Delivered,
        StatusCode::BAD_REQUEST => Outcome::Rejected(shown.to_owned()),
        StatusCode::GONE => Outcome::Gone,
        status => {
            let name = status
                .canonical_reason()
                .unwrap_or("unexpected answer")
                .to_lowercase();
            let mut reason = format!("{name} (HTTP status code {})", status.as_u16());
            if status.is_redirection()
                && let Some(location) = location.filter(|location| !location.is_empty())
            {
                let location = readable(location.as_bytes(), None);
                reason += &format!(", to {}", clip(&location, MAX_LOCATION));
            }
            let is_refusal = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            );
            Outcome::Failed(Failure {
                reason,
                retry_after,
                is_refusal,
            })
        }
    }
}

/// `Retry-After` in seconds or as an HTTP date, of which there are three forms (RFC 9110, sections 10.2.3 and 5.6.7).
pub(crate) fn retry_after(value: Option<&HeaderValue>, now: Millis) -> Option<Duration> {
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
            assert_eq!(outcome(status, None, None, &shown), expected, "{status}");
        }
        for status in [301, 304, 401, 404, 408, 422, 429, 500, 503, 599] {
            assert!(
                matches!(
                    outcome(StatusCode::from_u16(status).unwrap(), None, None, ""),
                    Outcome::Failed(_)
                ),
                "{status}"
            );
        }
        let Outcome::Failed(failure) = outcome(StatusCode::TOO_MANY_REQUESTS, None, None, "")
        else {
            panic!("429 is a failure")
        };
        assert_eq!(failure.reason, "too many requests (HTTP status code 429)");
    }

    #[test]
    fn a_redirect_says_where_it_leads_to() {
        let reason = |status: u16, location: &[u8]| {
            let status = StatusCode::from_u16(status).unwrap();
            let location = HeaderValue::from_bytes(location).unwrap();
            let outcome = outcome(status, None, Some(&location), "");
            outcome.reason().unwrap_or_default().to_owned()
        };
        let moved = "moved permanently (HTTP status code 301)";
        for (status, location, expected) in [
            (
                301,
                &b"https://www.erp.example/hook"[..],
                format!("{moved}, to https://www.erp.example/hook"),
            ),
            (301, b"/a\tb", format!("{moved}, to /ab")),
            (301, b"", moved.to_owned()),
            (
                500,
                b"/a",
                "internal server error (HTTP status code 500)".to_owned(),
            ),
            (
                301,
                &[b'x'; 300],
                format!("{moved}, to {}", "x".repeat(MAX_LOCATION)),
            ),
        ] {
            assert_eq!(reason(status, location), expected);
        }
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
