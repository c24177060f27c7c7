//! What a run makes of refusals.

use super::*;

/// Waits until something is posted, for a second at most.
fn next_posts(trial: &mut Trial) -> Vec<usize> {
    let until = trial.now + 1_000;
    while trial.now < until {
        let posts = trial.posts();
        if !posts.is_empty() {
            return posts;
        }
        trial.wait(1_000);
    }
    Vec::new()
}

#[test]
fn a_refusal_alone_is_tried_again_in_its_run_and_nothing_is_written() {
    let mut trial = Trial::of(4, 30_000);
    assert_eq!(trial.posts(), [0]);
    trial.now = 10;
    trial.end(0, refused(None));
    assert!(trial.posts().is_empty(), "a pause");
    // What was never tried comes first, then what was refused when it is due.
    assert_eq!((next_posts(&mut trial), trial.now), (vec![1], 110));
    trial.now += 10;
    trial.end(1, Outcome::Delivered);
    assert_eq!(trial.posts(), [2, 3]);
    trial.end(2, Outcome::Delivered);
    trial.end(3, Outcome::Delivered);
    assert_eq!((next_posts(&mut trial), trial.now), (vec![0], 260));
    trial.end(0, Outcome::Delivered);
    assert!(trial.posts().is_empty() && trial.posting.is_over());
    assert_eq!(trial.orders, []);
}

#[test]
fn two_refusals_in_a_row_over_two_events_are_a_strike_and_three_stop_the_run() {
    let mut trial = Trial::of(9, 30_000);
    for number in [0, 1] {
        assert_eq!(next_posts(&mut trial), [number]);
        assert!(trial.said().is_empty());
        trial.now += 10;
        trial.end(number, refused(None));
    }
    trial.posts();
    assert!(trial.said()[0].is_strike && !trial.said()[0].is_refused);
    let refused_at = trial.now;
    assert_eq!(next_posts(&mut trial), [2]);
    assert_eq!(trial.now, refused_at + 300);
    trial.end(2, refused(None));
    assert!(trial.posts().is_empty() && trial.posting.is_over());
    let ran = trial.said()[1];
    assert!(ran.is_refused && !ran.is_strike && ran.hold.is_none());
    let RanFailed { events, .. } = ran.failed.as_ref().unwrap();
    assert_eq!(events.len(), 3);
    let waiting: usize = trial.items().iter().map(|it| it.indices.len()).sum();
    assert_eq!(waiting, 9);
}

#[test]
fn refusals_of_one_moment_are_one_and_an_acceptance_in_between_ends_a_row() {
    let mut trial = Trial::of(12, 30_000);
    for number in trial.posts() {
        trial.end(number, Outcome::Delivered);
    }
    for number in trial.posts() {
        trial.end(number, Outcome::Delivered);
    }
    // Four at a time, all refused.
    let begun = trial.posts();
    assert_eq!(begun, [3, 4, 5, 6]);
    trial.now += 10;
    for number in begun {
        trial.end(number, refused(None));
    }
    assert_eq!(next_posts(&mut trial), [7]);
    assert!(trial.said().is_empty(), "one row of one");
    trial.now += 10;
    trial.end(7, Outcome::Delivered);
    assert_eq!(next_posts(&mut trial), [8, 9]);
    trial.now += 10;
    trial.end(8, refused(None));
    trial.end(9, Outcome::Delivered);
    assert_eq!(next_posts(&mut trial), [10, 11]);
    trial.end(10, Outcome::Delivered);
    trial.end(11, Outcome::Delivered);
    for _ in 0..20 {
        for number in next_posts(&mut trial) {
            trial.now += 10;
            trial.end(number, Outcome::Delivered);
        }
    }
    assert!(trial.posting.is_over());
    assert_eq!(trial.orders, [], "all are taken at last");
}

#[test]
fn an_event_is_posted_three_times_in_a_run_and_a_run_of_one_strikes_then() {
    let mut trial = Trial::of(1, 30_000);
    for _ in 0..3 {
        assert!(trial.said().is_empty());
        assert_eq!(next_posts(&mut trial), [0]);
        trial.now += 10;
        trial.end(0, refused(Some(900)));
    }
    trial.posts();
    assert!(trial.posting.is_over());
    assert!(trial.said()[0].is_strike);
    let ran = trial.said()[1];
    assert!(!ran.is_refused && ran.failed.as_ref().unwrap().events.len() == 1);
    assert_eq!(trial.items()[0].attempt, 2);
}

#[test]
fn what_failed_before_something_was_taken_counts_for_nothing() {
    let mut trial = Trial::of(2, 30_000);
    assert_eq!(trial.posts(), [0]);
    trial.end(0, failed());
    assert_eq!(trial.posts(), [1]);
    trial.end(1, Outcome::Delivered);
    trial.posts();
    let ran = trial.said()[0];
    assert_eq!(ran.failed.as_ref().unwrap().events, [] as [String; 0]);
    assert_eq!(trial.items()[0].indices, [0]);
}
