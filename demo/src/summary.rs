//! What the demo prints at its end.

use std::collections::BTreeMap;

use crate::check::Tally;
use crate::exports::BUCKET;
use crate::webhooks::Webhooks;

/// The width where there is no terminal.
const PLAIN_WIDTH: usize = 120;

/// All that was found out.
pub struct Summary<'a> {
    pub published_api: usize,
    pub published_bus: usize,
    pub webhooks: &'a Webhooks,
    pub exported: &'a Tally,
    pub files: &'a BTreeMap<String, String>,
    pub webhook_duplicates_allowed: bool,
}

impl Summary<'_> {
    /// Whether all is as it should be.
    pub fn is_good(&self) -> bool {
        let (webhooks, exported) = (&self.webhooks.tally, self.exported);
        webhooks.missing == 0
            && exported.missing == 0
            && exported.duplicate == 0
            && (webhooks.duplicate == 0 || self.webhook_duplicates_allowed)
            && webhooks.wrong.is_empty()
            && exported.wrong.is_empty()
    }

    /// The readable part.
    pub fn print(&self) {
        let width = console::Term::stdout()
            .size_checked()
            .map_or(PLAIN_WIDTH, |(_, columns)| columns.into());
        let Webhooks {
            tally,
            p50_millis,
            p99_millis,
        } = self.webhooks;
        println!("\nWhat arrived where");
        println!(
            "  published  {} events through the API and {} over the bus",
            self.published_api, self.published_bus
        );
        println!(
            "  webhooks   {} of {} that the filter lets pass{}",
            tally.arrived,
            tally.expected,
            also(tally)
        );
        println!(
            "  files      {} of {} events in {} files{}",
            self.exported.arrived,
            self.exported.expected,
            self.files.len(),
            also(self.exported)
        );
        println!(
            "  latency    p50 {p50_millis} ms, p99 {p99_millis} ms, from publication to the webhook's arrival"
        );
        for (sentence, count) in tally.wrong.iter().chain(&self.exported.wrong) {
            println!("  WRONG      {sentence} ({count} times)");
        }
        if let Some((key, content)) = self.files.first_key_value() {
            println!(
                "\nThe first file: s3://{BUCKET}/{key}\nTwo of its {} lines:",
                content.lines().count()
            );
            for line in content.lines().take(2) {
                println!("  {}", shorten(line, width.saturating_sub(2)));
            }
        }
        println!("{}", next_steps(self.files.keys().next()));
    }

    /// The last line, for programs.
    pub fn line(&self) -> String {
        let Webhooks {
            tally,
            p50_millis,
            p99_millis,
        } = self.webhooks;
        format!(
            "demo: published={} expected_webhooks={} delivered={} missing={} duplicate={} exported={} export_missing={} export_duplicate={} files={} p50_ms={p50_millis} p99_ms={p99_millis}",
            self.published_api + self.published_bus,
            tally.expected,
            tally.arrived,
            tally.missing,
            tally.duplicate,
            self.exported.arrived,
            self.exported.missing,
            self.exported.duplicate,
            self.files.len(),
        )
    }
}

fn also(tally: &Tally) -> String {
    match (tally.missing, tally.duplicate) {
        (0, 0) => ", each exactly once".to_owned(),
        (missing, duplicate) => {
            format!(": {missing} MISSING, {duplicate} arrivals more than once each")
        }
    }
}

/// `line`, cut to `width` characters.
fn shorten(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Commands to go on with; `key` is a file's.
fn next_steps(key: Option<&String>) -> String {
    let mut text = r#"
Where to go next (the demo's own integrations are deleted again; its files stay until `make down`)
  source target/local/env
  api="$EVENTSTREAM_URL/api/v1/org"; auth="Authorization: Bearer $EVENTSTREAM_TOKEN"; json="Content-Type: application/json"
  # register a webhook of your own (put your receiver's address in), then list all
  curl -H "$auth" -H "$json" "$api/integrations/eventstream/" -d '{"id":"my-first","integration_type":"permanent","callback_parameters":{"callback_url":"http://127.0.0.1:8000/"}}'
  curl -H "$auth" "$api/integrations/eventstream/"
  # publish an event, and see in the log what became of it
  curl -H "$auth" -H "$json" "$api/events" -d '{"name":"order.created","payload":{"number":"R1"}}'
  curl -H "$auth" "$api/integrations/eventstream/my-first/log"
  curl -H "$auth" -X DELETE "$api/integrations/eventstream/my-first""#
        .to_owned();
    if let Some(key) = key {
        text += &format!("\n  # the first file\n  curl \"$AWS_ENDPOINT_URL/{BUCKET}/{key}\"");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(expected: usize) -> Tally {
        Tally {
            expected,
            arrived: expected,
            ..Tally::default()
        }
    }

    #[test]
    fn the_last_line_and_the_verdict() {
        let mut webhooks = Webhooks {
            tally: tally(8),
            p50_millis: 12,
            p99_millis: 340,
        };
        let mut exported = tally(16);
        let files = BTreeMap::from([("a".to_owned(), "{}\n".to_owned())]);
        let judge = |webhooks: &Webhooks, exported: &Tally, allowed| {
            let summary = Summary {
                published_api: 10,
                published_bus: 6,
                webhooks,
                exported,
                files: &files,
                webhook_duplicates_allowed: allowed,
            };
            (summary.is_good(), summary.line())
        };
        assert_eq!(
            judge(&webhooks, &exported, false),
            (
                true,
                "demo: published=16 expected_webhooks=8 delivered=8 missing=0 duplicate=0 exported=16 export_missing=0 export_duplicate=0 files=1 p50_ms=12 p99_ms=340".to_owned()
            )
        );
        webhooks.tally.duplicate = 1;
        assert!(!judge(&webhooks, &exported, false).0);
        assert!(judge(&webhooks, &exported, true).0);
        exported.duplicate = 1;
        assert!(!judge(&webhooks, &exported, true).0);
        exported.duplicate = 0;
        exported.wrong.insert("something".to_owned(), 1);
        assert!(!judge(&webhooks, &exported, true).0);
        exported.wrong.clear();
        webhooks.tally.missing = 1;
        assert!(!judge(&webhooks, &exported, true).0);
    }

    #[test]
    fn lines_are_cut_by_character() {
        assert_eq!(shorten("köln", 4), "köln");
        assert_eq!(shorten("kölner", 4), "köl…");
        assert_eq!(shorten("köln", 0), "…");
    }
}
