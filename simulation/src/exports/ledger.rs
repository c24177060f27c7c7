//! What is known of a history of exports, to be compared with what was promised.

use std::collections::BTreeMap;

use domain::export::{Export, Plan};
use domain::filter::Filter;
use domain::integration::{Integration, Target};
use domain::lifecycle::{ExportInput, Input};
use domain::time::Millis;
use ulid::Ulid;

use super::history::TENANT;
use super::work::Worker;
use crate::Broken;

/// How long after a stop was written an upload may begin that was decided before: the longest requests of the simulation.
const LATEST: u64 = 2_000;

/// The files of one generation of the integration.
#[derive(Clone, Debug)]
pub struct Promise {
    pub starts_at: Millis,
    pub ends_at: Option<Millis>,
    /// Nothing before this instant is exported.
    pub floor: Millis,
    /// Where the position moved, and why.
    pub moves: Vec<Move>,
    /// The events that are in objects, with their keys.
    pub written: BTreeMap<u32, String>,
    pub is_deleted: bool,
}

/// A move of the position.
#[derive(Clone, Debug)]
pub struct Move {
    pub from: Ulid,
    pub until: Ulid,
    pub reason: Reason,
    pub floor: Millis,
    /// The first instant of which events were kept then.
    pub oldest: Millis,
}

/// Why a position moved.
#[derive(Clone, Debug)]
pub enum Reason {
    /// A file is in the bucket.
    File(Box<Plan>),
    /// Nothing passed this filter.
    Nothing(Option<Filter>),
    /// The past was left behind: a restart too late, or events that are no longer kept.
    LeftBehind,
}

/// An object that was created in a bucket.
#[derive(Clone, Debug)]
pub struct Object {
    pub body: Vec<u8>,
    /// Whether the owner has removed it.
    pub is_removed: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub broken: Option<Broken>,
    pub promises: BTreeMap<Ulid, Promise>,
    /// The objects, by bucket and key.
    pub objects: BTreeMap<(String, String), Object>,
    /// The last upload that was noted as failed: its generation, when it was noted, and by the clock of its run.
    pub failed: Option<(Ulid, u64, Millis)>,
    /// Since when nothing may be sent; none while the integration runs.
    pub stopped_since: Option<u64>,
    /// The uploads of each generation that are under way, by worker, with their ends.
    pub uploads: BTreeMap<u64, (Ulid, u64)>,
}

/// The state of an integration's export; the simulation has no others.
pub fn export(integration: &Integration) -> Option<&Export> {
    match &integration.target {
        Target::S3 { export, .. } => Some(export),
        Target::Webhook { .. } => None,
    }
}

/// The events in the lines of a file.
pub fn events(body: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(body);
    let event = |line: &str| {
        let (_, payload) = line.rsplit_once(':')?;
        payload.trim_end_matches('}').parse().ok()
    };
    text.lines()
        .map(|line| event(line).unwrap_or(u32::MAX))
        .collect()
}

impl Ledger {
    pub fn break_promise(&mut self, text: String) {
        self.broken.get_or_insert(Broken(text));
    }

    pub fn register(&mut self, integration: &Integration) {
        let promise = Promise {
            starts_at: integration.starts_at,
            ends_at: integration.ends_at,
            floor: integration.starts_at,
            moves: Vec::new(),
            written: BTreeMap::new(),
            is_deleted: false,
        };
        self.promises.insert(integration.generation, promise);
        self.stopped_since = None;
    }

    pub fn delete(&mut self, generation: Ulid, now: u64) {
        if let Some(promise) = self.promises.get_mut(&generation) {
            promise.is_deleted = true;
        }
        self.stopped_since.get_or_insert(now);
    }

