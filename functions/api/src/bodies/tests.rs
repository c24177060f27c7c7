//! Tests of bodies.

use properties::{Random, RngExt};

use super::*;

#[test]
fn what_does_not_fit_is_named() {
    for (body, named) in [
        (r#"{"integration_type":"permanent"}"#, "id"),
        (r#"{"id":7,"integration_type":"permanent"}"#, "id"),
        (r#"{"id":"a"}"#, "integration_type"),
        (
            r#"{"id":"a","integration_type":"eternal"}"#,
            "integration_type",
        ),
        (
            r#"{"id":"a","integration_type":"permanent","colour":1}"#,
            "colour",
        ),
        (
            r#"{"id":"a","integration_type":"permanent","callback_parameters":{"url":"x"}}"#,
            "callback_parameters.url",
        ),
        (
            r#"{"id":"a","integration_type":"permanent","callback_parameters":{"api_key":1}}"#,
            "callback_parameters.api_key",
        ),
        (
            r#"{"id":"a","integration_type":"permanent","filter_conditions":{"event_filter":["a.b",3]}}"#,
            "filter_conditions.event_filter[1]",
        ),
        (
            r#"{"id":"a","id":"b","integration_type":"permanent"}"#,
            "id",
        ),
    ] {
        let error = parse::<Registration>(body).unwrap_err();
        assert!(error.contains(named), "{body}: {error}");
    }
    for body in ["", "{", "[]", "7", "{} {}", "null"] {
        assert!(parse::<Registration>(body).is_err(), "{body}");
    }
}

/// A request with these headers and this body.
fn request(headers: &[(&str, &str)], body: &[u8]) -> Request {
    use base64::Engine;
    let headers: std::collections::BTreeMap<&str, &str> = headers.iter().copied().collect();
    let body = base64::prelude::BASE64_STANDARD.encode(body);
    let event = serde_json::json!({"headers": headers, "body": body, "isBase64Encoded": true});
    serde_json::from_value(event).unwrap()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(text, flate2::Compression::best());
    let mut bytes = Vec::new();
    encoder.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The body's text, or the status and the message of the refusal.
fn read(request: &Request, max_bytes: usize) -> Result<String, (u16, String)> {
    let text = text(request, &["application/json"], max_bytes);
    text.map(Cow::into_owned).map_err(|error| {
        let answer = error.render("r");
        let body: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
        let message = body["message"].as_str().unwrap().to_owned();
        (answer.status().as_u16(), message)
    })
}

#[test]
fn a_gzip_body_is_read_within_the_limit() {
    let text = br#"{"a":1}"#;
    let members = [gzip(&text[..3]), gzip(&text[3..])].concat();
    for (coding, body) in [
        ("gzip", gzip(text)),
        ("GZIP", gzip(text)),
        (" x-gzip ", gzip(text)),
        ("gzip", members),
        ("identity", text.to_vec()),
        ("", text.to_vec()),
    ] {
        let request = request(&[("Content-Encoding", coding)], &body);
        assert_eq!(read(&request, 7), Ok(r#"{"a":1}"#.to_owned()), "{coding}");
    }
    // 64 MiB of zeros in 64 KiB.
    let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
    assert!(bomb.len() < 100_000);
    let refused = read(&request(&[("content-encoding", "gzip")], &bomb), 1_000);
    assert_eq!(refused.unwrap_err().0, 413);
    for (coding, body, status) in [
        ("gzip", text.to_vec(), 400),
        ("gzip", gzip(text)[..12].to_vec(), 400),
        ("br", text.to_vec(), 415),
        ("deflate", text.to_vec(), 415),
        ("gzip, gzip", gzip(&gzip(text)), 415),
    ] {
        let refused = read(&request(&[("content-encoding", coding)], &body), 1_000);
        let (found, message) = refused.unwrap_err();
        assert_eq!(found, status, "{coding}: {message}");
        assert!(message.contains("gzip"), "{message}");
    }
}

#[test]
fn a_byte_order_mark_is_ignored_and_utf_16_is_named() {
    let text = "\u{feff}{\"a\":\"é\"}";
    let read = |body: &[u8]| read(&request(&[], body), 100);
    assert_eq!(read(text.as_bytes()), Ok("{\"a\":\"é\"}".to_owned()));
    let little =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let big = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    for body in [little(text), big(text), little("{}"), big("{}")] {
        let (status, message) = read(&body).unwrap_err();
        assert_eq!(status, 400);
        assert_eq!(message, "The body is UTF-16; send it as UTF-8.");
    }
    assert_eq!(
        read(b"{\"a\":\"\xff\"}").unwrap_err().1,
        "The body is not UTF-8."
    );
}

#[test]
fn an_array_is_no_object() {
    for (body, named) in [
        (r#"["a","permanent"]"#, "form"),
        (
            r#"{"id":"a","integration_type":"permanent","callback_parameters":["https://a.example/"]}"#,
            "callback_parameters",
        ),
        (
            r#"{"id":"a","integration_type":"permanent","s3_parameters":["a","b","c","d"]}"#,
            "s3_parameters",
        ),
        (
            r#"{"id":"a","integration_type":"permanent","filter_conditions":[["a.b"]]}"#,
            "filter_conditions",
        ),
    ] {
        let error = parse::<Registration>(body).unwrap_err();
        assert!(error.contains(named), "{body}: {error}");
    }
    for body in [
        r#"[null]"#,
        r#"{"callback_parameters":[null,null]}"#,
        r#"{"filter_conditions":[["a.b"]]}"#,
    ] {
        assert!(parse::<Update>(body).is_err(), "{body}");
    }
    assert!(parse::<PublishedEvent>(r#"[null,"a.b",{}]"#).is_err());
}

#[test]
fn null_is_told_from_nothing() {
    let changes: Update = parse(r#"{"filter_conditions":null}"#).unwrap();
    assert!(matches!(changes.filter_conditions, Some(None)));
    let changes: Update = parse("{}").unwrap();
    assert!(changes.filter_conditions.is_none());
    let changes: Update = parse(r#"{"callback_parameters":{"api_key":null}}"#).unwrap();
    assert!(matches!(
        changes.callback_parameters.unwrap().api_key,
        Some(None)
    ));
}

#[test]
fn a_secret_is_not_printed_with_its_body() {
    let body = r#"{"id":"a","integration_type":"permanent","callback_parameters":{"callback_url":"https://a","api_key":"hunter2"}}"#;
    let printed = format!("{:?}", parse::<Registration>(body).unwrap());
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn no_body_makes_it_panic() {
    const WHOLE: [&str; 3] = [
        r#"{"id":"a","integration_type":"permanent","callback_parameters":{"callback_url":"https://a","api_key":"b"},"filter_conditions":{"event_filter":["a.b"]}}"#,
        r#"{"callback_parameters":{"api_key":null},"filter_conditions":null}"#,
        r#"{"id":"1","name":"a.b","payload":{"c":[1.5e3,true]}}"#,
    ];
    let body = |random: &mut Random| {
        if random.random() {
            properties::spelled(
                random,
                "{}[]\":,abcdefghijklmnopqrstuvwxyz0123456789_\\ ",
                80,
            )
        } else {
            let whole = properties::one_of(random, &WHOLE);
            properties::damaged(random, whole, 4)
        }
    };
    properties::holds(body, |body| {
        let _ = parse::<Registration>(body);
        let _ = parse::<Update>(body);
        let _ = parse::<PublishedEvent>(body);
    });
}
