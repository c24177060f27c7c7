//! Receivers that were down come back, on the deployed stack and by the true clock.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tests::receiver::{Answer, Received, Receiver};
use uuid::Uuid;

use crate::end_to_end::Service;
use crate::lifecycle::event;

/// An interruption may last for some probes, 5, 10 and 20 s apart; then the stream resumes within two minutes.
const DEADLINE: Duration = Duration::from_secs(180);

/// Two receivers, each of a webhook of its own.
struct Story {
    service: Service,
    token: String,
    up: Receiver,
    down: Receiver,
    down_id: String,
    /// Also the name of the only events that both take: those of other tests come to the same tenant.
    entity: String,
}

impl Story {
    async fn begin() -> Story {
        let mark = Uuid::new_v4().simple().to_string()[..8].to_owned();
        let story = Story {
            service: Service::new(),
            token: shared::env::required("EVENTSTREAM_TOKEN"),
            up: Receiver::start().await,
            down: Receiver::start().await,
            down_id: format!("down-{mark}"),
            entity: format!("e{mark}"),
        };
        for (id, receiver) in [("up", &story.up), ("down", &story.down)] {
            let body = json!({
                "id": format!("{id}-{mark}"), "integration_type": "permanent",
                "callback_parameters": {"callback_url": receiver.url()},
                "filter_conditions": {"entity_filter": [story.entity]},
            });
            let (status, answer) = story.integrations("POST", "/", body).await;
            assert_eq!(status, 200, "{answer}");
        }
        story
    }

    async fn integrations(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let Story { service, token, .. } = self;
        service.integrations(token, method, path, body).await
    }

    async fn publish(&self, count: usize) {
        let name = format!("{}.created", self.entity);
        let mut events: Vec<Value> = (0..count).map(event).collect();
        for event in &mut events {
            event["name"] = json!(name);
        }
        for batch in events.chunks(500) {
            let (service, token) = (&self.service, &self.token);
            let body = serde_json::to_string(batch).unwrap();
            let published = service.call(token, "POST", "/api/v1/org/events", body);
            let (status, answer) = published.await;
            assert_eq!(status, 202, "{answer}");
        }
    }

    /// The integration whose receiver was down, as the API shows it.
    async fn shown(&self) -> Value {
        let path = format!("/{}", self.down_id);
        self.integrations("GET", &path, Value::Null).await.1
    }

    /// Waits until `condition` holds for what the API shows.
    async fn until(&self, wanted: &str, condition: impl Fn(&Value) -> bool) {
        let waiting = async {
            while !condition(&self.shown().await) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{wanted}: not within {DEADLINE:?}"));
    }

    async fn end(&self) {
        for id in [self.down_id.clone(), self.down_id.replace("down", "up")] {
            let path = format!("/{id}");
            let (status, _) = self.integrations("DELETE", &path, Value::Null).await;
            assert_eq!(status, 204);
        }
    }
}

/// How many different events were taken.
fn taken(receiver: &Receiver) -> usize {
    let events = receiver.events().into_iter().map(|(id, _)| id);
    events.collect::<BTreeSet<_>>().len()
}

fn unavailable(_: &Received) -> Answer {
    Answer::status(503)
}

#[tokio::test]
async fn an_interrupted_stream_resumes_though_nothing_else_is_published() {
    let story = Story::begin().await;
    story.down.answer(unavailable);
    story.publish(12).await;
    story
        .until("interrupted", |shown| shown["health"] == "interrupted")
        .await;
    story.down.clear();
    story.down.answer_with(200);
    let arrived = |received: &[Received]| received.len() >= 12;
    story.down.wait_until(arrived, DEADLINE).await.unwrap();
    story
        .until("at rest", |shown| {
            shown["health"] == "healthy" && shown["pending"]["catching_up"] == false
        })
        .await;
    assert_eq!((taken(&story.up), taken(&story.down)), (12, 12));
    story.end().await;
}

#[tokio::test]
async fn an_outage_of_ten_seconds_loses_nothing_and_catching_up_says_so_until_all_has_arrived() {
    const EVENTS: usize = 1_500;
    let story = Story::begin().await;
    story.down.answer(unavailable);
    story.publish(EVENTS).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    // On a busy stack the first step may come late: the ramp is that of a receiver that is known to be down.
    story
        .until("interrupted", |shown| shown["health"] == "interrupted")
        .await;
    story.down.clear();
    story.down.answer_with(200);
    story
        .until("at rest", |shown| {
            let is_at_rest = shown["pending"]["catching_up"] == false;
            let has_all = taken(&story.down) == EVENTS;
            assert!(!is_at_rest || has_all, "{shown} {}", taken(&story.down));
            is_at_rest
        })
        .await;
    assert_eq!((taken(&story.up), taken(&story.down)), (EVENTS, EVENTS));
    // The ramp: ten requests in the first second at the most.
    let arrived = story.down.received();
    let first = arrived[0].at;
    let soon: Vec<Duration> = arrived
        .iter()
        .map(|request| request.at.since(first))
        .filter(|after| *after < Duration::from_secs(1))
        .collect();
    assert!(soon.len() <= 11, "{soon:?}");
    story.end().await;
}

#[tokio::test]
async fn a_receiver_that_takes_five_requests_at_a_time_is_paced() {
    const EVENTS: usize = 400;
    let story = Story::begin().await;
    story.down.take_at_once(5);
    story
        .down
        .answer(|_| Answer::status(200).delay(Duration::from_millis(200)));
    story.publish(EVENTS).await;
    let has_all = |received: &[Received]| received.len() >= EVENTS;
    story.up.wait_until(has_all, DEADLINE).await.unwrap();
    story
        .until("paced", |shown| {
            shown["health"] == "paced" || taken(&story.down) == EVENTS
        })
        .await;
    story.down.wait_until(has_all, DEADLINE).await.unwrap();
    assert_eq!((taken(&story.up), taken(&story.down)), (EVENTS, EVENTS));
    assert!(story.down.most_at_once() <= 5);
    let refused = story.down.refused();
    assert!(refused * 20 < EVENTS, "{refused} of {EVENTS} were refused");
    story.end().await;
}

#[tokio::test]
async fn a_limit_of_one_request_at_a_time_is_kept() {
    const EVENTS: usize = 40;
    let story = Story::begin().await;
    let (path, stop) = (format!("/{}", story.down_id), json!({}));
    let limit = json!({"callback_parameters": {"max_in_flight": 1}});
    story
        .down
        .answer(|_| Answer::status(200).delay(Duration::from_millis(50)));
    story
        .integrations("POST", &format!("{path}/_stop"), stop.clone())
        .await;
    let (status, answer) = story.integrations("PATCH", &path, limit).await;
    assert_eq!(
        (status, &answer["callback_parameters"]["max_in_flight"]),
        (200, &json!(1))
    );
    story
        .integrations("POST", &format!("{path}/_start"), stop)
        .await;
    story.publish(EVENTS).await;
    let has_all = |received: &[Received]| received.len() >= EVENTS;
    story.down.wait_until(has_all, DEADLINE).await.unwrap();
    assert_eq!(story.shown().await["health"], "paced");
    assert_eq!((taken(&story.down), story.down.most_at_once()), (EVENTS, 1));
    story.end().await;
}
