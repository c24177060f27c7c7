use super::*;

fn pacer(pace: &Pace, most: Option<u32>) -> Pacer {
    Pacer::new(pace, most, 0, Millis(0))
}

#[test]
fn a_limit_is_never_exceeded() {
    let mut pacer = pacer(
        &Pace {
            window: 500,
            last_rate: 9_000_000,
            ..Pace::default()
        },
        Some(1),
    );
    assert_eq!(pacer.may_begin_at(0), Some(0));
    pacer.begin(1, 0);
    assert_eq!(pacer.may_begin_at(0), None);
    pacer.end(1, Verdict::Taken, 5, 5);
    for second in 1..100 {
        pacer.waits(second * 1_000 - 1);
        pacer.pass(second * 1_000);
    }
    assert_eq!(pacer.window(), 1);
}

#[test]
fn a_pause_that_was_asked_for_is_kept_and_handed_on() {
    let mut pacer = pacer(&Pace::default(), None);
    pacer.begin(1, 0);
    pacer.end(1, Verdict::Refused(Some(Duration::from_secs(7))), 100, 100);
    assert_eq!(pacer.may_begin_at(200), Some(7_100));
    let kept = pacer.kept(&Pace::default(), 1_100, Millis(50_000));
    assert_eq!(kept.hold_until, Some(Millis(56_000)));
    let next = Pacer::new(&kept, None, 3, Millis(51_000));
    assert_eq!(next.may_begin_at(3), Some(5_003));
}

#[test]
fn a_receiver_that_is_down_gets_one_request_at_a_time() {
    let mut pacer = pacer(
        &Pace {
            window: 50,
            ceiling: Some(60),
            ..Pace::default()
        },
        None,
    );
    pacer.interrupt(0, Duration::from_secs(3));
    assert_eq!(pacer.may_begin_at(0), Some(3_000));
    pacer.begin(1, 3_000);
    assert_eq!(pacer.may_begin_at(3_000), None);
    pacer.end(1, Verdict::Taken, 20, 3_020);
    pacer.resume(3_020);
    let kept = pacer.kept(&Pace::default(), 3_020, Millis(0));
    assert_eq!(
        (kept.window, kept.ceiling),
        (1, Some(60)),
        "its ceiling is kept"
    );
}

#[test]
fn no_receiver_asks_for_a_pause_of_more_than_fifteen_minutes() {
    let day = Duration::from_secs(24 * 3600);
    for asked in [day, Duration::from_secs(u64::MAX)] {
        let mut one = pacer(&Pace::default(), None);
        one.begin(1, 0);
        one.end(1, Verdict::Refused(Some(asked)), 100, 100);
        assert_eq!(one.may_begin_at(200), Some(900_100));
        one.interrupt(200, asked);
        assert_eq!(one.hold_until(), 900_200);
    }
    let held = Pace {
        hold_until: Some(Millis(0).after(day)),
        ..Pace::default()
    };
    assert_eq!(pacer(&held, None).may_begin_at(0), Some(900_000));
}

#[test]
fn a_receiver_that_takes_its_time_keeps_its_window_and_the_next_step_knows() {
    let mut first = pacer(&Pace::default(), None);
    for id in 0..10 {
        first.begin(id, 0);
        first.begun(id, 0);
    }
    for now in (500..12_000).step_by(500) {
        first.pass(now);
    }
    assert_eq!(first.window(), 5, "once, before anything is answered");
    for id in 0..10 {
        first.end(id, Verdict::Taken, 12_000, 12_000);
    }
    let kept = first.kept(&Pace::default(), 12_000, Millis(12_000));
    assert_eq!(kept.usual, 12_000);
    let mut next = Pacer::new(&kept, None, 0, Millis(20_000));
    next.begin(1, 0);
    next.begun(1, 0);
    for now in (500..12_000).step_by(500) {
        next.pass(now);
    }
    assert_eq!(next.window(), 5);
}
