//! What functions are invoked with: requests of API Gateway, batches of SQS, records of a table's stream, as Lambda hands them over.

use std::time::Duration;

use domain::integration::{
    Access, Bucket, Callback, Integration, IntegrationRef, IntegrationType, Status, Target,
};
use domain::secret::StoredSecret;
use domain::signing::Signing;
use domain::stream::Stream;
use domain::tasks::{ReplayTask, message};
use domain::time::Millis;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use serde_json::{Value, json};
use shared::clock::Clock;

use crate::corpus::{TENANT, small_event};
use crate::measure::Failure;

/// The requests that publish so many events of about 1 KiB, some in each.
pub fn requests(events: usize, each: usize) -> Vec<String> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    let bodies = (0..events / each).map(|_| {
        let events: Vec<String> = (0..each).map(|_| small_event(&mut random)).collect();
        match each {
            1 => events[0].clone(),
            _ => format!("[{}]", events.join(",")),
        }
    });
    bodies.map(|body| request(&body).to_string()).collect()
}

/// A request as API Gateway hands it over, after its authorizer.
fn request(body: &str) -> Value {
    json!({
        "version": "2.0", "routeKey": "ANY /api/{proxy+}", "rawPath": "/api/v1/org/events", "rawQueryString": "",
        "headers": {
            "accept": "*/*", "accept-encoding": "gzip, deflate", "content-length": body.len().to_string(), "content-type": "application/json",
            "authorization": format!("Bearer {}", "e".repeat(900)), "host": "abcdefghij.execute-api.eu-central-1.amazonaws.com",
            "user-agent": "shop/1.0", "x-amzn-trace-id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700", "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443", "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012", "apiId": "abcdefghij", "domainName": "abcdefghij.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "abcdefghij", "requestId": "JKJaXmPLvHcESHA=", "routeKey": "ANY /api/{proxy+}", "stage": "$default",
            "time": "01/Dec/2026:10:00:00 +0000", "timeEpoch": 1_796_119_200_000_u64,
            "authorizer": {"jwt": {"claims": {
                "client_id": "5example23456789", "exp": "1796205600", "iat": "1796119200", "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_EXAMPLE",
                "jti": "a6a1a8c8-0000-4000-8000-000000000000", "scope": "tenant/acme", "sub": "5example23456789", "token_use": "access", "version": "2",
            }, "scopes": null}},
            "http": {"method": "POST", "path": "/api/v1/org/events", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "shop/1.0"},
        },
        "body": body, "isBase64Encoded": false,
    })
}

/// A batch of a queue, with these messages.
pub fn batch(messages: &[String]) -> String {
    let records = messages.iter().enumerate().map(|(index, body)| {
        json!({
            "messageId": format!("059f36b4-87a3-44ab-83d2-{index:012}"), "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a".repeat(4), "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1", "SentTimestamp": "1796119200000", "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": "1796119200001",
            },
            "messageAttributes": {}, "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3", "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:queue", "awsRegion": "eu-central-1",
        })
    });
    json!({"Records": records.collect::<Vec<_>>()}).to_string()
}

/// A batch of the integrations table's stream: new entries of an integration log.
pub fn changes(count: usize) -> String {
    let records = (0..count).map(|index| {
        json!({
            "eventID": index.to_string(), "eventName": "INSERT", "eventVersion": "1.1", "eventSource": "aws:dynamodb", "awsRegion": "eu-central-1",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_796_119_200, "SequenceNumber": format!("{index:021}"), "SizeBytes": 400, "StreamViewType": "NEW_AND_OLD_IMAGES",
                "Keys": {"pk": {"S": "acme#erp-1#01KB3DXZZZABCDEFGHJKMNPQRS"}, "sk": {"S": format!("entry#01HF7YAT{index:018}")}},
                "NewImage": {
                    "pk": {"S": "acme#erp-1#01KB3DXZZZABCDEFGHJKMNPQRS"}, "sk": {"S": format!("entry#01HF7YAT{index:018}")},
                    "action": {"S": "integration_started"}, "created_at": {"N": "1796119200000"}, "reason": {"S": "Started via API."},
                },
            },
        })
    });
    json!({"Records": records.collect::<Vec<_>>()}).to_string()
}

/// An integration with this target, since `from`, until `ends_at`.
fn integration(id: String, from: Millis, ends_at: Option<Millis>, target: Target) -> Integration {
    Integration {
        tenant: TENANT.to_owned(),
        id,
        generation: from.first_id(),
        version: 1,
        integration_type: match ends_at {
            Some(_) => IntegrationType::Temporary,
            None => IntegrationType::Permanent,
        },
        target,
        starts_at: from,
        ends_at,
        filter: None,
        status: Status::Running,
        stopped_at: None,
        is_finished: false,
    }
}

fn secret() -> StoredSecret {
    StoredSecret {
        cipher: "AQICAHhEXAMPLE".repeat(16),
        mask: "****".to_owned(),
    }
}

fn callback(url: String, from: Millis) -> Callback {
    let signing = Signing {
        secret: secret(),
        created_at: from,
        previous: None,
    };
    Callback {
        callback_url: url,
        signing: Some(signing),
        ..Callback::default()
    }
}

/// A webhook that is live since an hour ago.
pub fn live(id: String, url: String) -> Integration {
    let now = Clock::system().now();
    let from = now.before(Duration::from_secs(3600));
    let mut stream = Stream::registered(from, from, None);
    stream.resume(from, Duration::from_secs(10));
    stream.confirm();
    stream.owed.clear();
    stream.health.last_success_at = Some(now);
    let target = Target::Webhook {
        callback: callback(url, from),
        stream: Box::new(stream),
    };
    integration(id, from, None, target)
}

/// A webhook that is owed what was published from `from` to `until`, and no more.
pub fn temporary(id: String, url: String, from: Millis, until: Millis) -> Integration {
    let target = Target::Webhook {
        callback: callback(url, from),
        stream: Box::new(Stream::registered(from, from, Some(until))),
    };
    integration(id, from, Some(until), target)
}

/// The batch with the next step of replay for an integration, by its document; none where nothing is left to be sent.
///
/// # Errors
/// When the document is none.
pub fn next_step(document: &str) -> Result<Option<String>, Failure> {
    let integration: Integration = serde_json::from_str(document)?;
    let stream = integration.stream().filter(|_| integration.is_running());
    let Some(turn) = stream.map(|stream| stream.schedule.turn) else {
        return Ok(None);
    };
    let integration_ref = IntegrationRef::from(&integration);
    let step = message(
        &ReplayTask::Step {
            integration_ref,
            turn,
        },
        Duration::ZERO,
    )?;
    Ok(Some(batch(&[step.body])))
}

/// A bucket whose files begin at `from`.
pub fn exported(id: String, from: Millis) -> Integration {
    let target = Target::S3 {
        bucket: Bucket {
            access: Access::Key {
                aws_access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
                aws_secret_access_key: secret(),
            },
            aws_region: "eu-central-1".to_owned(),
            bucket: "exports".to_owned(),
            key_prefix: Some("erp".to_owned()),
        },
        export: Box::new(domain::export::Export::registered(from)),
    };
    integration(id, from, None, target)
}
