use std::time::Duration;

use ulid::Ulid;

use super::*;
use crate::integration::tests::webhook;
use crate::integration_log::Action;
use crate::log::position::Position;
use crate::stream::Because;

const RULES: Rules = Rules {
    seal: Duration::from_secs(10),
    give_up: Duration::from_secs(5 * 24 * 3600),
    retention: Duration::from_secs(90 * 24 * 3600),
};

fn at(seconds: u64) -> Millis {
    Millis(1_000_000_000).after(Duration::from_secs(seconds))
}

fn stop() -> Input {
    Input::Stop {
        reason: "Stopped via API.".to_owned(),
    }
}

/// A webhook whose first step has come and gone.
fn settled() -> Integration {
    let mut integration = webhook(at(0));
    let stream = integration.stream_mut().unwrap();
    stream.resume(at(0), RULES.seal);
    stream.confirm();
    stream.owed.clear();
    stream.schedule.leave(None);
    integration
}

/// A run with a failed attempt of each of these events.
fn failed(epoch: u64, events: &[&str], due_at: Millis) -> Input {
    Input::Ran(Ran {
        epoch,
        failed: Some(RanFailed {
            events: events.iter().map(|event| (*event).to_owned()).collect(),
            since: due_at.before(Duration::from_secs(5)),
            reason: "no".to_owned(),
        }),
        due_at: Some(due_at),
        ..Ran::default()
    })
}

fn taken(epoch: u64) -> Input {
    Input::Ran(Ran {
        epoch,
        is_taken: true,
        ..Ran::default()
    })
}

fn refused(hold: Option<u64>) -> Input {
    Input::Ran(Ran {
        is_refused: true,
        hold: hold.map(Duration::from_secs),
        ..Ran::default()
    })
}

fn slow() -> Input {
    Input::Ran(Ran {
        is_slow: true,
        ..Ran::default()
    })
}

/// Applies an input, and writes what comes of it.
fn carry_out(integration: &mut Integration, input: &Input, now: Millis) -> Change {
    let change = apply(integration, input, now, &RULES);
    if let Some(next) = &change.next {
        *integration = next.clone();
    }
    change
}

fn actions(change: &Change) -> Vec<Action> {
    change.entries.iter().map(|(action, _)| *action).collect()
}

fn because(integration: &Integration) -> Option<Because> {
    let served = integration.stream().unwrap().served();
    served.map(|served| served.because)
}

#[test]
fn what_is_so_already_is_not_written_again() {
    let mut integration = settled();
    let waits = Input::Ran(Ran {
        due_at: Some(at(100)),
        ..Ran::default()
    });
    for (input, verdict) in [
        (&Input::Start, Verdict::Keep),
        (&taken(0), Verdict::Write),
        (&taken(0), Verdict::Keep),
        (&stop(), Verdict::Write),
        (&stop(), Verdict::Keep),
        (&waits, Verdict::Keep),
        (&Input::Start, Verdict::Write),
        (&Input::Start, Verdict::Keep),
        // A step was asked for by the start already.
        (&waits, Verdict::Keep),
    ] {
        let change = carry_out(&mut integration, input, at(100));
        assert_eq!(change.verdict, verdict, "{input:?}");
    }
}

#[test]
fn an_outage_opens_a_gap_and_asks_for_a_probe() {
    let mut integration = settled();
    for n in 0..4 {
        let change = carry_out(
            &mut integration,
            &failed(0, &[&n.to_string()], at(120)),
            at(97),
        );
        assert_eq!(actions(&change), [Action::RetryTriggered]);
    }
    assert_eq!(because(&integration), None);
    let change = carry_out(&mut integration, &failed(0, &["4"], at(105)), at(100));
    let logged = [Action::RetryTriggered, Action::DeliveryInterrupted];
    assert_eq!(actions(&change), logged);
    assert_eq!(because(&integration), Some(Because::Down));
    let stream = integration.stream().unwrap();
    assert!(stream.is_interrupted() && stream.is_live(at(109)) && !stream.is_live(at(110)));
    assert_eq!(stream.schedule.wake_at, Some(at(103)));
    // What is under way still counts for nothing now, and wakes nothing before the next probe.
    let change = carry_out(&mut integration, &failed(0, &["5"], at(101)), at(101));
    assert_eq!(change.verdict, Verdict::Keep);
}

