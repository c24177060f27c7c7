//! Registrations that are refused, each with the name of the field.

use serde_json::json;

use crate::api::{s3, webhook, with};
use crate::world::World;

#[tokio::test]
async fn every_bad_registration_is_a_400_that_names_the_field() {
    let world = World::start().await;
    let long = "k".repeat(4_097);
    let many: Vec<String> = (0..201).map(|n| format!("a.b{n}")).collect();
    let cases = [
        (json!({}), "id"),
        (with(webhook("a"), &[("id", json!("Erp"))]), "id"),
        (with(webhook("a"), &[("id", json!(""))]), "id"),
        (with(webhook("a"), &[("id", json!("a".repeat(51)))]), "id"),
        (with(webhook("a"), &[("id", json!(7))]), "id"),
        (
            with(webhook("a"), &[("integration_type", json!("eternal"))]),
            "integration_type",
        ),
        (
            with(webhook("a"), &[("status", json!("running"))]),
            "status",
        ),
        (
            json!({"id": "a", "integration_type": "permanent"}),
            "callback_parameters",
        ),
        (
            with(
                webhook("a"),
                &[("s3_parameters", s3("a")["s3_parameters"].clone())],
            ),
            "s3_parameters",
        ),
        (
            with(
                webhook("a"),
                &[("callback_parameters.callback_url", json!("erp.example.com"))],
            ),
            "callback_parameters.callback_url",
        ),
        (
            with(
                webhook("a"),
                &[(
                    "callback_parameters.callback_url",
                    json!("https://${CALLBACK_HOST}.example.com/h"),
                )],
            ),
            "callback_parameters.callback_url",
        ),
        (
            with(
                s3("a"),
                &[(
                    "s3_parameters.aws_access_key_id",
                    json!("ASIAIOSFODNN7EXAMPLE"),
                )],
            ),
            "s3_parameters.aws_access_key_id",
        ),
        (
            with(
                s3("a"),
                &[(
                    "s3_parameters.aws_secret_access_key",
                    json!("AKIAIOSFODNN7EXAMPLE"),
                )],
            ),
            "s3_parameters.aws_secret_access_key",
        ),
        (
            with(
                webhook("a"),
                &[(
                    "callback_parameters.callback_url",
                    json!("ftp://erp.example.com"),
                )],
            ),
            "callback_parameters.callback_url",
        ),
        (
            with(
                webhook("a"),
                &[(
                    "callback_parameters.callback_url",
                    json!("https://u:p@erp.example.com"),
                )],
            ),
            "callback_parameters.callback_url",
        ),
        (
            with(
                webhook("a"),
                &[(
                    "callback_parameters.callback_url",
                    json!("https://erp.example.com/#x"),
                )],
            ),
            "callback_parameters.callback_url",
        ),
        (
            with(
                webhook("a"),
                &[("callback_parameters.callback_url", json!(null))],
            ),
            "callback_parameters.callback_url",
        ),
        (
            with(
                webhook("a"),
                &[("callback_url", json!("https://other.example.com/"))],
            ),
            "callback_url",
        ),
        (
            with(
                webhook("a"),
                &[("callback_parameters.api_key", json!("a\r\nb"))],
            ),
            "callback_parameters.api_key",
        ),
        (
            with(
                webhook("a"),
                &[("callback_parameters.api_key", json!(long))],
            ),
            "callback_parameters.api_key",
        ),
        (
            with(
                webhook("a"),
                &[("callback_parameters.colour", json!("red"))],
            ),
            "callback_parameters.colour",
        ),
        (
            with(
                webhook("a"),
                &[("starts_at", json!("2999-01-01T00:00:00Z"))],
            ),
            "starts_at",
        ),
        (
            with(webhook("a"), &[("starts_at", json!("2019-01-17"))]),
            "starts_at",
        ),
        (
            with(webhook("a"), &[("starts_at", json!(1_547_726_400))]),
            "starts_at",
        ),
        (
            with(webhook("a"), &[("ends_at", json!("2999-01-01T00:00:00Z"))]),
            "ends_at",
        ),
        (
            with(webhook("a"), &[("integration_type", json!("temporary"))]),
            "starts_at",
        ),
        (
            with(
                webhook("a"),
                &[("filter_conditions", json!({"event_filter": ["order"]}))],
            ),
            "filter_conditions.event_filter[0]",
        ),
        (
            with(
                webhook("a"),
                &[("filter_conditions", json!({"entity_filter": ["a", "a.b"]}))],
            ),
            "filter_conditions.entity_filter[1]",
        ),
        (
            with(
                webhook("a"),
                &[("filter_conditions", json!({"event_filter": many}))],
            ),
            "filter_conditions.event_filter",
        ),
        (
            with(
                webhook("a"),
                &[("filter_conditions", json!({"events": []}))],
            ),
            "filter_conditions.events",
        ),
        (
            with(s3("a"), &[("s3_parameters.aws_region", json!("moon-1"))]),
            "s3_parameters.aws_region",
        ),
        (
            with(s3("a"), &[("s3_parameters.bucket", json!("A"))]),
            "s3_parameters.bucket",
        ),
        (
            with(s3("a"), &[("s3_parameters.key_prefix", json!("/a"))]),
            "s3_parameters.key_prefix",
        ),
        (
            with(s3("a"), &[("s3_parameters.key_prefix", json!("a/../b"))]),
            "s3_parameters.key_prefix",
        ),
        (
            with(s3("a"), &[("s3_parameters.aws_access_key_id", json!(null))]),
            "s3_parameters.aws_access_key_id",
        ),
        (
            with(
                s3("a"),
                &[("s3_parameters.aws_secret_access_key", json!(""))],
            ),
            "s3_parameters.aws_secret_access_key",
        ),
        (
            with(
                s3("a"),
                &[("s3_parameters.aws_secret_access_key", json!("********abcd"))],
            ),
            "is masked",
        ),
        (
            with(
                webhook("a"),
                &[("callback_parameters.api_key", json!("********"))],
            ),
            "is masked",
        ),
    ];
    for (body, field) in cases {
        let answer = world.call("POST", "/", &body).await;
        assert_eq!(
            (answer.status, &answer.body["error_code"]),
            (400, &json!("bad_request")),
            "{body}: {answer:?}"
        );
        assert!(
            answer.body["message"].as_str().unwrap().contains(field),
            "{field}: {answer:?}"
        );
    }
    for body in ["", "{", "[]", "null", "{} {}"] {
        assert_eq!(world.call("POST", "/", body).await.status, 400, "{body}");
    }
    assert_eq!(
        world.call("GET", "/", "").await.body,
        json!({"integrations": []})
    );
}
