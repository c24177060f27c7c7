//! What histories of exports came to.

/// What a history came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Segments that were appended.
    pub segments: usize,
    /// Runs that began.
    pub runs: usize,
    /// Uploads that began.
    pub uploads: usize,
    /// Files that were stored.
    pub files: usize,
    /// Runs that crashed.
    pub crashes: usize,
}

impl Report {
    /// Adds what another history came to.
    pub fn add(&mut self, other: Report) {
        self.segments += other.segments;
        self.runs += other.runs;
        self.uploads += other.uploads;
        self.files += other.files;
        self.crashes += other.crashes;
    }
}
