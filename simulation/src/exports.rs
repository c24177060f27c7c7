//! Histories of exports: one S3 integration, and whatever may go wrong while files are written for it.
//!
//! What decides is what the export function runs: [`domain::exporting::Exporting`] and [`domain::lifecycle::apply`]. Any request
//! may fail before or after its effect, or take effect late; workers crash and are held up between any two; tasks are repeated
//! and overlap; the bucket refuses, fails and does not respond; the integration is stopped, changed, started and deleted.

mod check;
mod history;
mod ledger;
pub mod many;
pub mod mutant;
mod report;
mod store;
mod uploads;
mod work;
mod worker;
mod world;

use crate::Broken;
use history::History;
use mutant::Mutant;
pub use report::Report;
use world::World;

/// Runs the history of a seed, with a bug put in or without. `trace` gets each thing that happens.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64, mutant: Option<Mutant>, trace: Option<fn(&str)>) -> Result<Report, Broken> {
    let mut world = World::new(History::draw(seed), mutant, trace);
    world.run();
    check::promises(&world)?;
    Ok(world.report)
}
