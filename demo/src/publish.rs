//! Publishing, in both ways.

use std::time::Duration;

use aws_sdk_eventbridge::error::DisplayErrorContext;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use shared::clock::Clock;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::catalogue::Event;
use crate::check::{Published, TENANT, Way};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::service::Service;

/// Events in one `PutEvents`, the most that it takes, and the time from one to the next.
const BUS_BATCH: usize = 10;
const BUS_PACE: Duration = Duration::from_millis(400);
/// How often what the bus did not take is handed to it.
const BUS_ATTEMPTS: usize = 10;
/// The source of the events, for the bus.
const BUS_SOURCE: &str = "demo.shop";

/// Publishes through `POST /api/v1/org/events`, with ids that the demo gives: so many events in a request, and in a second.
pub async fn over_api(
    service: &Service,
    clock: &Clock,
    events: Vec<Event>,
    (batch, rate): (usize, u32),
    progress: &Progress,
) -> Result<Vec<Published>, Failure> {
    let mut published = Vec::with_capacity(events.len());
    let mut pace = interval(Duration::from_secs(1) * batch as u32 / rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for batch in events.chunks(batch) {
        pace.tick().await;
        let ids: Vec<String> = batch.iter().map(|_| Uuid::new_v4().to_string()).collect();
        let body = body(batch, &ids);
        let at = clock.now();
        let accepted = service.publish(&body).await?;
        if accepted != ids {
            return Err(Failure::new(
                "The API accepted other events than those that were published.",
            ));
        }
        let batch = batch.iter().cloned().zip(ids);
        published.extend(batch.map(|(event, id)| Published {
            event,
            id,
            at,
            way: Way::Api,
        }));
        progress.add_published(accepted.len());
    }
    Ok(published)
}

/// The JSON array that is posted; the payloads go in as they are.
fn body(events: &[Event], ids: &[String]) -> String {
    let events: Vec<String> = events
        .iter()
        .zip(ids)
        .map(|(Event { name, payload, .. }, id)| {
            format!(r#"{{"id":"{id}","name":"{name}","payload":{payload}}}"#)
        })
        .collect();
    format!("[{}]", events.join(","))
}

/// Publishes over the bus, as the platform's own services do. The bus gives the ids.
pub async fn over_bus(
    bus: &aws_sdk_eventbridge::Client,
    bus_name: &str,
    clock: &Clock,
    events: Vec<Event>,
    progress: &Progress,
) -> Result<Vec<Published>, Failure> {
    let mut published = Vec::with_capacity(events.len());
    let mut pace = interval(BUS_PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for batch in events.chunks(BUS_BATCH) {
        let mut waiting = batch.to_vec();
        let mut attempts = 0;
        while !waiting.is_empty() {
            pace.tick().await;
            attempts += 1;
            let at = clock.now();
            let answer = bus
                .put_events()
                .set_entries(Some(
                    waiting.iter().map(|event| entry(bus_name, event)).collect(),
                ))
                .send()
                .await
                .map_err(|error| {
                    Failure::new(format!(
                        "The bus {bus_name} takes no events: {}",
                        DisplayErrorContext(&error)
                    ))
                })?;
            let mut left = Vec::new();
            for (event, result) in waiting.into_iter().zip(answer.entries()) {
                match result.event_id() {
                    Some(id) => published.push(Published {
                        event,
                        id: id.to_owned(),
                        at,
                        way: Way::Bus,
                    }),
                    None if attempts == BUS_ATTEMPTS => {
                        let reason = result
                            .error_message()
                            .or(result.error_code())
                            .unwrap_or("no reason given");
                        return Err(Failure::new(format!(
                            "The bus {bus_name} refuses {}: {reason}",
                            event.name
                        )));
                    }
                    None => left.push(event),
                }
            }
            waiting = left;
        }
        progress.add_published(batch.len());
    }
    Ok(published)
}

fn entry(bus_name: &str, Event { name, payload, .. }: &Event) -> PutEventsRequestEntry {
    PutEventsRequestEntry::builder()
        .event_bus_name(bus_name)
        .source(BUS_SOURCE)
        .detail_type(*name)
        .detail(format!(r#"{{"tenant":"{TENANT}","payload":{payload}}}"#))
        .build()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;
    use crate::catalogue::events;

    #[derive(Deserialize)]
    struct Posted {
        id: String,
        payload: Box<RawValue>,
    }

    #[test]
    fn a_batch_holds_the_payloads_as_they_are() {
        let events = events("run", 1, 16);
        let ids: Vec<String> = (0..16).map(|number| number.to_string()).collect();
        let posted: Vec<Posted> = serde_json::from_str(&body(&events, &ids)).unwrap();
        for ((posted, event), id) in posted.iter().zip(&events).zip(&ids) {
            assert_eq!(
                (posted.id.as_str(), posted.payload.get()),
                (id.as_str(), event.payload.as_str())
            );
        }
        assert_eq!(posted.len(), 16);
    }
}
