//! A run over three files is killed before and after every single request that it makes, or held up there until another run
//! has taken over. Whatever happens in between, every line is in exactly one file, under the name that the plan had.

use std::time::Duration;

use serde_json::json;
use tests::proxy::{Action, Moment, Passing, Proxy};
use tests::receiver::Answer;

use crate::exports_world::{
    Line, Progress, append_nine_segments, batch, concatenated, export_through, files_in_order,
    number, progress, proxy, run, s3, text, versioned_bucket,
};
use crate::world::World;

/// Three segments of three lines fit into a file, a fourth does not.
const MAX_FILE: usize = 3 * 3 * 250;
/// Longer than a lease.
const LEASE: Duration = Duration::from_secs(100);

/// One integration over the same log, from its registration to its deletion.
struct Case<'a> {
    world: &'a World,
    lines: &'a [Line],
    id: String,
    bucket: String,
    elsewhere: String,
}

impl<'a> Case<'a> {
    async fn begin(world: &'a World, lines: &'a [Line], id: String) -> Case<'a> {
        let (bucket, elsewhere) = (versioned_bucket(world).await, versioned_bucket(world).await);
        let mut body = s3(&id, &bucket);
        body["starts_at"] = json!(lines[0].at.to_string());
        let answer = world.call("POST", "/", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        world.pass(Duration::from_secs(1));
        Case {
            world,
            lines,
            id,
            bucket,
            elsewhere,
        }
    }

    /// Stops the integration, changes filter, prefix and bucket, and starts it again.
    async fn change(&self) {
        let changes = json!({
            "filter_conditions": {"event_filter": ["order.created"]},
            "s3_parameters": {"key_prefix": "elsewhere", "bucket": self.elsewhere},
        });
        for (method, path, body) in [
            ("POST", "/_stop", String::new()),
            ("PATCH", "", changes.to_string()),
            ("POST", "/_start", String::new()),
        ] {
            let path = format!("/{}{path}", self.id);
            assert_eq!(self.world.call(method, &path, body).await.status, 200);
        }
    }

    fn compare(&self, files: &[(String, String)], expected: String) {
        let written = concatenated(files);
        let numbers = |text: &str| text.lines().map(number).collect::<Vec<_>>();
        assert_eq!(numbers(&written), numbers(&expected), "{}", self.id);
        assert_eq!(written, expected, "{}", self.id);
    }

    /// Checks the buckets. `crashed` is how far files went when the integration was changed; none where it was not.
    async fn end(self, planned_key: Option<&str>, changed_at: Option<&Progress>) {
        let files = files_in_order(self.world, &self.bucket).await;
        let elsewhere = files_in_order(self.world, &self.elsewhere).await;
        let is_before =
            |line: &&Line| changed_at.is_none_or(|at| line.at.0 < at.boundary.timestamp_ms());
        let before = self.lines.iter().filter(is_before).cloned();
        self.compare(&files, text(before));
        let after = self.lines.iter().filter(|line| !is_before(line));
        let after = after.filter(|line| line.name == "order.created").cloned();
        self.compare(&elsewhere, text(after));
        if changed_at.is_none() {
            assert_eq!(files.len(), 3, "{}", self.id);
        }
        if let Some(planned) = planned_key {
            assert!(files.iter().any(|(key, _)| key == planned), "{}", self.id);
        }
        let tenant = &self.world.tenant;
        for (files, prefix) in [
            (&files, "newstore_integration_002"),
            (&elsewhere, "elsewhere"),
        ] {
            let prefix = format!("{prefix}/{tenant}/");
            assert!(
                files
                    .iter()
                    .all(|(key, text)| key.starts_with(&prefix) && text.len() <= MAX_FILE)
            );
        }
        let path = format!("/{}", self.id);
        assert_eq!(self.world.call("DELETE", &path, "").await.status, 204);
    }
}

async fn world() -> (World, Vec<Line>, Proxy) {
    let mut world = World::start().await;
    world.export.max_file_bytes = MAX_FILE;
    let lines = append_nine_segments(&world).await;
    (world, lines, proxy().await)
}

/// What a killed run meets, and what happens before the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Circumstances {
    /// Nothing special.
    Plain,
    /// The integration is changed before the next run.
    Changed,
    /// S3 refuses every upload of the run that is killed.
    Refused,
}

