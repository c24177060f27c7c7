//! The memory in which files are made.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The buffer of the last file, kept for the next one: in a fresh one, the first touch of every 4 KiB would cost more than
/// what is written there.
#[derive(Debug, Default)]
pub struct Buffer(Mutex<Vec<u8>>);

impl Buffer {
    /// The kept buffer, emptied; a new one where another run has it.
    pub fn take(&self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut *self.kept());
        buffer.clear();
        buffer
    }

    /// Keeps a buffer; the larger one where two come back.
    pub fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.kept();
        if buffer.capacity() > kept.capacity() {
            *kept = buffer;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
