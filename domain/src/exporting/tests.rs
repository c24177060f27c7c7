use std::time::Duration;

use serde_json::value::RawValue;
use ulid::Ulid;

use super::*;
use crate::export::Export;
use crate::integration::tests::webhook;
use crate::integration::{Access, Bucket, Integration, Status, Target};
use crate::lifecycle::{self, Applied, Rules};
use crate::log::segment::{self, NewEvent, Segment};
use crate::time::Millis;

const BEGIN: Millis = Millis(1_700_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const RULES: Rules = Rules {
    seal: Duration::from_secs(10),
    give_up: Duration::from_secs(5 * 24 * 3600),
    retention: Duration::from_secs(90 * 24 * 3600),
};
const LIMITS: Limits = Limits {
    time_limit: MINUTE,
    max_file_bytes: 1_000,
};

/// A bucket and a log in memory, and what a run asked for.
struct World {
    integration: Integration,
    log: Vec<Segment>,
    now: Millis,
    refusal: Option<Refusal>,
    files: Vec<(String, Vec<u8>)>,
    asked: Vec<&'static str>,
    /// What fails when it is asked for.
    failing: Option<&'static str>,
    reading: Vec<Segment>,
}

impl World {
    /// One integration, and a segment of one event each second.
    fn new(segments: u64) -> World {
        let mut integration = webhook(BEGIN);
        integration.target = Target::S3 {
            bucket: Bucket {
                access: Access::Role {
                    role_arn: "r".into(),
                    external_id: "e".into(),
                },
                aws_region: "eu-west-1".into(),
                bucket: "b".into(),
                key_prefix: None,
            },
            export: Box::new(Export::registered(BEGIN)),
        };
        let payload = RawValue::from_string(format!("\"{}\"", "x".repeat(300))).unwrap();
        let segment = |index: u64| {
            let event = NewEvent {
                id: &index.to_string(),
                name: "order.created",
                payload: &payload,
            };
            let id = Ulid::from_parts(BEGIN.0 + index * 1_000, 1);
            let built = segment::build("acme", vec![event], || id);
            built.unwrap().remove(0).segment
        };
        World {
            integration,
            log: (0..segments).map(segment).collect(),
            now: BEGIN.after(MINUTE * 5),
            refusal: None,
            files: Vec::new(),
            asked: Vec::new(),
            failing: None,
            reading: Vec::new(),
        }
    }

    /// One run, whose holder this is; each thing that it does takes 10 ms.
    fn run(&mut self, holder: u128) {
        self.asked.clear();
        let (sent_at, now) = (self.now, self.now);
        let begun = Exporting::begin(sent_at, Ulid(holder), now, LIMITS, RULES, Vec::new());
        let (mut run, mut todo) = (begun.0, Some(begun.1));
        while let Some(next) = todo {
            self.asked.push(name(&next));
            let seen = match self.failing == Some(name(&next)) {
                true => None,
                false => self.carry_out(next),
            };
            self.now = self.now.after(Duration::from_millis(10));
            let id = Ulid::from_parts(self.now.0, holder);
            todo = match seen {
                Some(seen) => run.seen(seen, self.now, id),
                None => run.failed(),
            };
        }
    }

    fn carry_out(&mut self, todo: Do) -> Option<Seen> {
        Some(match todo {
            Do::Get => Seen::Integration(Some(Box::new(self.integration.clone()))),
            Do::HasAny { .. } => Seen::HasAny(true),
            Do::Apply(_, input) => {
                let change = lifecycle::apply(&self.integration, &input, self.now, &RULES);
                self.integration = change.next.unwrap_or(self.integration.clone());
                Seen::Applied(Some(Box::new(Applied {
                    integration: self.integration.clone(),
                    verdict: change.verdict,
                    decided_at: self.now,
                    actions: Vec::new(),
                })))
            }
            Do::Read { from, until, .. } => {
                let of = |segment: &&Segment| from <= segment.id && segment.id < until;
                self.reading = self.log.iter().filter(of).cloned().rev().collect();
                Seen::Segment(self.reading.pop())
            }
            Do::ReadOn => Seen::Segment(self.reading.pop()),
            Do::Grant(..) => Seen::Granted,
            Do::Upload(Upload { plan, body, .. }) => {
                let refusal = self.refusal.clone();
                if !refusal.as_ref().is_some_and(|refusal| refusal.is_certain) {
                    self.files.push((plan.key, body));
                }
                let buffer = Vec::new();
                Seen::Uploaded { refusal, buffer }
            }
            Do::Report(_) => return None,
        })
    }

    fn export(&mut self) -> &mut Export {
        self.integration.export_mut().unwrap()
    }

    fn keys(&self) -> Vec<&str> {
        self.files.iter().map(|(key, _)| key.as_str()).collect()
    }
}

fn name(todo: &Do) -> &'static str {
    use crate::lifecycle::{ExportInput, Input};
    match todo {
        Do::Get => "get",
        Do::HasAny { .. } => "look",
        Do::Apply(_, input) => match &**input {
            Input::Export { run, .. } => match &**run {
                ExportInput::Begin { .. } => "begin",
                ExportInput::Plan { .. } => "plan",
                ExportInput::Skip { .. } => "skip",
                ExportInput::Finish { .. } => "finish",
                ExportInput::Fail { .. } => "fail",
                ExportInput::GiveUp { .. } => "give up",
                ExportInput::Release { .. } => "release",
            },
            _ => "another input",
        },
        Do::Read { content, .. } => match content {
            Content::Ids => "read ids",
            Content::Whole => "read",
        },
        Do::ReadOn => "read on",
        Do::Grant(..) => "grant",
        Do::Upload(_) => "upload",
        Do::Report(_) => "report",
    }
}

