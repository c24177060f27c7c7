//! The table and the buckets: conditional writes, and objects that are only ever created.

use domain::export::Plan;
use domain::integration::{Integration, Target};
use domain::lifecycle::{self, Change, ExportInput, Input};
use domain::time::Millis;
use rand::RngExt;
use ulid::Ulid;

use super::mutant::Mutant;
use super::work::{Happening, Write};
use super::world::World;

/// How long the bucket's owner leaves a complete file there: milliseconds.
const FETCHED_AFTER: u64 = 60_000;

impl World {
    /// What comes of an input, with the bug that is put in.
    pub fn decide(&self, found: &Integration, input: &Input, now: Millis) -> Change {
        let (mut found, mut input) = (found.clone(), input.clone());
        self.bend(&mut found, &mut input, now);
        let mut change = lifecycle::apply(&found, &input, now, &self.rules);
        let Input::Export { run, .. } = &input else {
            return change;
        };
        let export = change.next.as_mut().and_then(Integration::export_mut);
        match (self.mutant, &**run, export) {
            (Some(Mutant::MovedOnRefusal), ExportInput::Fail { plan, .. }, Some(export)) => {
                export.plan = None;
                export.position = plan.until;
            }
            (Some(Mutant::MovedTooFar), ExportInput::Finish { .. }, Some(export)) => {
                let sealed = now.before(self.rules.seal * domain::log::EXPORT_SEALS_BEHIND);
                export.position = export.position.max(sealed.first_id());
            }
            _ => {}
        }
        change
    }

    /// Changes what an input is applied to, as a bug would.
    fn bend(&self, found: &mut Integration, input: &mut Input, now: Millis) {
        let (filter, bucket) = (found.filter.clone(), bucket(found));
        let Input::Export { holder, run } = input else {
            return;
        };
        match (self.mutant, &mut **run) {
            (Some(Mutant::LeaseIgnored), _) => {
                let (holder, until) = (*holder, now.after(self.rules.seal));
                if let Some(export) = found.export_mut() {
                    export.lease = None;
                    export.take_lease(holder, now, until);
                }
            }
            (Some(Mutant::PlannedAgainInDoubt), ExportInput::Fail { is_absent, .. }) => {
                *is_absent = true;
            }
            (Some(Mutant::PlanIgnored), ExportInput::Plan { .. }) => {
                if let Some(export) = found.export_mut() {
                    export.plan = None;
                }
            }
            (Some(Mutant::ChangesUnseen), ExportInput::Plan { read, .. }) => {
                read.filter = filter;
                if let Some(bucket) = bucket {
                    read.bucket = bucket;
                }
            }
            _ => {}
        }
    }

    /// Writes on condition that no other writer came in between; whether it did.
    pub fn write(&mut self, write: Write) -> bool {
        let Write {
            integration,
            before,
            input,
            ..
        } = write;
        let stored = self.integration.clone();
        let Some(stored) = stored.filter(|it| it.generation == before.generation) else {
            return false;
        };
        if stored.version != before.version && self.mutant != Some(Mutant::VersionIgnored) {
            return false;
        }
        self.store(&stored, integration, &input);
        true
    }

    /// Stores what was decided on.
    pub fn store(&mut self, before: &Integration, mut after: Integration, input: &Input) {
        after.version = before.version + 1;
        self.trace(&("written", input));
        let oldest = self.rules.oldest(Millis(self.now));
        self.ledger.note(before, &after, input, self.now, oldest);
        self.integration = Some(after);
        if let Input::Export { run, .. } = input
            && let ExportInput::Finish { plan } = &**run
            && self.history.is_emptied
        {
            let (bucket, key) = (plan.bucket.clone(), plan.key.clone());
            let at = self.now + FETCHED_AFTER + self.random.random_range(0..FETCHED_AFTER);
            self.at(at, Happening::Remove(bucket, key));
        }
    }

    /// Creates an object, unless it is there.
    pub fn put(&mut self, generation: Ulid, plan: &Plan, body: Vec<u8>) {
        let name = (plan.bucket.clone(), plan.key.clone());
        let is_there = self
            .ledger
            .objects
            .get(&name)
            .is_some_and(|object| !object.is_removed);
        self.trace(&("stored", &plan.key, is_there));
        if is_there && self.mutant != Some(Mutant::Overwritten) {
            return;
        }
        self.report.files += 1;
        let [one, other] = self.history.max_file_bytes;
        self.ledger
            .note_object(generation, plan, body, one.max(other));
    }
}

fn bucket(integration: &Integration) -> Option<domain::integration::Bucket> {
    match &integration.target {
        Target::S3 { bucket, .. } => Some(bucket.clone()),
        Target::Webhook { .. } => None,
    }
}