#[test]
fn a_failed_attempt_asks_for_a_step_when_its_event_is_due() {
    let mut integration = settled();
    let change = carry_out(&mut integration, &failed(0, &["1"], at(105)), at(100));
    assert_eq!(change.step.unwrap().delay, Duration::from_secs(5));
    let stream = integration.stream().unwrap();
    assert_eq!(stream.schedule.wake_at, Some(at(105)));
    assert!(stream.is_live(at(1_000)), "one bad event holds up no other");
    let later = failed(0, &["2"], at(107));
    assert_eq!(carry_out(&mut integration, &later, at(102)).step, None);
    let earlier = failed(0, &["3"], at(104));
    let change = carry_out(&mut integration, &earlier, at(103));
    assert_eq!(change.step.unwrap().delay, Duration::from_secs(1));
}

#[test]
fn a_receiver_that_refuses_is_served_from_then_on() {
    let mut integration = settled();
    let change = carry_out(&mut integration, &refused(Some(7)), at(100));
    assert_eq!(actions(&change), [Action::DeliveryPaced]);
    assert_eq!(because(&integration), Some(Because::Refused));
    let stream = integration.stream().unwrap();
    assert_eq!(stream.pace.hold_until, Some(at(107)));
    assert_eq!(stream.schedule.wake_at, Some(at(107)));
    assert_eq!(stream.live_again_at(), Some(at(160)));
    // The others that see it at the same moment change nothing.
    let change = carry_out(&mut integration, &refused(Some(9)), at(100));
    assert_eq!(change.verdict, Verdict::Keep);
}

#[test]
fn the_second_slow_vote_of_half_a_minute_counts() {
    let mut integration = settled();
    for (now, expected) in [(100, None), (131, None), (160, Some(Because::Slow))] {
        carry_out(&mut integration, &slow(), at(now));
        assert_eq!(because(&integration), expected, "{now}");
    }
}

#[test]
fn a_stream_that_is_refused_again_within_an_hour_is_served_for_twice_as_long() {
    let mut integration = settled();
    let mut holds = Vec::new();
    for n in 0..8 {
        let now = at(100 + n * 2_000);
        carry_out(&mut integration, &refused(None), now);
        let stream = integration.stream_mut().unwrap();
        holds.push(stream.live_again_at().unwrap().since(now).as_secs());
        stream.resume(now.after(Duration::from_secs(100)), RULES.seal);
        stream.confirm();
    }
    assert_eq!(holds, [60, 120, 240, 480, 960, 1_920, 1_920, 1_920]);
    carry_out(&mut integration, &refused(None), at(30_000));
    let stream = integration.stream().unwrap();
    assert_eq!(
        stream.live_again_at(),
        Some(at(30_060)),
        "it was quiet for an hour"
    );
}

#[test]
fn a_result_counts_for_the_start_that_its_attempt_was_made_for() {
    let mut integration = settled();
    let gone = |epoch| Input::Gone {
        epoch,
        reason: "gone".to_owned(),
    };
    carry_out(&mut integration, &stop(), at(100));
    carry_out(&mut integration, &Input::Start, at(101));
    let stream = integration.stream_mut().unwrap();
    stream.resume(at(101), RULES.seal);
    stream.confirm();
    for (input, verdict) in [
        (gone(0), Verdict::Keep),
        (failed(0, &["1"], at(110)), Verdict::Keep),
        (taken(0), Verdict::Keep),
        (taken(1), Verdict::Write),
        (failed(1, &["1"], at(110)), Verdict::Write),
        // The first start's success clears no failure of the second one's.
        (taken(0), Verdict::Keep),
        (gone(1), Verdict::Write),
    ] {
        let change = carry_out(&mut integration, &input, at(103));
        assert_eq!(change.verdict, verdict, "{input:?}");
    }
    assert!(!integration.is_running());
}