/// Kills a run at every request, at this moment of it, and lets another one finish its work.
async fn kill_at_every_request(moment: Moment, circumstances: Circumstances) {
    let with_changes = circumstances == Circumstances::Changed;
    let is_refused = circumstances == Circumstances::Refused;
    let (world, lines, proxy) = world().await;
    let mut uploads_killed = 0;
    for number in 1.. {
        let case = Case::begin(&world, &lines, format!("kill-{number}")).await;
        let app = export_through(&world, &proxy).await;
        proxy.rule(move |passing| match passing {
            passing if passing.number == number => Action::Hold(moment),
            passing if is_refused && passing.is_upload() => Action::Answer(Answer::status(403)),
            _ => Action::Forward,
        });
        let is_killed = {
            let victim = Box::pin(run(&app, &world, &case.id));
            tokio::select! {
                () = proxy.held() => true,
                () = victim => false,
            }
        };
        drop(app);
        let passed = proxy.passed();
        uploads_killed += usize::from(
            passed
                .get(number - 1)
                .is_some_and(|killed| killed.is_upload()),
        );
        let crashed = progress(&world, &case.id).await;
        world.pass(LEASE);
        if with_changes {
            case.change().await;
        }
        for _ in 0..2 {
            run(&world.export, &world, &case.id).await;
        }
        let changed_at = with_changes.then_some(&crashed);
        case.end(crashed.planned_key.as_deref(), changed_at).await;
        if !is_killed {
            // Every request has had its turn: lease, log, key, and for each file plan, upload and place.
            // A refused run ends with its first file: its state, its log, its lease.
            assert!(number > if is_refused { 12 } else { 20 }, "{passed:?}");
            assert_eq!(uploads_killed, if is_refused { 1 } else { 3 });
            return;
        }
    }
}

#[tokio::test]
async fn a_run_killed_before_any_of_its_effects_loses_and_doubles_nothing() {
    kill_at_every_request(Moment::Before, Circumstances::Plain).await;
}

#[tokio::test]
async fn a_run_killed_after_any_of_its_effects_loses_and_doubles_nothing() {
    kill_at_every_request(Moment::After, Circumstances::Plain).await;
}

#[tokio::test]
async fn what_is_changed_after_a_kill_before_any_effect_holds_for_all_that_was_not_planned() {
    kill_at_every_request(Moment::Before, Circumstances::Changed).await;
}

#[tokio::test]
async fn what_is_changed_after_a_kill_after_any_effect_holds_for_all_that_was_not_planned() {
    kill_at_every_request(Moment::After, Circumstances::Changed).await;
}

#[tokio::test]
async fn a_refused_run_killed_before_or_after_any_of_its_effects_loses_and_doubles_nothing() {
    kill_at_every_request(Moment::Before, Circumstances::Refused).await;
    kill_at_every_request(Moment::After, Circumstances::Refused).await;
}

/// What happens while a run is held up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    /// Its lease ends, and another run does everything.
    Overtaken,
    /// The same, after the integration was changed.
    ChangedAndOvertaken,
    /// The integration is changed; the run still has its lease.
    Changed,
}

/// Holds a run up at every request, at this moment of it, while something else happens; then it continues.
async fn hold_up_at_every_request(moment: Moment, what: Meanwhile) {
    let (with_changes, is_overtaken) = (what != Meanwhile::Overtaken, what != Meanwhile::Changed);
    let (world, lines, proxy) = world().await;
    for number in 1.. {
        let case = Case::begin(&world, &lines, format!("hold-{number}")).await;
        let app = export_through(&world, &proxy).await;
        proxy.hold(number, moment);
        let (mut is_held, mut crashed) = (false, None);
        let held_up = run(&app, &world, &case.id);
        let meanwhile = async {
            tokio::time::timeout(Duration::from_secs(20), proxy.held())
                .await
                .ok()?;
            is_held = true;
            let before = proxy.passed().len();
            crashed = Some(progress(&world, &case.id).await);
            if is_overtaken {
                world.pass(LEASE);
            }
            if with_changes {
                case.change().await;
            }
            if is_overtaken {
                run(&world.export, &world, &case.id).await;
            }
            proxy.release();
            Some(before).filter(|_| is_overtaken)
        };
        let before = {
            let (mut held_up, mut meanwhile) = (Box::pin(held_up), Box::pin(meanwhile));
            tokio::select! {
                () = &mut held_up => None,
                before = &mut meanwhile => {
                    held_up.await;
                    before
                }
            }
        };
        if let Some(before) = before {
            let late = proxy.passed().split_off(before);
            assert!(!late.iter().any(|passing| passing.is_upload()), "{late:?}");
        }
        run(&world.export, &world, &case.id).await;
        let planned = crashed
            .as_ref()
            .and_then(|crashed| crashed.planned_key.as_deref());
        let changed_at = crashed.as_ref().filter(|_| with_changes);
        case.end(planned, changed_at).await;
        if !is_held {
            assert!(number > 20);
            return;
        }
    }
}

