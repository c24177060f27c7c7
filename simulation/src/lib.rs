//! A deterministic simulation of streams: many workers, clocks that differ, crashes between any two effects, queues that
//! repeat and reorder, writes that are applied and reported as failed, receivers that fail, hang and recover.
//!
//! What decides is the code that the functions run: [`domain::lifecycle::apply`], delivery's `Posting`, replay's
//! `Sender` and `Selection`. What carries it out is simulated. Everything is drawn from a seed, so that a history that breaks a
//! promise can be run again.

mod attempts;
mod bending;
mod carrying;
mod check;
pub mod exports;
mod fates;
mod history;
mod ledger;
pub mod mutant;
pub mod paces;
mod process;
mod receiver;
mod requests;
mod run;
mod work;
mod world;

use crate::history::History;
use crate::mutant::Mutant;
use crate::world::World;

/// What a history came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Events that were published.
    pub published: usize,
    /// Attempts that receivers saw.
    pub attempts: usize,
    /// Effects that were carried out.
    pub effects: usize,
    /// Workers that crashed.
    pub crashes: usize,
}

/// A promise that was not kept: what happened, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// Runs the history of a seed, with a bug put in or without. `trace` gets each effect as it is carried out.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64, mutant: Option<Mutant>, trace: Option<fn(&str)>) -> Result<Report, Broken> {
    let mut world = World::new(History::draw(seed), mutant, trace);
    world.run();
    check::promises(&world)?;
    Ok(world.report)
}