#[test]
fn an_integration_that_only_fails_for_days_is_given_up() {
    let mut integration = settled();
    carry_out(&mut integration, &failed(0, &["1"], at(105)), at(100));
    let days = RULES.give_up.as_secs();
    let change = carry_out(
        &mut integration,
        &failed(0, &["1"], at(days + 105)),
        at(days + 100),
    );
    let logged = [Action::RetryTriggered, Action::IntegrationStopped];
    assert_eq!(actions(&change), logged);
    assert!(!integration.is_running());
}

/// A step that has begun, and the checkpoint that it would write.
fn begun(integration: &mut Integration, now: Millis) -> (u64, Checkpoint) {
    let turn = integration.stream().unwrap().schedule.turn;
    let begin = Input::Step {
        turn,
        step: StepInput::Begin {
            holder: Ulid(7),
            until: now.after(Duration::from_secs(90)),
        },
    };
    assert_eq!(carry_out(integration, &begin, now).verdict, Verdict::Write);
    let stream = integration.stream().unwrap();
    let checkpoint = Checkpoint {
        epoch: stream.epoch,
        from: stream.owed.first().map(|owed| owed.from),
        to: Position::at(now.first_id()),
        sent: Position::at(now.before(Duration::from_secs(5)).first_id()),
        is_judge: true,
        ran: Ran::default(),
        health: stream.health.clone(),
        pace: stream.pace,
        waiting: 3,
        failure: None,
        serve: None,
        hears: false,
        confirmed: false,
    };
    (stream.schedule.turn, checkpoint)
}

fn save(turn: u64, checkpoint: Checkpoint) -> Input {
    let step = StepInput::Checkpoint(Box::new(checkpoint));
    Input::Step { turn, step }
}

#[test]
fn a_checkpoint_moves_the_position_and_after_a_stop_only_as_far_as_was_sent() {
    for is_stopped in [false, true] {
        let mut integration = webhook(at(0));
        let (turn, checkpoint) = begun(&mut integration, at(100));
        if is_stopped {
            carry_out(&mut integration, &stop(), at(101));
        }
        let expected = match is_stopped {
            true => checkpoint.sent,
            false => checkpoint.to,
        };
        let change = carry_out(&mut integration, &save(turn, checkpoint.clone()), at(102));
        assert_eq!(change.verdict, Verdict::Write);
        assert_eq!(integration.stream().unwrap().owed[0].from, expected);
        // Neither a repeat of it nor one of another turn.
        let again = carry_out(&mut integration, &save(turn, checkpoint.clone()), at(103));
        assert_eq!(again.verdict, Verdict::Refuse);
        let other = carry_out(&mut integration, &save(turn + 1, checkpoint), at(103));
        assert_eq!(other.verdict, Verdict::Refuse);
    }
}

#[test]
fn what_a_sender_has_seen_counts_for_the_start_that_it_has_seen() {
    for (is_restarted, expected) in [(false, 3), (true, 0)] {
        let mut integration = webhook(at(0));
        let (turn, mut checkpoint) = begun(&mut integration, at(100));
        if is_restarted {
            carry_out(&mut integration, &stop(), at(101));
            carry_out(&mut integration, &Input::Start, at(102));
        }
        checkpoint.pace.window = 3;
        checkpoint.hears = true;
        carry_out(&mut integration, &save(turn, checkpoint), at(103));
        let stream = integration.stream().unwrap();
        assert_eq!(stream.pace.window, expected);
        assert_eq!(
            stream.schedule.nudged, is_restarted,
            "the start is not forgotten"
        );
    }
}

#[test]
fn a_step_that_had_nothing_to_do_is_not_followed_by_one_at_once() {
    let rest = Rest {
        next: Some(at(0)),
        waits: true,
        has_moved: false,
        has_failed: false,
    };
    for (rest, delay) in [
        (rest, 5),
        (
            Rest {
                has_moved: true,
                ..rest
            },
            0,
        ),
        (
            Rest {
                has_failed: true,
                ..rest
            },
            10,
        ),
    ] {
        let mut integration = settled();
        let stream = integration.stream_mut().unwrap();
        stream.schedule.leave(Some(at(90)));
        let (turn, _) = begun(&mut integration, at(100));
        let confirmed = false;
        let step = StepInput::Leave { confirmed, rest };
        let change = carry_out(&mut integration, &Input::Step { turn, step }, at(101));
        assert_eq!(change.step.unwrap().delay, Duration::from_secs(delay));
    }
}