#[tokio::test]
async fn a_run_held_up_before_any_of_its_effects_contradicts_no_other() {
    hold_up_at_every_request(Moment::Before, Meanwhile::Overtaken).await;
}

#[tokio::test]
async fn a_run_held_up_after_any_of_its_effects_contradicts_no_other() {
    hold_up_at_every_request(Moment::After, Meanwhile::Overtaken).await;
}

#[tokio::test]
async fn a_run_held_up_during_a_change_of_filter_prefix_and_bucket_contradicts_no_other() {
    hold_up_at_every_request(Moment::Before, Meanwhile::ChangedAndOvertaken).await;
}

#[tokio::test]
async fn what_is_changed_during_a_run_holds_for_all_that_was_not_planned() {
    hold_up_at_every_request(Moment::Before, Meanwhile::Changed).await;
    hold_up_at_every_request(Moment::After, Meanwhile::Changed).await;
}

#[tokio::test]
async fn a_refusal_after_the_end_of_a_lease_drops_no_plan_that_another_run_is_finishing() {
    let (world, lines, late) = world().await;
    let case = Case::begin(&world, &lines, "late-refusal".to_owned()).await;
    let other = proxy().await;
    let (first, second) = (
        export_through(&world, &late).await,
        export_through(&world, &other).await,
    );
    let hold_upload = |passing: &Passing| match passing.is_upload() {
        true => Action::Hold(Moment::Before),
        false => Action::Forward,
    };
    late.rule(hold_upload);
    other.rule(hold_upload);
    let mut late_run = Box::pin(run(&first, &world, &case.id));
    tokio::select! {
        () = late.held() => {}
        () = &mut late_run => panic!("the upload was not held"),
    }
    let planned = progress(&world, &case.id).await.planned_key;
    world.pass(LEASE);
    let mut other_run = Box::pin(run(&second, &world, &case.id));
    tokio::select! {
        () = other.held() => {}
        () = &mut other_run => panic!("the upload was not held"),
    }
    // For a moment there is no bucket: the late attempt is refused for certain.
    world
        .s3
        .delete_bucket()
        .bucket(&case.bucket)
        .send()
        .await
        .unwrap();
    late.release();
    late_run.await;
    assert_eq!(progress(&world, &case.id).await.planned_key, planned);
    world
        .s3
        .create_bucket()
        .bucket(&case.bucket)
        .send()
        .await
        .unwrap();
    other.rule(|_| Action::Forward);
    other.release();
    other_run.await;
    world.pass(LEASE);
    run(&world.export, &world, &case.id).await;
    case.end(planned.as_deref(), None).await;
}

#[tokio::test]
async fn an_upload_that_failed_after_the_object_was_stored_is_one_file() {
    let (world, lines, proxy) = world().await;
    for failing in 1..=3 {
        for with_changes in [false, true] {
            let id = format!("stored-{failing}-{with_changes}");
            let case = Case::begin(&world, &lines, id).await;
            let app = export_through(&world, &proxy).await;
            let mut uploads = 0;
            proxy.rule(move |passing| {
                uploads += usize::from(passing.is_upload());
                match passing.is_upload() && uploads == failing {
                    true => Action::ForwardThenAnswer(Answer::status(500)),
                    false => Action::Forward,
                }
            });
            run(&app, &world, &case.id).await;
            let failed = progress(&world, &case.id).await;
            let planned = failed.planned_key.as_deref();
            assert!(planned.is_some());
            assert_eq!(files_in_order(&world, &case.bucket).await.len(), failing);
            assert_eq!(world.actions(&case.id).await[0], "export_failed");
            world.pass(Duration::from_secs(90));
            if with_changes {
                case.change().await;
            }
            run(&app, &world, &case.id).await;
            case.end(planned, with_changes.then_some(&failed)).await;
        }
    }
}

#[tokio::test]
async fn exports_that_race_for_one_integration_write_each_line_once() {
    let (world, lines, _) = world().await;
    for round in 0..5 {
        let case = Case::begin(&world, &lines, format!("race-{round}")).await;
        let runs = (0..5).map(|_| crate::world::run_export(&world.export, batch(&world, &case.id)));
        for response in futures_util::future::join_all(runs).await {
            assert!(response.unwrap().batch_item_failures.is_empty());
        }
        run(&world.export, &world, &case.id).await;
        case.end(None, None).await;
    }
}
