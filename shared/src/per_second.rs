//! So many a second, and no more: for what a storm would make too much of.

use std::time::{Duration, Instant};

/// How long what is taken counts.
pub const SECOND: Duration = Duration::from_secs(1);

/// What was taken in the current second, which begins with the first that is taken after the one before.
#[derive(Debug, Default)]
pub struct PerSecond {
    began: Option<Instant>,
    taken: usize,
}

impl PerSecond {
    /// Takes one more, if fewer than `most` were taken in this second.
    pub fn takes(&mut self, most: usize) -> bool {
        if self.began.is_none_or(|began| began.elapsed() >= SECOND) {
            (self.began, self.taken) = (Some(Instant::now()), 0);
        }
        let takes = self.taken < most;
        self.taken += usize::from(takes);
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_takes_so_many_and_the_next_one_as_many_again() {
        let mut paced = PerSecond::default();
        let taken = (0..100).filter(|_| paced.takes(30)).count();
        assert_eq!(taken, 30);
        paced.began = Instant::now().checked_sub(SECOND);
        assert_eq!((0..100).filter(|_| paced.takes(30)).count(), 30);
    }
}
