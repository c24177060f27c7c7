use ulid::Ulid;

use super::*;
use crate::tasks::RunEvent;

fn run(count: u32) -> Run {
    let event = |index| RunEvent {
        index,
        id: index.to_string(),
        name: "order.created".to_owned(),
        body: serde_json::value::RawValue::from_string("{}".to_owned()).unwrap(),
    };
    Run {
        tenant: "acme".into(),
        integration_id: "erp-1".into(),
        generation: Ulid(1),
        segment: Ulid(2),
        shard: 0,
        events: (0..count).map(event).collect(),
    }
}

fn failed(is_refusal: bool) -> Outcome {
    Outcome::Failed(Failure {
        reason: "no".to_owned(),
        retry_after: is_refusal.then_some(Duration::from_secs(7)),
        is_refusal,
    })
}

/// Begins all that may begin now.
fn begin(posting: &mut Posting, now: u64) -> Vec<usize> {
    let mut begun = Vec::new();
    while let Next::Post(number) = posting.next(now) {
        begun.push(number);
    }
    begun
}

#[test]
fn more_at_a_time_are_posted_when_as_many_were_taken_and_ten_at_the_most() {
    let mut posting = Posting::new(50, 30_000);
    let (mut widths, mut left) = (Vec::new(), 50);
    while left > 0 {
        let begun = begin(&mut posting, 0);
        widths.push(begun.len());
        left -= begun.len();
        for number in begun {
            posting.ended(number, &Outcome::Delivered, String::new(), 1);
        }
    }
    assert_eq!(widths, [1, 2, 4, 8, 10, 10, 10, 5]);
    assert_eq!(posting.next(2), Next::Done);
    let written = posting.written(&run(50), 4, Millis(100), 0.0);
    assert_eq!(written.items, []);
    assert!(written.ran.is_taken && written.ran.due_at.is_none() && written.ran.epoch == 4);
}

#[test]
fn one_that_does_not_respond_holds_up_no_other_and_is_slow_after_two_seconds() {
    let mut posting = Posting::new(3, 30_000);
    assert_eq!(begin(&mut posting, 0), [0]);
    posting.ended(0, &Outcome::Delivered, String::new(), 10);
    assert_eq!(begin(&mut posting, 10), [1, 2]);
    posting.ended(2, &Outcome::Delivered, String::new(), 20);
    assert_eq!(posting.next(20), Next::Wait(2_010));
    assert!(!posting.says_slow());
    assert!(matches!(posting.next(2_010), Next::Wait(_)));
    assert!(
        posting.says_slow() && !posting.says_slow(),
        "it is said once"
    );
}

#[test]
fn a_run_stops_at_the_first_refusal_and_what_is_left_waits() {
    let mut posting = Posting::new(5, 30_000);
    begin(&mut posting, 0);
    posting.ended(0, &Outcome::Delivered, String::new(), 1);
    begin(&mut posting, 1);
    posting.ended(1, &failed(true), "Request".to_owned(), 2);
    assert!(
        matches!(posting.next(2), Next::Wait(_)),
        "the other one is under way"
    );
    posting.ended(2, &Outcome::Rejected("no".to_owned()), String::new(), 3);
    assert_eq!(posting.next(3), Next::Done);
    let written = posting.written(&run(5), 0, Millis(1_000), 0.0);
    let waits =
        |indices: &[u32], attempt, failing_since: Option<u64>, due_at, reason: Option<&str>| {
            Waiting {
                segment: Ulid(2),
                shard: 0,
                indices: indices.to_vec(),
                attempt,
                failing_since: failing_since.map(Millis),
                due_at: Millis(due_at),
                reason: reason.map(str::to_owned),
            }
        };
    let expected = [
        waits(&[1], 2, Some(1_000), 8_000, Some("no")),
        waits(&[3, 4], 1, None, 1_000, None),
    ];
    assert_eq!(written.items, expected);
    assert!(written.ran.is_refused && written.ran.is_taken);
    assert_eq!(written.ran.hold, Some(Duration::from_secs(7)));
    assert_eq!(written.ran.due_at, Some(Millis(1_000)));
}

#[test]
fn a_run_stops_when_a_whole_width_of_two_at_least_has_failed() {
    let mut posting = Posting::new(5, 30_000);
    for number in [0, 1] {
        assert_eq!(begin(&mut posting, 0), [number]);
        posting.ended(number, &failed(false), String::new(), 1);
    }
    assert_eq!(posting.next(1), Next::Done);
    let written = posting.written(&run(5), 0, Millis(0), 0.0);
    let indices: Vec<_> = written.items.iter().map(|it| it.indices.clone()).collect();
    assert_eq!(indices, [vec![0, 1], vec![2, 3, 4]]);
    assert_eq!(written.ran.failed.unwrap().events.len(), 2);
    assert!(!written.ran.is_refused);
}

#[test]
fn one_bad_event_does_not_stop_a_run() {
    let mut posting = Posting::new(4, 30_000);
    for number in 0..4 {
        assert!(begin(&mut posting, 0).contains(&number) || number > 1);
        let outcome = match number {
            1 => failed(false),
            _ => Outcome::Delivered,
        };
        posting.ended(number, &outcome, String::new(), 1);
    }
    assert_eq!(posting.next(1), Next::Done);
    let written = posting.written(&run(4), 0, Millis(0), 0.0);
    assert_eq!(written.items[0].indices, [1]);
    assert_eq!(written.items.len(), 1);
}

#[test]
fn a_run_ends_after_five_seconds_and_its_receiver_is_slow() {
    let mut posting = Posting::new(50, 60_000);
    let (mut now, mut posted) = (0, 0);
    while let Next::Post(number) = posting.next(now) {
        now += 900;
        posted += 1;
        posting.ended(number, &Outcome::Delivered, String::new(), now);
    }
    assert_eq!((posting.next(now), posted), (Next::Done, 6));
    assert!(posting.says_slow());
    // One that had no time from the start says nothing about the receiver.
    let mut late = Posting::new(3, 15_000);
    assert_eq!(late.next(0), Next::Done);
    assert!(!late.says_slow());
    let written = late.written(&run(3), 0, Millis(9), 0.0);
    assert_eq!(
        (written.items[0].indices.len(), written.ran.due_at),
        (3, Some(Millis(9)))
    );
}

#[test]
fn what_becomes_of_a_run_is_decided_by_the_integration_of_now() {
    let seal = Duration::from_secs(10);
    let mut integration = crate::integration::tests::webhook(Millis(1_000));
    let early = run(1);
    let mut late = run(1);
    late.segment = Millis(2_000).first_id();
    assert_eq!(
        admit(&integration, &early),
        Admission::Drop,
        "before the floor"
    );
    assert_eq!(admit(&integration, &late), Admission::Wait, "it is served");
    integration
        .stream_mut()
        .unwrap()
        .resume(Millis(1_000), seal);
    assert_eq!(admit(&integration, &late), Admission::Post);
    integration.stop(Millis(3_000), seal);
    assert_eq!(admit(&integration, &late), Admission::Wait);
    integration.is_finished = true;
    assert_eq!(admit(&integration, &late), Admission::Drop);
}
