//! Tests of limits.

use super::*;

fn accepts(rule: fn(&str) -> Result<(), String>, good: &[&str], bad: &[&str]) {
    for text in good {
        assert_eq!(rule(text), Ok(()), "{text}");
    }
    for text in bad {
        assert!(rule(text).is_err(), "{text}");
    }
}

const OURS: &str = "arn:aws:iam::210987654321:role/export";

#[test]
fn roles_are_of_other_accounts_and_can_be_named_in_policies() {
    let longest = format!("arn:aws:iam::123456789012:role/{}", "r".repeat(64));
    let too_long = format!("{longest}r");
    accepts(
        |text| role_arn(text, OURS),
        &[
            "arn:aws:iam::123456789012:role/r",
            "arn:aws:iam::123456789012:role/some/path/r_+=,.@-1",
            &longest,
        ],
        &[
            "",
            "arn:aws:iam::210987654321:role/r",
            "arn:aws-cn:iam::123456789012:role/r",
            "arn:aws:iam:eu-west-1:123456789012:role/r",
            "arn:aws:iam::12345678901:role/r",
            "arn:aws:iam::12345678901a:role/r",
            "arn:aws:iam::123456789012:user/r",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/a//r",
            "arn:aws:iam::123456789012:role/*",
            "arn:aws:iam::123456789012:role/r ",
            "arn:aws:sts::123456789012:assumed-role/r/s",
            &too_long,
        ],
    );
    accepts(
        key_prefix_of_role,
        &["exports/erp", "a!-_.'()=+@:,Z9"],
        &["a*", "a?", "a/${b}", "a b", "ä", "a\"b"],
    );
    accepts(
        |region| region_of_role(region, OURS),
        &["eu-west-1", "us-east-1", "us-west-2"],
        &["cn-north-1", "us-gov-west-1", "eusc-de-east-1"],
    );
    accepts(bucket_of_role, &["sap-export"], &["point-abc-s3alias"]);
}

#[test]
fn access_keys_are_told_from_what_else_aws_calls_by_an_id() {
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    accepts(
        access_key_id,
        &[
            "AKIAIOSFODNN7EXAMPLE",
            "test",
            "minioadmin",
            "ASIA",
            "GOOG1EXAMPLE",
        ],
        &[
            "",
            "ASIAIOSFODNN7EXAMPLE",
            "AIDAIOSFODNN7EXAMPLE",
            "AROAIOSFODNN7EXAMPLE",
            secret,
            "a b",
        ],
    );
    accepts(
        secret_access_key,
        &[secret, "test", "AKIA-secret"],
        &["", "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE", "a b"],
    );
    let refusal = access_key_id("ASIAIOSFODNN7EXAMPLE").unwrap_err();
    assert!(refusal.contains("role_arn"), "{refusal}");
}

#[test]
fn fields_keep_to_their_rules() {
    let (fifty, long) = ("a".repeat(50), "a".repeat(51));
    accepts(
        id,
        &["erp-1", "a", "-", "0", &fifty],
        &["", &long, "Erp", "a_b", "a b", "a/b", "ä", "a\n"],
    );
    accepts(
        api_key,
        &["x", "eyJ.~!#\"", &"k".repeat(4_096)],
        &["", "a b", "a\r\nb", "ä", "\u{7f}", &"k".repeat(4_097)],
    );
    accepts(
        region,
        &["eu-west-1", "us-gov-west-1"],
        &[
            "",
            "eu-west-9",
            "EU-WEST-1",
            "eu-west-1.evil.example",
            "us-east-1 ",
        ],
    );
    accepts(
        bucket,
        &[
            "sap_export",
            "abc",
            "my.bucket-1",
            "point-0123abcd-s3alias",
            &"b".repeat(63),
        ],
        &[
            "",
            "ab",
            "Abc",
            "-ab",
            "ab-",
            "a..b",
            "192.168.0.1",
            "a/b",
            "a b",
            "a\n",
            "xn--bucket",
            "sthree-bucket",
            "point--ol-s3",
            "point.mrap",
            "bucket--usw2-az1--x-s3",
            &"b".repeat(64),
        ],
    );
    accepts(
        key_prefix,
        &["newstore_integration_002", "a/b/c", "ä b", "a/", "..a"],
        &[
            "",
            "/a",
            "a//b",
            "..",
            "a/../b",
            "a/./b",
            "a\nb",
            "a\u{0}",
            &"p".repeat(513),
        ],
    );
}

#[test]
fn dates_depend_on_the_type() {
    use IntegrationType::{Permanent, Temporary};
    let now = Millis::parse("2026-01-10T00:00:00Z").unwrap();
    let (first, second) = (Some("2026-01-01T00:00:00Z"), Some("2026-01-02T00:00:00Z"));
    let later = Some("2027-01-01T00:00:00Z");
    let millis = |text: Option<&str>| text.map(|text| Millis::parse(text).unwrap());
    for (kind, starts_at, ends_at, expected) in [
        (Permanent, None, None, Ok((now, None))),
        (Permanent, first, None, Ok((millis(first).unwrap(), None))),
        (Permanent, None, later, Err("ends_at")),
        (Permanent, later, None, Err("starts_at")),
        (Permanent, Some("yesterday"), None, Err("starts_at")),
        (
            Temporary,
            first,
            second,
            Ok((millis(first).unwrap(), millis(second))),
        ),
        (
            Temporary,
            first,
            later,
            Ok((millis(first).unwrap(), millis(later))),
        ),
        (Temporary, None, second, Err("starts_at")),
        (Temporary, first, None, Err("ends_at")),
        (Temporary, second, first, Err("ends_at")),
        (Temporary, first, first, Err("ends_at")),
        (Temporary, later, later, Err("starts_at")),
    ] {
        assert_eq!(
            range(kind, starts_at, ends_at, now).map_err(|(field, _)| field),
            expected,
            "{kind:?} {starts_at:?} {ends_at:?}"
        );
    }
}

#[test]
fn the_secrets_of_a_webhook_have_eight_kilobytes_together() {
    let secret = |bytes: usize| domain::secret::StoredSecret {
        cipher: "x".repeat(bytes / 3 * 4),
        mask: String::new(),
    };
    let callback = |key: usize, headers: &[usize]| Callback {
        callback_url: "https://erp.example/".to_owned(),
        api_key: Some(secret(key)),
        max_in_flight: None,
        signing: None,
        headers: headers
            .iter()
            .enumerate()
            .map(|(number, bytes)| (format!("x-{number}"), secret(*bytes)))
            .collect(),
    };
    // The longest key and one as long, as KMS encrypts them, are too much; ten of 600 characters are not.
    assert!(secrets(&callback(4_096 + 150, &[])).is_ok());
    assert!(secrets(&callback(4_096 + 150, &[4_096 + 150])).is_err());
    assert!(secrets(&callback(300, &[750; 10])).is_ok());
    assert!(secrets(&callback(300, &[801; 10])).is_err());
}
