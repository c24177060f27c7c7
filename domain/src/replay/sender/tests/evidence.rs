//! What a sender makes of failures: of the receiver's, of events that it never takes, and of our own.

use std::collections::BTreeSet;

use super::*;
use crate::sending::Order;

/// An event of the log that waits, as an earlier sender or a run has stored it.
fn waits(world: &mut World, number: usize, attempt: u32, failing_since: Millis, due_at: Millis) {
    let segment = world.log[number];
    let token = Ulid(number as u128 + 1);
    let waiting = Waiting {
        segment,
        shard: 0,
        indices: vec![0],
        attempt,
        failing_since: Some(failing_since),
        due_at,
        reason: None,
    };
    world.waiting.insert(WaitingKey { segment, token }, waiting);
}

impl World {
    pub(super) fn store_late(&mut self) {
        let Some(first) = self.late.take() else {
            return;
        };
        let now = self.wall();
        for number in first..self.log.len() {
            waits(self, number, 2, now, now);
        }
        let stream = self.integration.stream_mut().unwrap();
        stream.schedule.ask(now, now);
    }
}

/// A stream that has caught up, and is live.
fn live(count: u64) -> World {
    let mut world = World::owing(count);
    world.step(&|_, _| (delivered(), 20));
    assert_eq!(world.stream().served(), None);
    world
}

#[test]
fn events_that_are_never_taken_interrupt_no_stream_that_takes_the_others() {
    let mut world = live(40);
    let now = world.wall();
    for number in 0..30 {
        waits(
            &mut world,
            number,
            4,
            now.before(Duration::from_secs(600)),
            now,
        );
    }
    // The last success of delivery: the failures of these are older.
    let ran = Ran {
        is_taken: true,
        ..Ran::default()
    };
    world.now += 61_000;
    world.apply(&Input::Ran(ran));
    let posts = world.step(&|_, _| (failed(false), 20));
    assert!(posts.len() >= 30, "{}", posts.len());
    let stream = world.stream();
    assert!(!stream.is_interrupted() && stream.served().is_none());
    assert_eq!(stream.health.failures, 0);
}

#[test]
fn what_waited_because_of_the_receiver_is_due_when_it_accepts_again() {
    let mut world = live(10);
    let (now, soon) = (world.wall(), Duration::from_secs(1));
    let later = now.after(Duration::from_secs(800));
    if let Some(stream) = world.integration.stream_mut() {
        stream.health.last_success_at = Some(now.before(Duration::from_secs(300)));
        stream
            .health
            .fail(now.before(Duration::from_secs(200)), "x", now);
    }
    // One of before the last success, two of since then, and one that is due.
    waits(
        &mut world,
        0,
        9,
        now.before(Duration::from_secs(900)),
        later,
    );
    waits(
        &mut world,
        1,
        9,
        now.before(Duration::from_secs(200)),
        later,
    );
    waits(
        &mut world,
        2,
        9,
        now.before(Duration::from_secs(100)),
        later,
    );
    waits(
        &mut world,
        3,
        2,
        now.before(Duration::from_secs(100)),
        now.after(soon),
    );
    let posts = world.step(&|_, _| (delivered(), 20));
    let mut numbers: Vec<usize> = posts.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(world.waiting.len(), 1);
}

#[test]
fn where_failures_are_no_refusals_what_was_never_tried_probes_first_and_a_minute_apart() {
    let mut world = World::owing(60);
    let forbids = |number, _| {
        (
            if number < 50 {
                failed(false)
            } else {
                delivered()
            },
            20,
        )
    };
    let (began, mut posts) = (world.now, Vec::new());
    while world.now < began + 3_600_000 && !posts.iter().any(|(number, _)| *number == 50) {
        posts.extend(world.step(&forbids));
        let next = world.stream().schedule.wake_at.unwrap();
        world.now += next.since(world.wall()).as_millis() as u64;
    }
    let pauses = posts.windows(2).map(|two| two[1].1 - two[0].1);
    assert!(pauses.max().unwrap() <= 62_000);
    let numbers = posts.iter().map(|(number, _)| *number);
    let until = numbers.skip(20).take_while(|number| *number != 50);
    let tried: Vec<usize> = until.collect();
    let is_new = |at: usize| !tried[..at].contains(&tried[at]);
    assert!((0..tried.len()).all(is_new), "{tried:?}");
}

