//! Tests of stream.

use properties::{Random, RngExt};

use super::*;

const SEAL: Duration = Duration::from_millis(10);

fn at(millis: u64) -> Millis {
    Millis(1_000_000 + millis)
}

#[test]
fn a_new_stream_is_live_from_a_seal_after_its_gap_was_ended() {
    let mut stream = Stream::registered(at(0), at(0), None);
    assert!(stream.is_paused());
    assert!(!stream.is_live(at(50)));
    stream.resume(at(5), SEAL);
    assert!(!stream.is_live(at(14)));
    assert!(stream.is_live(at(15)));
    assert_eq!(
        stream.readable(at(100)),
        Some(Readable {
            start: at(0),
            from: Position::at(at(0).first_id()),
            until: at(15).first_id()
        })
    );
}

#[test]
fn a_stop_is_live_until_a_seal_later_and_owes_the_rest() {
    let mut stream = Stream::registered(at(0), at(0), None);
    stream.resume(at(0), SEAL);
    stream.confirm();
    stream.advance(Position::at(at(10).first_id()));
    assert!(stream.owed.is_empty());
    stream.pause(at(100), SEAL);
    assert!(stream.is_live(at(109)));
    assert!(!stream.is_live(at(110)));
    stream.resume(at(200), SEAL);
    assert!(!stream.is_live(at(209)));
    assert!(stream.is_live(at(210)));
    assert_eq!(
        stream.owed,
        [Owed {
            start: at(110),
            from: Position::at(at(110).first_id()),
            until: Some(at(210))
        }]
    );
}

#[test]
fn a_gap_whose_end_is_unconfirmed_is_remembered_until_it_has_been_moved() {
    let mut stream = Stream::registered(at(0), at(0), None);
    stream.resume(at(0), SEAL);
    let late = at(100).after(INGEST_TIMEOUT);
    stream.forget_old_gaps(late, SEAL);
    stream.resume_later(late, SEAL);
    assert!(!stream.is_live(late));
    let owed = stream.owed.iter().map(|owed| (owed.start, owed.until));
    let owed: Vec<_> = owed.collect();
    assert_eq!(owed, [(at(0), Some(late.after(SEAL)))]);
}

#[test]
fn a_start_right_behind_a_stop_owes_what_was_left_out_until_it_was_confirmed() {
    let mut stream = Stream::registered(at(0), at(0), None);
    stream.resume(at(0), SEAL);
    stream.confirm();
    stream.advance(Position::at(at(10).first_id()));
    stream.pause(at(20), SEAL);
    stream.resume(at(20), SEAL);
    assert!(stream.is_live(at(30)) && stream.owed.is_empty());
    // The start was written at 80: until then the stop's gap was what ingest saw.
    stream.resume_later(at(80), SEAL);
    let owed = stream.owed.iter().map(|owed| (owed.start, owed.until));
    let owed: Vec<_> = owed.collect();
    assert_eq!(owed, [(at(30), Some(at(90)))]);
    assert!(!stream.is_live(at(80)) && stream.is_live(at(90)));
}

#[test]
fn an_end_that_is_moved_by_a_clock_that_is_behind_owes_no_empty_range() {
    let mut stream = Stream::registered(at(0), at(0), None);
    stream.resume(at(5), SEAL);
    stream.advance(Position::at(at(15).first_id()));
    stream.resume_later(at(3), SEAL);
    assert_eq!(stream.owed, []);
    assert!(stream.is_live(at(15)));
}

#[test]
fn a_stop_by_a_clock_that_is_behind_owes_nothing_twice() {
    let mut stream = Stream::registered(at(0), at(0), None);
    stream.resume(at(5), SEAL);
    stream.confirm();
    stream.pause(at(3), SEAL);
    let ranges = stream.owed.iter().map(|owed| (owed.start, owed.until));
    let ranges: Vec<_> = ranges.collect();
    assert_eq!(ranges, [(at(0), Some(at(15))), (at(15), None)]);
}

#[test]
fn live_and_owed_cover_every_instant_whatever_stops_and_starts_come() {
    let steps = |random: &mut Random| -> Vec<(u64, u8)> {
        let count = random.random_range(1..40);
        let step = |_| (random.random_range(0..40), random.random_range(0..5));
        (0..count).map(step).collect()
    };
    properties::holds(steps, |steps| {
        let mut stream = Stream::registered(at(0), at(0), None);
        let mut worked = Vec::new();
        let mut now = 0;
        for (pause, step) in steps {
            now += pause;
            match step {
                0 => stream.pause(at(now), SEAL),
                1 => stream.resume(at(now), SEAL),
                2 => stream.resume_later(at(now), SEAL),
                3 => stream.confirm(),
                _ => {
                    if let Some(readable) = stream.readable(at(now.saturating_sub(10))) {
                        worked.push(readable);
                        stream.advance(Position::at(readable.until));
                    }
                }
            }
            stream.forget_old_gaps(at(now), SEAL);
            // Past instants that are sealed: each is live, worked off or still owed.
            for instant in 0..now {
                let place = at(instant).first_id();
                let was_worked =
                    |range: &Readable| range.from.segment <= place && place < range.until;
                let is_owed = |owed: &Owed| {
                    owed.from.segment <= place
                        && owed.until.is_none_or(|until| place < until.first_id())
                };
                let covered = stream.is_live(at(instant))
                    || worked.iter().any(was_worked)
                    || stream.owed.iter().any(is_owed);
                assert!(covered, "{instant} at {now}: {stream:?}");
            }
        }
    });
}

