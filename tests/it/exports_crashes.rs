//! A run over three files is killed after every single request that it makes, or held up before it until another run has taken
//! over, with the real driver, the real conditions of the table and the real S3. Whatever happens in between, every line is in
//! exactly one file, under the name that the plan had. All other combinations of crashes, failures, pauses and changes are histories
//! of the simulation (`simulation/src/exports.rs`), which runs the same machine.

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

#[tokio::test]
async fn a_run_killed_after_any_of_its_effects_loses_and_doubles_nothing() {
    let (world, lines, proxy) = world().await;
    let mut uploads_killed = 0;
    for number in 1.. {
        let case = Case::begin(&world, &lines, format!("kill-{number}")).await;
        let app = export_through(&world, &proxy).await;
        proxy.hold(number, Moment::After);
        let is_killed = {
            let victim = Box::pin(run(&app, &world, &case.id));
            tokio::select! {
                () = proxy.held() => true,
                () = victim => false,
            }
        };
        drop(app);
        let passed = proxy.passed();
        let killed = passed.get(number - 1);
        uploads_killed += usize::from(killed.is_some_and(Passing::is_upload));
        let crashed = progress(&world, &case.id).await;
        world.pass(LEASE);
        for _ in 0..2 {
            run(&world.export, &world, &case.id).await;
        }
        case.end(crashed.planned_key.as_deref(), None).await;
        if !is_killed {
            // Every request has had its turn: lease, log, key, and for each file plan, upload and place.
            assert!(number > 20, "{passed:?}");
            assert_eq!(uploads_killed, 3);
            return;
        }
    }
}

#[tokio::test]
async fn a_run_held_up_before_any_of_its_effects_contradicts_no_other() {
    let (world, lines, proxy) = world().await;
    for number in 1.. {
        let case = Case::begin(&world, &lines, format!("hold-{number}")).await;
        let app = export_through(&world, &proxy).await;
        proxy.hold(number, Moment::Before);
        let (mut is_held, mut crashed) = (false, None);
        let held_up = run(&app, &world, &case.id);
        // Its lease ends, the integration is changed, and another run does everything.
        let meanwhile = async {
            tokio::time::timeout(Duration::from_secs(20), proxy.held())
                .await
                .ok()?;
            is_held = true;
            let before = proxy.passed().len();
            crashed = Some(progress(&world, &case.id).await);
            world.pass(LEASE);
            case.change().await;
            run(&world.export, &world, &case.id).await;
            proxy.release();
            Some(before)
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
            assert!(!late.iter().any(Passing::is_upload), "{late:?}");
        }
        run(&world.export, &world, &case.id).await;
        let planned = crashed
            .as_ref()
            .and_then(|crashed| crashed.planned_key.as_deref());
        case.end(planned, crashed.as_ref()).await;
        if !is_held {
            assert!(number > 20);
            return;
        }
    }
}

#[tokio::test]
async fn an_upload_that_failed_after_the_object_was_stored_is_one_file() {
    let (world, lines, proxy) = world().await;
    const FAILING: usize = 2;
    for with_changes in [false, true] {
        let case = Case::begin(&world, &lines, format!("stored-{with_changes}")).await;
        let app = export_through(&world, &proxy).await;
        let mut uploads = 0;
        proxy.rule(move |passing| {
            uploads += usize::from(passing.is_upload());
            match passing.is_upload() && uploads == FAILING {
                true => Action::ForwardThenAnswer(Answer::status(500)),
                false => Action::Forward,
            }
        });
        run(&app, &world, &case.id).await;
        let failed = progress(&world, &case.id).await;
        let planned = failed.planned_key.as_deref();
        assert!(planned.is_some());
        assert_eq!(files_in_order(&world, &case.bucket).await.len(), FAILING);
        assert_eq!(world.actions(&case.id).await[0], "export_failed");
        world.pass(Duration::from_secs(90));
        if with_changes {
            case.change().await;
        }
        run(&app, &world, &case.id).await;
        case.end(planned, with_changes.then_some(&failed)).await;
    }
}

#[tokio::test]
async fn exports_that_race_for_one_integration_write_each_line_once() {
    let (world, lines, _) = world().await;
    for round in 0..2 {
        let case = Case::begin(&world, &lines, format!("race-{round}")).await;
        let runs = (0..5).map(|_| crate::world::run_export(&world.export, batch(&world, &case.id)));
        for response in futures_util::future::join_all(runs).await {
            assert!(response.unwrap().batch_item_failures.is_empty());
        }
        run(&world.export, &world, &case.id).await;
        case.end(None, None).await;
    }
}