fn strike() -> Input {
    Input::Ran(Ran {
        is_strike: true,
        ..Ran::default()
    })
}

#[test]
fn three_strikes_within_two_seconds_take_a_stream_out_of_live_delivery_and_fewer_do_not() {
    let mut integration = settled();
    let after = |millis| at(100).after(Duration::from_millis(millis));
    for millis in [0, 1_900, 3_950, 5_960, 7_900] {
        carry_out(&mut integration, &strike(), after(millis));
        assert_eq!(because(&integration), None, "{millis}");
    }
    carry_out(&mut integration, &strike(), after(8_000));
    assert_eq!(because(&integration), None);
    let change = carry_out(&mut integration, &strike(), after(8_100));
    assert_eq!(because(&integration), Some(Because::Refused));
    assert_eq!(actions(&change), [Action::DeliveryPaced]);
    assert!(integration.stream().unwrap().strikes.is_empty());
}

#[test]
fn while_a_sender_judges_a_late_run_brings_only_what_waits_and_what_was_asked_for() {
    let mut integration = settled();
    carry_out(&mut integration, &refused(Some(5)), at(100));
    for n in 0..9 {
        let late = failed(0, &[&n.to_string()], at(130));
        carry_out(&mut integration, &late, at(100 + n));
    }
    let health = &integration.stream().unwrap().health;
    assert_eq!((health.failures, health.interruption), (0, None));
    assert!(health.is_retrying(at(130)));
    let change = carry_out(&mut integration, &refused(Some(60)), at(110));
    assert_eq!(change.verdict, Verdict::Write);
    let hold = integration.stream().unwrap().pace.hold_until;
    assert_eq!(hold, Some(at(170)));
}

#[test]
fn failures_before_the_last_success_count_for_nothing() {
    let mut integration = settled();
    carry_out(&mut integration, &taken(0), at(100));
    // Seen before that success, and written down behind it.
    for n in 0..9_u64 {
        let early = Input::Ran(Ran {
            failed: Some(RanFailed {
                events: vec![n.to_string()],
                since: at(99),
                reason: "no".to_owned(),
            }),
            due_at: Some(at(110 + 20 * n)),
            ..Ran::default()
        });
        carry_out(&mut integration, &early, at(101 + n));
    }
    let stream = integration.stream().unwrap();
    assert!(!stream.is_interrupted() && stream.health.failures == 0);
}

#[test]
fn a_checkpoint_of_a_live_stream_adds_to_what_delivery_has_found_and_overwrites_nothing() {
    let mut integration = settled();
    carry_out(&mut integration, &failed(0, &["1"], at(120)), at(99));
    let (turn, mut checkpoint) = begun(&mut integration, at(99));
    (checkpoint.from, checkpoint.is_judge) = (None, false);
    // Delivery clears the failure, and then finds the receiver down.
    carry_out(&mut integration, &taken(0), at(100));
    for n in 0..5 {
        let due_at = at(120 + n);
        carry_out(
            &mut integration,
            &failed(0, &[&n.to_string()], due_at),
            at(110 + n),
        );
    }
    assert!(integration.stream().unwrap().is_interrupted());
    let before = integration.stream().unwrap().health.clone();
    carry_out(&mut integration, &save(turn, checkpoint.clone()), at(116));
    assert_eq!(integration.stream().unwrap().health, before);
    // While the stream is live, a success that the sender has seen counts as one of delivery.
    let mut integration = settled();
    let (turn, mut checkpoint) = begun(&mut integration, at(99));
    (checkpoint.from, checkpoint.is_judge) = (None, false);
    carry_out(&mut integration, &failed(0, &["1"], at(120)), at(100));
    checkpoint.ran.is_taken = true;
    carry_out(&mut integration, &save(turn, checkpoint), at(101));
    let health = &integration.stream().unwrap().health;
    assert_eq!(
        (health.failures, health.last_success_at),
        (0, Some(at(101)))
    );
}