fn doubt() -> Refusal {
    Refusal {
        reason: "S3 did not respond in time".to_owned(),
        is_certain: false,
    }
}

#[test]
fn a_plan_is_stored_before_its_upload_and_the_position_moves_after_it() {
    let mut world = World::new(3);
    world.run(1);
    let asked = [
        "get", "look", "begin", "read ids", "read", "read on", "read on", "grant", "plan",
        "upload", "finish", "read", "read on", "grant", "plan", "upload", "finish", "release",
    ];
    assert_eq!(world.asked, asked);
    assert_eq!(world.files.len(), 2);
    assert!(world.files.iter().all(|(_, body)| body.len() <= 1_000));
    let export = world.export();
    assert_eq!((&export.plan, export.lease), (&None, None));
}

#[test]
fn a_file_in_doubt_is_uploaded_again_under_its_name_after_the_state_is_read_once_more() {
    let mut world = World::new(2);
    world.refusal = Some(doubt());
    world.run(1);
    assert_eq!(
        world.asked[7..],
        ["grant", "plan", "upload", "fail", "release"]
    );
    world.refusal = None;
    world.now = world.now.after(MINUTE);
    world.run(2);
    let asked = [
        "get", "begin", "read ids", "read", "read on", "read on", "grant", "get", "upload",
        "finish", "read", "skip", "release",
    ];
    assert_eq!(world.asked[..10], asked[..10]);
    assert_eq!(world.files.len(), 2);
    assert_eq!(
        world.files[0], world.files[1],
        "the same bytes under the same key"
    );
}

#[test]
fn a_refusal_drops_the_plan_of_an_only_attempt_and_no_other() {
    let refused = Refusal {
        reason: "access denied".to_owned(),
        is_certain: true,
    };
    let mut world = World::new(1);
    world.refusal = Some(refused.clone());
    world.run(1);
    assert_eq!(world.export().plan, None);
    world.refusal = Some(doubt());
    world.now = world.now.after(MINUTE);
    world.run(2);
    assert!(world.export().plan.is_some());
    world.refusal = Some(refused);
    world.now = world.now.after(MINUTE);
    world.run(3);
    assert!(world.export().plan.is_some(), "it may be in the bucket");
    assert_eq!(world.export().position, BEGIN.first_id());
    assert_eq!(world.keys().len(), 1);
}

#[test]
fn whatever_fails_for_a_reason_of_ours_the_lease_is_given_back() {
    for (failing, has_plan) in [
        ("read ids", false),
        ("read", false),
        ("read on", false),
        ("grant", false),
        ("plan", false),
        ("finish", true),
    ] {
        let mut world = World::new(2);
        world.failing = Some(failing);
        world.run(1);
        assert_eq!(world.asked.last(), Some(&"release"), "{failing}");
        assert_eq!(world.export().lease, None, "{failing}");
        assert!(world.export().stuck_since.is_some(), "{failing}");
        assert_eq!(world.export().plan.is_some(), has_plan, "{failing}");
    }
    for failing in ["get", "look", "begin"] {
        let mut world = World::new(2);
        world.failing = Some(failing);
        world.run(1);
        assert_eq!(world.asked.last(), Some(&failing), "it has no lease");
    }
    let mut world = World::new(2);
    world.failing = Some("release");
    world.run(1);
    assert!(world.export().lease.is_some(), "it ends by itself");
}

#[test]
fn a_plan_that_cannot_be_made_again_is_reported_and_after_a_day_given_up() {
    let mut world = World::new(2);
    world.refusal = Some(doubt());
    world.run(1);
    world.refusal = None;
    world.log.remove(0);
    for hours in [1, 12, 24] {
        let export = world.export();
        (export.failed_at, export.done_at) = (None, None);
        world.now = world.now.after(MINUTE * 60 * hours);
        world.run(u128::from(hours));
        let has_given_up = world.asked.contains(&"give up");
        assert_eq!(has_given_up, hours == 24, "{:?}", world.asked);
        assert_eq!(world.asked.contains(&"report"), hours < 24);
    }
    assert_eq!(world.files.len(), 2, "its lines are written to a new file");
    assert_ne!(world.files[0].0, world.files[1].0);
}

#[test]
fn a_run_that_finds_nothing_to_do_asks_for_nothing_more() {
    type Changed = fn(&mut World);
    let cases: [(&str, Changed); 3] = [
        ("stopped", |world| {
            world.integration.status = Status::Stopped
        }),
        ("answered", |world| world.export().done_at = Some(world.now)),
        ("sealed by none", |world| world.now = BEGIN),
    ];
    for (case, change) in cases {
        let mut world = World::new(1);
        change(&mut world);
        world.run(1);
        assert_eq!(world.asked, ["get"], "{case}");
    }
    let mut world = World::new(1);
    let until = world.now.after(MINUTE);
    let now = world.now;
    world.export().take_lease(Ulid(9), now, until);
    world.run(1);
    assert_eq!(
        world.asked,
        ["get", "look", "begin"],
        "another run is at work"
    );
}

#[test]
fn no_upload_begins_that_could_outlast_the_lease() {
    let mut world = World::new(1);
    let (mut run, first) =
        Exporting::begin(world.now, Ulid(1), world.now, LIMITS, RULES, Vec::new());
    let mut todo = Some(first);
    while let Some(next) = todo {
        world.asked.push(name(&next));
        if matches!(next, Do::Grant(..)) {
            // Held up here until five seconds before its time limit.
            world.now = world.now.after(Duration::from_secs(55));
        }
        let seen = world.carry_out(next).unwrap();
        todo = run.seen(seen, world.now, Ulid(2));
    }
    assert_eq!(world.asked[6..], ["grant", "plan", "release"]);
    assert!(world.files.is_empty() && world.export().plan.is_some());
}
