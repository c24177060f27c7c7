//! Tests of what is decided before and after an attempt.

use super::*;
use crate::filter::Filter;
use crate::integration::Status;
use crate::receiver::outcome::Failure;
use crate::stream::health::Interruption;

const GIVE_UP: Duration = Duration::from_secs(5 * 24 * 3600);
const RULES: Rules = Rules {
    seal: Duration::from_secs(10),
    give_up: GIVE_UP,
    retention: Duration::from_secs(90 * 24 * 3600),
};

fn at(hours: u64) -> Millis {
    Millis(1_700_000_000_000).after(Duration::from_secs(hours * 3600))
}

fn webhook() -> Integration {
    crate::integration::tests::webhook(at(0))
}

/// Whether an event that has failed since `failing_since`, and fails at hour 200, is given up.
fn is_rejected(integration: &Integration, failing_since: Millis) -> bool {
    let dispatch = Dispatch {
        attempt: 7,
        failing_since: Some(failing_since),
        ..dispatch(Origin::Live)
    };
    let attempt = Attempt {
        integration,
        dispatch: &dispatch,
        url: "https://erp.example/",
        body: "{}",
        now: at(200),
        rules: &RULES,
        jitter: 0.0,
        token: Ulid(2),
    };
    let failed = Outcome::Failed(Failure {
        reason: "no".into(),
        retry_after: None,
    });
    let effects = judge(&attempt, &failed);
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Reject { .. }))
}

#[test]
fn an_event_is_given_up_after_days_of_its_own_in_which_another_one_was_taken() {
    // The hours of the last success and of the last start or resumption; whether it is given up that has failed since 50.
    for (last_success, resumed, expected) in [
        (Some(60), None, true),
        (Some(60), Some(40), true),
        (Some(190), Some(79), true),
        // Less than five days since it was started, or since an outage ended.
        (Some(190), Some(81), false),
        (Some(199), Some(150), false),
        // Nothing was taken since: the receiver is down, or was given up and has just been started again.
        (Some(50), None, false),
        (Some(49), Some(40), false),
        (None, None, false),
        (None, Some(60), false),
    ] {
        let mut integration = webhook();
        let health = &mut integration.stream_mut().unwrap().health;
        health.last_success_at = last_success.map(at);
        health.resumed_at = resumed.map(at);
        let case = format!("{last_success:?} {resumed:?}");
        assert_eq!(is_rejected(&integration, at(50)), expected, "{case}");
    }
    let mut integration = webhook();
    integration.stream_mut().unwrap().health.last_success_at = Some(at(190));
    assert!(!is_rejected(&integration, at(81)), "not five days yet");
}

fn dispatch(origin: Origin) -> Dispatch {
    Dispatch {
        event: EventRef {
            segment: at(1).first_id(),
            index: 0,
            shard: 0,
        },
        event_id: "e".into(),
        name: "order.created".into(),
        attempt: 1,
        failing_since: None,
        origin,
    }
}

const LIVE: Origin = Origin::Live;
const CHUNK: Origin = Origin::Chunk {
    chunk: Ulid(4),
    index: 1,
};
const PROBE: Origin = Origin::Probe {
    since: Millis(6),
    token: Ulid(5),
};

/// Effects by their names, with those of their inputs.
fn names(effects: &[Effect]) -> Vec<&'static str> {
    let name = |effect: &Effect| match effect {
        Effect::Park(_) => "park",
        Effect::Unpark { .. } => "unpark",
        Effect::Settle { .. } => "settle",
        Effect::Retry { .. } => "retry",
        Effect::Reject { .. } => "reject",
        Effect::Apply(Input::Gone { .. }) => "gone",
        Effect::Apply(Input::Parked) => "parked",
        Effect::Apply(Input::Succeeded { .. }) => "succeeded",
        Effect::Apply(Input::Failed { .. }) => "failed",
        Effect::Apply(Input::ProbeSucceeded { .. }) => "probe succeeded",
        Effect::Apply(Input::ProbeFailed { .. }) => "probe failed",
        Effect::Apply(_) => "another input",
    };
    effects.iter().map(name).collect()
}

