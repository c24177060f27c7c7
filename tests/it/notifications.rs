//! What the deployed whole publishes on its bus about integrations, as an operator's rule gets it.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_eventbridge::types::Target;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};
use tests::receiver::{Answer, Receiver};
use tokio::time::Instant;
use uuid::Uuid;

use crate::end_to_end::{DEADLINE, Service};
use crate::world::queue_attribute;

/// An operator's queue, and a rule that brings it what Event Stream says of itself.
struct Operator {
    sqs: aws_sdk_sqs::Client,
    events: aws_sdk_eventbridge::Client,
    /// The rule's and the queue's.
    name: String,
    queue_url: String,
    published: Vec<Value>,
}

impl Operator {
    async fn new(name: &str) -> Operator {
        let config = shared::aws::config();
        let sqs = aws_sdk_sqs::Client::new(&config);
        let created = sqs.create_queue().queue_name(name).send().await.unwrap();
        let queue_url = created.queue_url.unwrap();
        let arn = &queue_attribute(&sqs, &queue_url, QueueAttributeName::QueueArn).await;
        let allowed = json!({
            "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn,
        });
        let policy = json!({"Version": "2012-10-17", "Statement": [allowed]});
        let set = sqs.set_queue_attributes().queue_url(&queue_url);
        let set = set.attributes(QueueAttributeName::Policy, policy.to_string());
        set.send().await.unwrap();
        let (events, bus) = (
            aws_sdk_eventbridge::Client::new(&config),
            shared::env::required("EVENTSTREAM_BUS"),
        );
        let pattern = json!({"source": ["event-stream"]}).to_string();
        let rule = events.put_rule().name(name).event_bus_name(&bus);
        rule.event_pattern(pattern).send().await.unwrap();
        let target = Target::builder().id("queue").arn(arn).build().unwrap();
        let targets = events.put_targets().rule(name).event_bus_name(&bus);
        targets.targets(target).send().await.unwrap();
        Operator {
            sqs,
            events,
            name: name.to_owned(),
            queue_url,
            published: Vec::new(),
        }
    }

    /// Waits until all of these have been published of an integration.
    async fn wait_for(&mut self, id: &str, kinds: &[&str]) {
        let ended = Instant::now() + DEADLINE;
        while !kinds.iter().all(|kind| self.event(id, kind).is_some()) {
            assert!(
                Instant::now() < ended,
                "only this was published: {:?}",
                self.published
            );
            let receive = self.sqs.receive_message().queue_url(&self.queue_url);
            let receive = receive.max_number_of_messages(10).wait_time_seconds(2);
            for message in receive.send().await.unwrap().messages.unwrap_or_default() {
                self.published
                    .push(serde_json::from_str(message.body().unwrap()).unwrap());
                let delete = self.sqs.delete_message().queue_url(&self.queue_url);
                let handle = message.receipt_handle().unwrap();
                delete.receipt_handle(handle).send().await.unwrap();
            }
        }
    }

    /// Takes the rule and the queue away again.
    async fn leave(self) {
        let bus = shared::env::required("EVENTSTREAM_BUS");
        let remove = self.events.remove_targets().rule(&self.name);
        let remove = remove.event_bus_name(&bus).ids("queue").send().await;
        remove.unwrap();
        let delete = self.events.delete_rule().name(&self.name);
        delete.event_bus_name(&bus).send().await.unwrap();
        let delete = self.sqs.delete_queue().queue_url(&self.queue_url);
        delete.send().await.unwrap();
    }

    fn event(&self, id: &str, kind: &str) -> Option<&Value> {
        self.published
            .iter()
            .find(|event| event["detail"]["integration_id"] == id && event["detail-type"] == kind)
    }
}

