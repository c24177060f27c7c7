//! The pace reaches these figures against receivers that take only so much.

use simulation::paces::{Figures, KINDS, run};

/// The most seconds, percent refused, requests in the first second, and requests at a time, of each of [`KINDS`].
const BOUNDS: [(f64, f64, usize, usize); KINDS.len()] = [
    (48.0, 0.5, 11, 12),
    (208.0, 0.3, 11, 12),
    (230.0, 0.5, 11, 12),
    (210.0, 1.0, 11, 4),
    (210.0, 1.5, 11, 4),
    (215.0, 0.5, 11, 16),
    (215.0, 0.5, 11, 16),
    (120.0, 0.3, 11, 80),
    (12.0, 0.0, 11, 400),
    (105.0, 0.0, 11, 25),
    (20.0, 2.0, 11, 32),
];

#[test]
fn every_receiver_is_sent_nearly_as_much_as_it_takes_and_refuses_little() {
    for ((name, kind, events, _), (seconds, refused, first, peak)) in KINDS.into_iter().zip(BOUNDS)
    {
        for seed in 0..5 {
            let figures: Figures = run(kind, events, seed, false);
            assert!(
                figures.millis as f64 <= seconds * 1_000.0,
                "{name}: {figures:?}"
            );
            assert!(figures.refused_percent() <= refused, "{name}: {figures:?}");
            assert!(figures.first_second <= first, "{name}: {figures:?}");
            assert!(figures.peak <= peak, "{name}: {figures:?}");
        }
    }
}
