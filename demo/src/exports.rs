//! The bucket of the S3 integration: made, watched and read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use tokio::time::Instant;

use crate::check::{Ledger, Published, TENANT, Tally, reference};
use crate::failure::Failure;
use crate::progress::Progress;

/// The bucket; it stays after the demo, so that the files can be looked at.
pub const BUCKET: &str = "event-stream-demo";

/// The time from one look into the bucket to the next.
const PACE: Duration = Duration::from_secs(1);

/// The files under a prefix of the bucket.
pub struct Exports {
    client: aws_sdk_s3::Client,
    prefix: String,
    /// Key and content. Keys begin with the time, so the first is the oldest.
    pub files: BTreeMap<String, String>,
}

impl Exports {
    /// Makes the bucket, if it is not there.
    pub async fn prepare(
        config: &aws_sdk_s3::Config,
        region: &str,
        prefix: &str,
    ) -> Result<Exports, Failure> {
        let client =
            aws_sdk_s3::Client::from_conf(config.to_builder().force_path_style(true).build());
        // us-east-1 is the one region that must not be named.
        let place = (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let made = client
            .create_bucket()
            .bucket(BUCKET)
            .set_create_bucket_configuration(place)
            .send()
            .await;
        if let Err(error) = made
            && error.code() != Some("BucketAlreadyOwnedByYou")
        {
            return Err(Failure::new(format!(
                "The bucket {BUCKET} cannot be made: {}",
                DisplayErrorContext(&error)
            )));
        }
        Ok(Exports {
            client,
            prefix: prefix.to_owned(),
            files: BTreeMap::new(),
        })
    }

    /// Reads new files until every event that was published is in one, or `deadline` is over; which of the two,
    /// [`Exports::check`] finds out.
    pub async fn wait(
        &mut self,
        published: &HashMap<String, Published>,
        deadline: Duration,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let end = Instant::now() + deadline;
        loop {
            self.read_new().await?;
            let exported = self.count(published);
            progress.set_exported(exported);
            if exported == published.len() || Instant::now() >= end {
                return Ok(());
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Reads the files that were not there at the last look.
    pub async fn read_new(&mut self) -> Result<(), Failure> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(BUCKET)
            .prefix(format!("{}/", self.prefix))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| {
                Failure::new(format!(
                    "The bucket {BUCKET} cannot be listed: {}",
                    DisplayErrorContext(&error)
                ))
            })?;
            for key in page.contents().iter().filter_map(|object| object.key()) {
                if !self.files.contains_key(key) {
                    let content = self.read(key).await?;
                    self.files.insert(key.to_owned(), content);
                }
            }
        }
        Ok(())
    }

    async fn read(&self, key: &str) -> Result<String, Failure> {
        let unreadable =
            |reason: String| Failure::new(format!("s3://{BUCKET}/{key} cannot be read: {reason}"));
        let object = self
            .client
            .get_object()
            .bucket(BUCKET)
            .key(key)
            .send()
            .await;
        let object = object.map_err(|error| unreadable(DisplayErrorContext(&error).to_string()))?;
        let bytes = object
            .body
            .collect()
            .await
            .map_err(|error| unreadable(error.to_string()))?;
        String::from_utf8(bytes.to_vec()).map_err(|error| unreadable(error.to_string()))
    }

    /// How many of the published events are in a file; neither repeats nor other publishers' events count.
    fn count(&self, published: &HashMap<String, Published>) -> usize {
        let lines = self.files.values().flat_map(|content| content.lines());
        let found: HashSet<&String> = lines
            .filter_map(|line| Some(published.get_key_value(&reference(line)?)?.0))
            .collect();
        found.len()
    }

    /// Holds the files against what was published.
    pub fn check(&self, published: &HashMap<String, Published>) -> Tally {
        let mut ledger = Ledger::of_files(published);
        for (key, content) in &self.files {
            if !is_file_key(key, &self.prefix) {
                ledger.wrong("a file's key has another form than {key_prefix}/{tenant}/{timestamp}-data-{random_string}.export");
            }
            if !content.ends_with('\n') {
                ledger.wrong("a file is empty or ends in the middle of a line");
            }
            for line in content.lines() {
                ledger.enter(line);
            }
        }
        ledger.finish()
    }
}

/// Whether a key has the contract's form.
fn is_file_key(key: &str, prefix: &str) -> bool {
    let parts = key
        .strip_prefix(&format!("{prefix}/{TENANT}/"))
        .and_then(|name| name.strip_suffix(".export"))
        .and_then(|name| name.split_once("-data-"));
    parts.is_some_and(|(timestamp, random)| {
        timestamp.len() == 13
            && timestamp.bytes().all(|byte| byte.is_ascii_digit())
            && !random.is_empty()
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_contracts_form() {
        assert!(is_file_key(
            "demo/k3f9/acme/1767225600000-data-0abc.export",
            "demo/k3f9"
        ));
        for key in [
            "demo/k3f9/globex/1767225600000-data-0abc.export",
            "demo/k3f9/acme/1767225600-data-0abc.export",
            "demo/k3f9/acme/1767225600000-data-.export",
            "demo/k3f9/acme/1767225600000-data-a/b.export",
            "demo/k3f9/acme/1767225600000-data-0abc.json",
        ] {
            assert!(!is_file_key(key, "demo/k3f9"), "{key}");
        }
    }
}
