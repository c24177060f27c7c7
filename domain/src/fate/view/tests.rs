use ulid::Ulid;

use super::*;
use crate::filter::Filter;
use crate::integration::tests::webhook;
use crate::integration::{Access, Bucket, Status};
use crate::log::position::{EventRef, Position};

const NOW: Millis = Millis(1_700_000_000_000);
const SEAL: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

/// A healthy webhook, registered a day ago, that is live, and of which the queues were just seen empty.
fn view() -> View {
    let mut integration = webhook(NOW.before(MINUTE * 60 * 24));
    let stream = integration.stream_mut().unwrap();
    (stream.owed, stream.gaps, stream.served) = (Vec::new(), Vec::new(), None);
    View {
        integration,
        past_filters: Vec::new(),
        waiting: Vec::new(),
        refused: Vec::new(),
        files: Vec::new(),
        settled_at: Some(NOW),
        seal: SEAL,
        now: NOW,
    }
}

fn files() -> View {
    let mut view = view();
    let begin = view.integration.starts_at;
    view.integration.target = Target::S3 {
        bucket: Bucket {
            access: Access::Role {
                role_arn: "r".into(),
                external_id: "e".into(),
            },
            aws_region: "eu-west-1".into(),
            bucket: "b".into(),
            key_prefix: None,
        },
        export: Box::new(Export::registered(begin)),
    };
    view
}

fn place(ago: Duration) -> EventRef {
    EventRef {
        segment: Ulid::from_parts(NOW.before(ago).0, 5),
        index: 0,
        shard: 0,
    }
}

fn event(ago: Duration, id: &str) -> Event<'_> {
    Event {
        event: place(ago),
        id,
        name: "order.created",
    }
}

fn said(view: &View, ago: Duration) -> (EventStatus, bool) {
    let fate = view.fates(&[event(ago, "a")]).remove(0);
    (fate.status, fate.is_certain)
}

fn only(name: &str) -> Option<Filter> {
    Some(Filter {
        event_filter: Some(vec![name.into()]),
        entity_filter: None,
    })
}

fn waiting(ago: Duration, attempt: u32) -> Waiting {
    Waiting {
        segment: place(ago).segment,
        shard: 0,
        indices: vec![0],
        attempt,
        failing_since: None,
        due_at: NOW.after(MINUTE),
        reason: Some("no".into()),
    }
}

fn note(ago: Duration, id: &str) -> Refused {
    Refused {
        event: place(ago),
        id: id.into(),
        at: NOW,
        reason: "no such item".into(),
    }
}

#[test]
fn a_live_event_is_delivered_once_the_queues_were_empty_behind_it() {
    let mut view = view();
    assert_eq!(said(&view, SEAL * 2), (EventStatus::Delivered, true));
    assert_eq!(
        said(&view, SEAL),
        (EventStatus::Sending, false),
        "within the seal"
    );
    view.settled_at = None;
    assert_eq!(said(&view, MINUTE / 2), (EventStatus::Sending, false));
    assert_eq!(said(&view, MINUTE), (EventStatus::Delivered, false));
}

#[test]
fn what_is_noted_of_an_event_is_its_fate() {
    let mut view = view();
    view.waiting = vec![waiting(MINUTE, 3)];
    let fate = view.fates(&[event(MINUTE, "a")]).remove(0);
    let expected = Fate {
        status: EventStatus::Retrying,
        is_certain: true,
        attempts: 2,
        next_attempt_at: Some(NOW.after(MINUTE)),
        reason: Some("no".into()),
        file: None,
    };
    assert_eq!(fate, expected);
    view.integration.status = Status::Stopped;
    assert_eq!(said(&view, MINUTE), (EventStatus::Waiting, true));
    view.integration.status = Status::Running;
    view.waiting = vec![waiting(MINUTE, 1)];
    assert_eq!(said(&view, MINUTE), (EventStatus::Waiting, true));
    view.waiting.clear();
    view.refused = vec![note(MINUTE, "a")];
    let fate = view.fates(&[event(MINUTE, "a")]).remove(0);
    assert_eq!(
        (fate.status, fate.is_certain),
        (EventStatus::Rejected, true)
    );
    assert_eq!(fate.reason.as_deref(), Some("no such item"));
}

#[test]
fn what_is_owed_waits_and_what_lies_outside_is_skipped() {
    let mut view = view();
    let (begin, hour) = (view.integration.starts_at, MINUTE * 60);
    view.integration.stop(NOW.before(hour * 2), SEAL);
    assert_eq!(said(&view, hour), (EventStatus::Waiting, true));
    assert_eq!(said(&view, hour * 3), (EventStatus::Delivered, true));
    let before = NOW.since(begin) + MINUTE;
    assert_eq!(said(&view, before), (EventStatus::Skipped, true));
    view.integration.ends_at = Some(NOW.before(hour * 3));
    assert_eq!(said(&view, hour * 2), (EventStatus::Skipped, true));
}