#[test]
fn before_an_attempt_the_integration_of_now_decides() {
    let change = |change: fn(&mut Integration)| {
        let mut integration = webhook();
        change(&mut integration);
        integration
    };
    let is = change(|_| {});
    let stopped = change(|it| it.status = Status::Stopped);
    let finished = change(|it| it.is_finished = true);
    let interrupt = |it: &mut Integration| {
        it.stream_mut().unwrap().health.interruption = Some(Interruption {
            since: Millis(6),
            probes: 1,
            cursor: None,
            next_probe_at: Millis(7),
        });
    };
    let interrupted = change(interrupt);
    let restarted = change(|it| it.stream_mut().unwrap().floor = at(2));
    let filtered = change(|it| {
        it.filter = Some(Filter {
            event_filter: Some(vec!["return.processed".to_owned()]),
            entity_filter: None,
        });
    });
    let stopped_filtered = Integration {
        status: Status::Stopped,
        ..filtered.clone()
    };
    for (case, integration, origin, expected) in [
        ("running", &is, LIVE, None),
        ("running", &is, CHUNK, None),
        ("a probe of no interruption", &is, PROBE, Some(vec![])),
        ("interrupted", &interrupted, PROBE, None),
        (
            "interrupted",
            &interrupted,
            LIVE,
            Some(vec!["park", "parked"]),
        ),
        (
            "interrupted",
            &interrupted,
            CHUNK,
            Some(vec!["park", "settle", "parked"]),
        ),
        ("stopped", &stopped, LIVE, Some(vec!["park", "parked"])),
        (
            "stopped",
            &stopped,
            CHUNK,
            Some(vec!["park", "settle", "parked"]),
        ),
        ("stopped", &stopped, PROBE, Some(vec![])),
        ("finished", &finished, LIVE, Some(vec![])),
        ("finished", &finished, CHUNK, Some(vec!["settle"])),
        ("before the floor", &restarted, LIVE, Some(vec![])),
        ("before the floor", &restarted, CHUNK, Some(vec!["settle"])),
        ("filtered out", &filtered, LIVE, Some(vec![])),
        ("filtered out", &filtered, CHUNK, Some(vec!["settle"])),
        // The filter may change before it is started again.
        (
            "stopped and filtered",
            &stopped_filtered,
            LIVE,
            Some(vec!["park", "parked"]),
        ),
    ] {
        let admission = match admit(integration, &dispatch(origin), Ulid(9)) {
            Admission::Post => None,
            Admission::Instead(effects) => Some(names(&effects)),
        };
        assert_eq!(admission, expected, "{case}, {origin:?}");
    }
}

#[test]
fn after_an_attempt_the_outcome_and_the_origin_decide() {
    let integration = webhook();
    let failed = || {
        Outcome::Failed(Failure {
            reason: "no".into(),
            retry_after: None,
        })
    };
    let rejected = || Outcome::Rejected("no such item".into());
    for (outcome, origin, expected) in [
        (Outcome::Delivered, LIVE, vec!["succeeded"]),
        (Outcome::Delivered, CHUNK, vec!["settle", "succeeded"]),
        (Outcome::Delivered, PROBE, vec!["unpark", "probe succeeded"]),
        (rejected(), LIVE, vec!["reject", "succeeded"]),
        (rejected(), CHUNK, vec!["reject", "settle", "succeeded"]),
        (
            rejected(),
            PROBE,
            vec!["reject", "unpark", "probe succeeded"],
        ),
        (Outcome::Gone, LIVE, vec!["gone", "park", "parked"]),
        (
            Outcome::Gone,
            CHUNK,
            vec!["gone", "park", "settle", "parked"],
        ),
        // A probe's event is parked already.
        (Outcome::Gone, PROBE, vec!["gone"]),
        (failed(), LIVE, vec!["retry", "failed"]),
        (failed(), CHUNK, vec!["retry", "failed"]),
        (failed(), PROBE, vec!["probe failed"]),
    ] {
        let attempt = Attempt {
            integration: &integration,
            dispatch: &dispatch(origin),
            url: "https://erp.example/",
            body: "{}",
            now: at(2),
            rules: &RULES,
            jitter: 0.0,
            token: Ulid(9),
        };
        let effects = judge(&attempt, &outcome);
        assert_eq!(names(&effects), expected, "{outcome:?}, {origin:?}");
    }
}
