//! Histories that keep every promise, and bugs that do not stay hidden.

use simulation::mutant;
use simulation::run;

#[test]
fn a_thousand_histories_keep_every_promise() {
    let mut attempts = 0;
    for seed in 1_000_000..1_001_000 {
        match run(seed, None, None) {
            Ok(report) => attempts += report.attempts,
            Err(broken) => panic!("seed {seed}: {}", broken.0),
        }
    }
    assert!(attempts > 10_000, "hardly anything was sent: {attempts}");
}

#[test]
fn every_bug_that_is_put_in_is_found() {
    for mutant in mutant::ALL {
        let found = (0..6_000).find(|seed| run(*seed, Some(mutant), None).is_err());
        assert!(found.is_some(), "{mutant:?} was not found");
    }
}

#[test]
fn a_history_can_be_run_again() {
    let run = |seed| format!("{:?}", run(seed, None, None));
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
}