#[test]
fn what_was_owed_before_a_start_afresh_is_skipped() {
    let mut view = view();
    let day = MINUTE * 60 * 24;
    view.integration.starts_at = NOW.before(day * 80);
    view.integration.stop(NOW.before(day * 50), SEAL);
    view.integration.start(NOW.before(day));
    let stream = view.integration.stream_mut().unwrap();
    (stream.owed, stream.gaps) = (Vec::new(), Vec::new());
    assert_eq!(said(&view, day * 40), (EventStatus::Skipped, false));
    assert_eq!(said(&view, day * 60), (EventStatus::Delivered, false));
    assert_eq!(said(&view, day / 2), (EventStatus::Delivered, true));
}

#[test]
fn the_filter_of_then_decides() {
    let mut view = view();
    let hour = MINUTE * 60;
    view.integration.filter = only("return.processed");
    view.integration.stop(NOW.before(hour), SEAL);
    let past = PastFilter::of(&view.integration, NOW.before(hour / 2));
    view.past_filters.push(past);
    view.integration.filter = only("order.created");
    // Before the stop the first filter decided, and refused it; behind it the second does.
    assert_eq!(said(&view, hour * 2), (EventStatus::Skipped, true));
    assert_eq!(said(&view, hour / 4), (EventStatus::Waiting, true));
    assert_eq!(
        said(&view, hour + SEAL / 2),
        (EventStatus::Skipped, false),
        "by a clock"
    );
    assert!(view.is_listed(&event(hour * 2, "a")));
    let other = Event {
        name: "stock.changed",
        ..event(hour * 2, "a")
    };
    assert!(!view.is_listed(&other));
    // The other way round it was sent, or waited when the filter was changed.
    let returned = Event {
        name: "return.processed",
        ..event(hour * 2, "a")
    };
    assert!(view.is_listed(&returned));
    let fate = view.fates(&[returned]).remove(0);
    assert_eq!(
        (fate.status, fate.is_certain),
        (EventStatus::Delivered, false)
    );
}

#[test]
fn copies_have_one_fate() {
    let mut view = view();
    view.waiting = vec![waiting(MINUTE * 2, 2)];
    let copies = [
        event(MINUTE, "a"),
        event(MINUTE * 2, "a"),
        event(MINUTE, "b"),
    ];
    let statuses = |view: &View| -> Vec<(EventStatus, bool)> {
        let fates = view.fates(&copies).into_iter();
        fates.map(|fate| (fate.status, fate.is_certain)).collect()
    };
    let (retrying, delivered) = (
        (EventStatus::Retrying, true),
        (EventStatus::Delivered, true),
    );
    assert_eq!(statuses(&view), [retrying, retrying, delivered]);
    // The receiver has refused one, and may have taken the other.
    view.waiting.clear();
    view.refused = vec![note(MINUTE * 2, "a")];
    let rejected = (EventStatus::Rejected, false);
    assert_eq!(statuses(&view), [rejected, rejected, delivered]);
}

#[test]
fn an_exported_event_has_its_file() {
    let mut view = files();
    let hour = MINUTE * 60;
    let end = NOW.before(hour).first_id();
    let export = view.integration.export_mut().unwrap();
    export.position = end;
    view.files = vec![ExportedFile {
        bucket: "b".into(),
        key: "k".into(),
        from: NOW.before(hour * 2).first_id(),
        until: end,
        lines: 1,
        size_bytes: 1,
        crc64: "0".into(),
        created_at: NOW,
        expires_at: NOW,
    }];
    let fate = view.fates(&[event(hour + MINUTE, "a")]).remove(0);
    assert_eq!(
        (fate.status, fate.file.as_deref()),
        (EventStatus::Exported, Some("k"))
    );
    assert!(fate.is_certain);
    assert_eq!(
        said(&view, hour * 3),
        (EventStatus::Exported, false),
        "not listed"
    );
    assert_eq!(said(&view, MINUTE), (EventStatus::Waiting, true));
    // A filter that is changed decides from the position on.
    view.past_filters = vec![PastFilter::of(&view.integration, NOW.before(MINUTE * 30))];
    assert_eq!(view.past_filters[0].unsent, [(Position::at(end), None)]);
    view.past_filters[0].filter = only("return.processed");
    assert_eq!(said(&view, hour + MINUTE), (EventStatus::Skipped, true));
    assert_eq!(said(&view, MINUTE * 50), (EventStatus::Waiting, true));
}