#[test]
fn of_events_that_are_never_taken_only_so_many_wait_and_the_oldest_are_rejected() {
    let mut world = World::owing(60);
    world.limits.waiting = 10;
    let poison = |number: usize| number.is_multiple_of(2);
    let respond = |number, _| {
        let posted = if poison(number) {
            failed(false)
        } else {
            delivered()
        };
        (posted, 20)
    };
    let (began, mut taken) = (world.now, 0);
    while world.now < began + 1_200_000 {
        let posts = world.step(&respond);
        taken += posts.iter().filter(|(number, _)| !poison(*number)).count();
        let Some(next) = world.stream().schedule.wake_at else {
            break;
        };
        world.now += next.since(world.wall()).as_millis() as u64;
    }
    assert_eq!(taken, 30, "each of the others, once");
    let waiting: usize = world.waiting.values().map(|it| it.indices.len()).sum();
    assert!(waiting <= 12, "{waiting}");
    let rejected: Vec<usize> = world.rejected.clone();
    assert!(
        rejected.len() + waiting == 30 && rejected.contains(&0),
        "{rejected:?}"
    );
}

#[test]
fn a_step_in_which_a_call_fails_saves_what_it_has_done_and_leaves() {
    for order in [Order::Put, Order::Read, Order::Post(40)] {
        let mut world = World::owing(200);
        world.fails = Some(order);
        let mut posts = world.step(&|number, _| {
            let posted = if number == 3 {
                failed(false)
            } else {
                delivered()
            };
            (posted, 20)
        });
        assert_eq!(posts.is_empty(), order == Order::Read, "{order:?}");
        world.fails = None;
        world.now += 30_000;
        posts.extend(world.step(&|_, _| (delivered(), 20)));
        let mut numbers: Vec<usize> = posts.iter().map(|(number, _)| *number).collect();
        numbers.retain(|number| *number != 3);
        numbers.sort_unstable();
        let once = numbers.windows(2).all(|two| two[0] != two[1]);
        // What could not be stored holds the position: all that follows it comes again.
        assert!(once || order == Order::Put, "{order:?}");
        numbers.dedup();
        assert_eq!(numbers.len(), 199, "{order:?}");
    }
}

#[test]
fn a_request_for_which_there_is_no_socket_is_no_attempt_and_is_made_a_moment_later() {
    let mut world = World::owing(40);
    let since = world.wall().before(Duration::from_secs(600));
    waits(&mut world, 35, 3, since, since);
    let before = world.waiting.clone();
    // In a whole step there is none: a second after each time it is tried again.
    let posts = world.step(&|_, _| (Posted::Unmade, 500));
    assert!((40..=470).contains(&posts.len()), "{}", posts.len());
    let times: BTreeSet<u64> = posts.iter().map(|(_, at)| *at).collect();
    let times: Vec<u64> = times.into_iter().collect();
    assert!(times.windows(2).any(|two| two[1] >= two[0] + 1_000));
    let same = |world: &World| {
        let health = &world.stream().health;
        health.failures == 0 && health.failing_since.is_none() && world.waiting == before
    };
    assert!(same(&world), "{:?}", world.waiting);
    // Now there are some after a while.
    let began = world.now;
    let posts = world.step(&|_, now| {
        if now < began + 1_500 {
            (Posted::Unmade, 500)
        } else {
            (delivered(), 20)
        }
    });
    let made = posts.iter().filter(|(_, at)| *at >= began + 1_500);
    let mut numbers: Vec<usize> = made.map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..40), "{numbers:?}");
    assert!(world.waiting.is_empty() && !world.stream().is_interrupted());
}

#[test]
fn what_cannot_be_stored_is_stored_again_while_the_lease_lasts() {
    for order in [Order::Put, Order::Drop] {
        let mut world = World::owing(200);
        let since = world.wall().before(Duration::from_secs(60));
        waits(&mut world, 150, 2, since, since);
        (world.fails, world.fails_until) = (Some(order), world.now + 40_000);
        let mut posts = world.step(&|number, _| {
            let posted = if number == 3 {
                failed(false)
            } else {
                delivered()
            };
            (posted, 20)
        });
        let numbers: BTreeSet<usize> = posts.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers.len(), 200, "{order:?}");
        world.now += 60_000;
        posts.extend(world.step(&|_, _| (delivered(), 20)));
        let mut numbers: Vec<usize> = posts.iter().map(|(number, _)| *number).collect();
        numbers.retain(|number| *number != 3);
        assert_eq!(numbers.len(), 199, "{order:?}: each once");
        assert!(world.waiting.is_empty());
    }
}

#[test]
fn an_event_that_was_read_and_is_listed_as_well_is_never_under_way_twice() {
    let mut world = World::owing(600);
    world.late = Some(450);
    if let crate::integration::Target::Webhook { callback, .. } = &mut world.integration.target {
        callback.max_in_flight = Some(10);
    }
    let posts = world.step(&|_, _| (delivered(), 200));
    let last: Vec<u64> = (560..600)
        .flat_map(|it| posts.iter().filter(move |(number, _)| *number == it))
        .map(|(_, at)| *at)
        .collect();
    assert_eq!(
        last.len(),
        40,
        "each once: it was not sent when it was listed"
    );
    assert!(world.waiting.is_empty());
}
