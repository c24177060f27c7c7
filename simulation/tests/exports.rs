//! Histories of exports that keep every promise, and bugs that do not stay hidden.

use simulation::exports::{Report, mutant, run};

#[test]
fn in_a_thousand_histories_every_event_is_in_exactly_one_file() {
    let mut total = Report::default();
    for seed in 1_000_000..1_001_000 {
        match run(seed, None, None) {
            Ok(report) => total.add(report),
            Err(broken) => panic!("seed {seed}: {}", broken.0),
        }
    }
    assert!(total.files > 5_000, "hardly anything was stored: {total:?}");
    assert!(total.crashes > 1_000, "hardly anything crashed: {total:?}");
}

#[test]
fn every_bug_of_exports_that_is_put_in_is_found() {
    for mutant in mutant::ALL {
        let found = (0..6_000).find(|seed| run(*seed, Some(mutant), None).is_err());
        assert!(found.is_some(), "{mutant:?} was not found");
    }
}

#[test]
fn a_history_of_exports_can_be_run_again() {
    let run = |seed| format!("{:?}", run(seed, None, None));
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
}