#[tokio::test]
async fn what_happens_to_integrations_is_told_on_the_bus() {
    let (service, receiver) = (Service::new(), Receiver::start().await);
    let token = shared::env::required("EVENTSTREAM_TOKEN_OTHER");
    let mark = Uuid::new_v4().simple().to_string();
    let (hook, files) = (
        format!("told-{}", &mark[..8]),
        format!("untold-{}", &mark[..8]),
    );
    let mut operator = Operator::new(&format!("told-{mark}")).await;
    receiver.answer(|request| match request.text().contains("rejected-one") {
        true => Answer::status(400).body("a word of the receiver's"),
        false => Answer::status(503),
    });
    let callback = json!({"callback_url": format!("{}?key=in-the-url", receiver.url()), "api_key": "an-operator-never-sees-it"});
    let body = json!({"id": hook, "integration_type": "permanent", "callback_parameters": callback, "filter_conditions": {"entity_filter": [format!("e{}", &mark[..8])]}});
    let registered = service.integrations(&token, "POST", "/", body).await;
    assert_eq!(registered.0, 200, "{}", registered.1);
    let parameters = json!({"aws_access_key_id": "AKIANOBODY", "aws_secret_access_key": "nobodys-secret-access-key", "aws_region": "us-east-1", "bucket": format!("nowhere-{mark}")});
    let body = json!({"id": files, "integration_type": "permanent", "s3_parameters": parameters});
    let registered = service.integrations(&token, "POST", "/", body).await;
    assert_eq!(registered.0, 200, "{}", registered.1);

    let name = format!("e{}.created", &mark[..8]);
    let mut events =
        vec![json!({"name": name, "payload": {"mark": "rejected-one", "word": "of-a-payload"}})];
    events
        .extend((0..6).map(|n| json!({"name": name, "payload": {"n": n, "word": "of-a-payload"}})));
    let events = json!(events).to_string();
    let published = service
        .call(&token, "POST", "/api/v1/org/events", events)
        .await;
    assert_eq!(published.0, 202, "{}", published.1);
    let first = [
        "integration.started",
        "event.rejected",
        "integration.interrupted",
    ];
    operator.wait_for(&hook, &first).await;
    receiver.answer(|_| Answer::status(204));
    operator.wait_for(&hook, &["integration.resumed"]).await;
    receiver.answer(|_| Answer::status(410));
    let last = json!({"name": name, "payload": {"word": "of-a-payload"}}).to_string();
    let published_last = service
        .call(&token, "POST", "/api/v1/org/events", last)
        .await;
    assert_eq!(published_last.0, 202);
    operator.wait_for(&hook, &["integration.stopped"]).await;
    operator
        .wait_for(&files, &["integration.export_failed"])
        .await;

    for event in &operator.published {
        assert_eq!(event["source"], "event-stream");
        let text = event.to_string();
        for secret in [
            "of-a-payload",
            "nobodys-secret",
            "in-the-url",
            "never-sees",
            "of the receiver's",
        ] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let detail = |id: &str, kind: &str, field: &str| {
        let event = operator.event(id, kind).unwrap();
        event["detail"][field].as_str().unwrap().to_owned()
    };
    assert_eq!(
        detail(&hook, "event.rejected", "event_id"),
        published.1["accepted"][0]["id"].as_str().unwrap()
    );
    assert_eq!(
        detail(&hook, "integration.stopped", "reason"),
        "gone (HTTP status code 410), so the integration was stopped"
    );
    let reason = detail(&files, "integration.export_failed", "reason");
    assert!(
        reason.contains("the aws_access_key_id does not exist"),
        "{reason}"
    );
    for id in [&hook, &files] {
        let path = format!("/{id}");
        let deleted = service.integrations(&token, "DELETE", &path, Value::Null);
        assert_eq!(deleted.await.0, 204);
    }
    operator.leave().await;
}

#[tokio::test]
async fn what_the_bus_refuses_is_told_again_and_holds_up_nothing_else() {
    let bus = Receiver::start().await;
    // Refuses whatever is of the first integration, the first two times.
    let refusals = AtomicUsize::new(0);
    bus.answer(move |request| {
        let body: Value = serde_json::from_str(&request.text()).unwrap();
        let answers = body["Entries"].as_array().unwrap().iter().map(|entry| {
            let is_first = entry["Detail"].as_str().unwrap().contains("\"erp-0\"");
            if is_first && refusals.fetch_add(1, Ordering::Relaxed) < 2 {
                json!({"ErrorCode": "ThrottlingException", "ErrorMessage": "m"})
            } else {
                json!({"EventId": "e"})
            }
        });
        let answers: Vec<Value> = answers.collect();
        let failed = answers
            .iter()
            .filter(|answer| answer["ErrorCode"].is_string());
        let answer = json!({"FailedEntryCount": failed.count(), "Entries": answers});
        Answer::status(200)
            .header("content-type", "application/x-amz-json-1.1")
            .body(answer.to_string())
    });
    let config = crate::exports_world::config_for(&bus.url()).await;
    let app = notify::App {
        client: aws_sdk_eventbridge::Client::new(&config),
        bus: "bus".to_owned(),
        metrics: shared::metrics::Metrics::default(),
    };
    let records: Vec<Value> = (0..25)
        .map(|n| {
            json!({"eventName": "INSERT", "dynamodb": {"NewImage": {
                "pk": {"S": format!("acme#erp-{n}#{}", ulid::Ulid::nil())},
                "sk": {"S": format!("entry#{}", ulid::Ulid::nil())},
                "action": {"S": "integration_started"}, "reason": {"S": "Started via API."},
            }}})
        })
        .collect();
    let batch = || serde_json::from_value(json!({ "Records": records })).unwrap();
    notify::handle(&app, batch()).await.unwrap();
    let sizes = |calls: &[tests::receiver::Received]| -> Vec<usize> {
        let size = |call: &tests::receiver::Received| {
            let body: Value = serde_json::from_str(&call.text()).unwrap();
            body["Entries"].as_array().unwrap().len()
        };
        calls.iter().map(size).collect()
    };
    assert_eq!(sizes(&bus.received()), [10, 1, 1, 10, 5]);
    // A bus that keeps refusing gets everything else, and then the batch comes again.
    bus.clear();
    bus.answer(|request| {
        let count = request.text().matches("\"Detail\"").count();
        let is_first = request.text().contains("erp-0");
        let mut answers = vec![json!({"EventId": "e"}); count];
        if is_first {
            answers[0] = json!({"ErrorCode": "InternalFailure"});
        }
        let answer = json!({"FailedEntryCount": usize::from(is_first), "Entries": answers});
        Answer::status(200)
            .header("content-type", "application/x-amz-json-1.1")
            .body(answer.to_string())
    });
    let error = notify::handle(&app, batch()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "EventBridge refused 1 events, the first with InternalFailure"
    );
    assert_eq!(sizes(&bus.received()), [10, 1, 1, 10, 5]);
}
