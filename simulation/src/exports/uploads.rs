//! Uploads: what S3 makes of them, and what the worker sees.

use domain::export::Plan;
use domain::exporting::{Refusal, Seen, Upload};
use domain::lifecycle::{ExportInput, Input};
use rand::RngExt;
use ulid::Ulid;

use super::history::Kind;
use super::mutant::Mutant;
use super::work::{Happening, Worker};
use super::world::World;

/// How long S3 may take to store what it did not respond to: milliseconds.
const LATE: u64 = 4_000;

impl World {
    /// Begins an upload. How long it takes.
    pub fn upload(&mut self, id: u64, worker: &mut Worker, upload: Upload) -> u64 {
        let Upload {
            mut plan,
            body,
            time_limit,
        } = upload;
        let generation = worker.generation();
        if !worker.is_granted {
            self.refuse(worker, "the role cannot be assumed", true);
            return 0;
        }
        self.report.uploads += 1;
        self.trace(&("upload", id, &plan.key, &plan.until));
        self.ledger.note_upload(id, worker, self.now);
        if self.mutant == Some(Mutant::CommittedFirst) {
            self.commit(&plan);
        }
        if self.mutant == Some(Mutant::KeyRenewed) {
            plan.key = format!("{}-{id}", plan.key);
        }
        let time_limit = time_limit.as_millis() as u64;
        let hiccups = self.history.hiccups;
        let mut kind = self.history.trouble(self.now);
        if kind.is_none() && self.unlucky(hiccups) {
            let kinds = [Kind::Refused, Kind::Failed, Kind::Silent];
            kind = Some(kinds[self.random.random_range(0..3)]);
        }
        let took = self.random.random_range(1..2_000).min(time_limit);
        let store = |world: &mut World, within: u64| {
            let at = world.now + world.random.random_range(0..=within);
            let stored = Happening::Store(generation, plan.clone(), body.clone());
            world.at(at, stored);
        };
        match kind {
            None | Some(Kind::NotGranted) => {
                store(self, took);
                worker.seen = Some(Seen::Uploaded {
                    refusal: None,
                    buffer: Vec::new(),
                });
                took
            }
            Some(Kind::Refused) => {
                self.refuse(worker, "access denied", true);
                took
            }
            Some(Kind::Failed) => {
                if self.random.random_bool(0.5) {
                    store(self, took + LATE);
                }
                self.refuse(worker, "S3 could not be reached", false);
                took
            }
            Some(Kind::Silent) => {
                if self.random.random_bool(0.5) {
                    store(self, time_limit + LATE);
                }
                self.refuse(worker, "S3 did not respond in time", false);
                time_limit
            }
        }
    }

    fn refuse(&self, worker: &mut Worker, reason: &str, is_certain: bool) {
        worker.is_refused = is_certain;
        let refusal = Refusal {
            reason: reason.to_owned(),
            is_certain,
        };
        worker.seen = Some(Seen::Uploaded {
            refusal: Some(refusal),
            buffer: Vec::new(),
        });
    }

    /// Moves the position behind a file that is not in the bucket yet: a bug.
    fn commit(&mut self, plan: &Plan) {
        let Some(found) = self.integration.clone() else {
            return;
        };
        let mut next = found.clone();
        if let Some(export) = next.export_mut() {
            export.finish_plan();
        }
        let run = ExportInput::Finish { plan: plan.clone() };
        let input = Input::Export {
            holder: Ulid::default(),
            run: Box::new(run),
        };
        self.store(&found, next, &input);
    }
}
