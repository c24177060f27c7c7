//! What a sender makes of lists of waiting events that end before all are listed.

use super::*;

/// A stream that owes so many events, of which the first hundred wait, each in an item of its own; ten are many.
fn waiting(count: u64) -> World {
    let mut world = World::owing(count);
    let waits = world.log.iter().take(100).zip(1..);
    world.waiting = waits
        .map(|(segment, token)| {
            let waiting = Waiting {
                segment: *segment,
                shard: 0,
                indices: vec![0],
                attempt: 2,
                failing_since: Some(at(1)),
                due_at: at(1),
                reason: None,
            };
            let token = Ulid(token << 64);
            let key = WaitingKey {
                segment: *segment,
                token,
            };
            (key, waiting)
        })
        .collect();
    world.limits.waiting = 10;
    world
}

#[test]
fn more_events_that_wait_than_are_listed_are_sent_and_then_what_is_owed() {
    let mut world = waiting(200);
    let posts = world.step(&|_, _| (delivered(), 20));
    let numbers: Vec<usize> = posts.iter().map(|(number, _)| *number).collect();
    assert_eq!(world.listed, 20);
    assert!(world.waiting.is_empty(), "{} are left", world.waiting.len());
    // All that waited, and then those that are owed, of which the first hundred are the same.
    let first_owed = numbers.iter().position(|number| *number >= 100).unwrap();
    assert!((0..100).all(|number| numbers[..first_owed].contains(&number)));
    assert!((100..200).all(|number| numbers[first_owed..].contains(&number)));
}

#[test]
fn a_list_of_events_that_are_not_to_be_sent_any_more_holds_up_no_other() {
    let mut world = waiting(200);
    let stream = world.integration.stream_mut().unwrap();
    // It was started afresh behind all that is listed, and as much again.
    stream.floor = at(50);
    let posts = world.step(&|_, _| (delivered(), 20));
    assert!(world.waiting.is_empty(), "{} are left", world.waiting.len());
    assert!((100..200).all(|number| posts.iter().any(|(posted, _)| *posted == number)));
}