    /// Takes note of a write of an integration, because of this input.
    pub fn note(
        &mut self,
        before: &Integration,
        after: &Integration,
        input: &Input,
        now: u64,
        oldest: Millis,
    ) {
        match after.is_running() {
            true => self.stopped_since = None,
            false => {
                self.stopped_since.get_or_insert(now);
            }
        }
        let (Some(was), Some(is)) = (export(before), export(after)) else {
            return;
        };
        if let Some(failed_at) = is.failed_at.filter(|_| is.failed_at != was.failed_at) {
            self.failed = Some((after.generation, now, failed_at));
        }
        if let (None, Some(plan)) = (&was.plan, &is.plan) {
            self.note_plan(after, plan);
        }
        if is.position == was.position {
            return;
        }
        if is.position < was.position {
            self.break_promise("the position moved back".to_owned());
            return;
        }
        let run = match input {
            Input::Export { run, .. } => Some(&**run),
            _ => None,
        };
        let reason = match run {
            Some(ExportInput::Finish { plan }) => Reason::File(Box::new(plan.clone())),
            Some(ExportInput::GiveUp { plan }) if !plan.is_kept(oldest) => Reason::LeftBehind,
            None => Reason::LeftBehind,
            Some(_) => Reason::Nothing(after.filter.clone()),
        };
        if let Reason::File(plan) = &reason
            && !self
                .objects
                .contains_key(&(plan.bucket.clone(), plan.key.clone()))
        {
            self.break_promise(format!("{} is counted but not in the bucket", plan.key));
        }
        let Some(promise) = self.promises.get_mut(&after.generation) else {
            return;
        };
        promise.moves.push(Move {
            from: was.position,
            until: is.position,
            reason,
            floor: was.floor,
            oldest,
        });
        promise.floor = is.floor;
    }

    /// A plan is one of the integration as it is stored.
    fn note_plan(&mut self, integration: &Integration, plan: &Plan) {
        let Target::S3 { bucket, .. } = &integration.target else {
            return;
        };
        let prefix = bucket.key_prefix.iter();
        let prefix: String = prefix.map(|prefix| format!("{prefix}/")).collect();
        let is_there = plan.bucket == bucket.bucket && plan.key.starts_with(&(prefix + TENANT));
        if plan.filter != integration.filter || !is_there {
            self.break_promise(format!("{} was planned before a change", plan.key));
        }
        if !integration.is_running() {
            self.break_promise(format!("{} was planned after a stop", plan.key));
        }
    }

    /// Takes note of an upload that begins `now`.
    pub fn note_upload(&mut self, id: u64, worker: &Worker, now: u64) {
        let generation = worker.generation();
        if let Some(stopped) = self.stopped_since
            && now.saturating_sub(stopped.max(worker.awake_since)) > LATEST
        {
            self.break_promise("an upload began after a stop".to_owned());
        }
        self.uploads.retain(|_, (_, ends)| *ends > now);
        if self.uploads.values().any(|(of, _)| *of == generation) {
            self.break_promise("two uploads are under way at a time".to_owned());
        }
        self.uploads.insert(id, (generation, u64::MAX));
        if let Some((of, noted, failed_at)) = self.failed
            && of == generation
            && noted < worker.began
            && worker.task.sent_at <= failed_at
        {
            self.break_promise("a task was tried again that an upload had failed for".to_owned());
        }
    }

    /// Takes note of an object that is created. It may be one that was there before and was removed.
    pub fn note_object(&mut self, generation: Ulid, plan: &Plan, body: Vec<u8>, largest: usize) {
        let key = &plan.key;
        if body.is_empty() || body.len() > largest {
            self.break_promise(format!("{key} has {} bytes", body.len()));
        }
        let events = events(&body);
        let object = Object {
            body,
            is_removed: false,
        };
        let name = (plan.bucket.clone(), key.clone());
        if self.objects.insert(name, object).is_some() {
            self.break_promise(format!("{key} was stored twice"));
        }
        let Some(promise) = self.promises.get_mut(&generation) else {
            return;
        };
        for event in events {
            if let Some(other) = promise.written.insert(event, key.clone()) {
                let text = format!("event {event} is in {other} and in {key}");
                self.broken.get_or_insert(Broken(text));
                return;
            }
        }
    }
}