#[test]
fn a_late_confirmation_moves_the_end_even_when_the_range_was_worked_off() {
    let mut stream = Stream::registered(at(0), at(0), None);
    stream.resume(at(0), SEAL);
    stream.advance(Position::at(at(10).first_id()));
    stream.resume_later(at(30), SEAL);
    assert_eq!(
        stream.owed,
        [Owed {
            start: at(10),
            from: Position::at(at(10).first_id()),
            until: Some(at(40))
        }]
    );
    assert!(!stream.is_live(at(39)));
    assert!(stream.is_live(at(40)));
}

#[test]
fn a_stop_before_the_end_of_a_gap_was_confirmed_opens_the_gap_again() {
    let mut stream = Stream::registered(at(0), at(0), None);
    stream.resume(at(0), SEAL);
    stream.pause(at(30), SEAL);
    assert!(!stream.is_live(at(20)));
    assert_eq!(
        stream.owed,
        [Owed {
            start: at(0),
            from: Position::at(at(0).first_id()),
            until: None
        }]
    );
    stream.resume(at(50), SEAL);
    stream.confirm();
    stream.pause(at(70), SEAL);
    assert!(stream.is_live(at(79)));
}

#[test]
fn a_gap_of_no_length_leaves_nothing_behind() {
    let mut stream = Stream::registered(at(0), at(0), None);
    stream.resume(at(0), SEAL);
    stream.confirm();
    stream.advance(Position::at(at(10).first_id()));
    for started_at in [100, 95] {
        stream.pause(at(100), SEAL);
        stream.resume(at(started_at), SEAL);
        stream.confirm();
        assert!(stream.owed.is_empty(), "{stream:?}");
        assert!(!stream.is_paused());
        assert!(stream.is_live(at(110)));
    }
}

#[test]
fn a_temporary_stream_is_never_live_and_owes_its_range() {
    let mut stream = Stream::registered(at(100), at(0), Some(at(50)));
    assert!(!stream.is_live(at(20)));
    assert!(!stream.is_live(at(200)));
    assert_eq!(
        stream.readable(at(90)),
        Some(Readable {
            start: at(0),
            from: Position::at(at(0).first_id()),
            until: at(50).first_id()
        })
    );
    stream.advance(Position::at(at(50).first_id()));
    assert_eq!(stream.readable(at(90)), None);
    assert!(stream.owed.is_empty());
}

#[test]
fn gaps_are_remembered_while_an_ingest_may_be_at_work_on_them() {
    let mut stream = Stream::registered(at(0), at(0), None);
    stream.resume(at(0), SEAL);
    stream.confirm();
    let end = at(10);
    stream.forget_old_gaps(end.after(INGEST_TIMEOUT), SEAL);
    assert_eq!(stream.gaps.len(), 1);
    stream.forget_old_gaps(end.after(INGEST_TIMEOUT + SEAL), SEAL);
    assert!(stream.gaps.is_empty());
}

#[test]
fn a_stream_that_is_stopped_and_started_without_end_does_not_grow_without_end() {
    let mut stream = Stream::registered(at(0), at(0), None);
    for round in 0..1_000 {
        stream.resume(at(round * 40), SEAL);
        stream.confirm();
        stream.pause(at(round * 40 + 20), SEAL);
        if round % 3 == 0 {
            stream.forget_old_gaps(at(round * 40).after(INGEST_TIMEOUT * 2), SEAL);
        }
    }
    assert!(stream.gaps.len() <= MAX_RANGES && stream.owed.len() <= MAX_RANGES);
    let first = stream.owed[0].from.segment;
    assert_eq!(first, at(0).first_id(), "what was owed first is owed still");
}

#[test]
fn nothing_is_live_below_the_floor() {
    let mut stream = Stream::registered(at(100), at(100), None);
    stream.resume(at(100), SEAL);
    stream.confirm();
    stream.forget_old_gaps(at(100_000), SEAL);
    assert!(!stream.is_live(at(99)));
    assert!(stream.is_live(at(100)));
}
