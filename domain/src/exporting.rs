//! How a run of the export works: under a lease, file after file.
//!
//! [`Exporting`] is a pure machine. It says what to do next, one thing at a time, and is given what was seen; the export function
//! and the simulation carry it out. Every matching event is in exactly one file because of the order in which it says things:
//!
//! 1. A file is made in memory, and its plan is stored before its upload begins. The plan fixes range, filter, bucket, key and
//!    bytes.
//! 2. The object is only ever created. Where an upload is in doubt, the plan stays, and the next run uploads the same bytes under
//!    the same key before it does anything else.
//! 3. The position moves behind a plan once its file is in the bucket, and behind nothing else that passes the filter.
//! 4. A plan is dropped where its only attempt was refused: nothing was stored then.
//!
//! Only one run at a time holds the lease, and a run begins no upload that could outlast its own.

mod building;
mod file;
mod machine;
mod types;
mod writing;

pub use file::{Assembler, crc64};
pub use machine::Exporting;
pub use types::{Content, Do, Limits, Problem, Refusal, Seen, Upload};

#[cfg(test)]
mod tests;
