//! The files of S3 integrations, one item each, for as long as their events are kept. Each is written with the move of the position
//! behind it ([`super::integrations`]).
//!
//! They have a partition of their own: what is removed with a deleted integration would be 26,000 of them after 90 days, and each
//! goes by itself.

use std::collections::HashMap;

use domain::exported::ExportedFile;
use domain::integration::IntegrationRef;
use domain::time::Millis;
use ulid::Ulid;

use super::{
    Item, StoreError, Table, number, number_of, partition, text, text_of, unavailable, unreadable,
};

/// How many are listed at a time (docs/api.md).
pub const PAGE: usize = 100;

/// Sort keys begin with this; the ULID of the file's end follows.
const PREFIX: &str = "file#";

/// The files of all integrations.
#[derive(Clone, Debug)]
pub struct ExportedFiles {
    table: Table,
}

impl ExportedFiles {
    /// The store in a table.
    pub fn new(table: Table) -> ExportedFiles {
        ExportedFiles { table }
    }

    /// The newest files of an integration that end before `before`, newest first, at most [`PAGE`], and whether there are more.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn list(
        &self,
        integration_ref: &IntegrationRef,
        before: Option<Ulid>,
    ) -> Result<(Vec<ExportedFile>, bool), StoreError> {
        let last = before.map_or(u128::MAX, |before| before.0.saturating_sub(1));
        let last = format!("{PREFIX}{}", Ulid(last));
        let answer = self
            .table
            .between(&files(integration_ref), PREFIX, &last)
            .scan_index_forward(false)
            .limit(PAGE as i32 + 1)
            .send()
            .await
            .map_err(unavailable)?;
        let read: Result<Vec<ExportedFile>, StoreError> = answer.items().iter().map(read).collect();
        let mut found = read?;
        let has_more = found.len() > PAGE;
        found.truncate(PAGE);
        Ok((found, has_more))
    }

    /// The files that cover positions `from <= position < until`, in their order, at most so many of them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn covering(
        &self,
        integration_ref: &IntegrationRef,
        from: Ulid,
        until: Ulid,
        most: usize,
    ) -> Result<Vec<ExportedFile>, StoreError> {
        // Their keys are their ends, which they do not cover.
        let (first, last) = (Ulid(from.0.saturating_add(1)), Ulid(u128::MAX));
        let (first, last) = (format!("{PREFIX}{first}"), format!("{PREFIX}{last}"));
        let query = self.table.between(&files(integration_ref), &first, &last);
        let mut found = Vec::new();
        let mut pages = query.into_paginator().items().send();
        while let Some(item) = pages.try_next().await.map_err(unavailable)? {
            let file = read(&item)?;
            if file.from >= until || found.len() >= most {
                break;
            }
            found.push(file);
        }
        Ok(found)
    }
}

fn files(integration_ref: &IntegrationRef) -> String {
    format!("{}#files", partition(integration_ref))
}

/// The item of a file.
pub(super) fn item(integration_ref: &IntegrationRef, file: &ExportedFile) -> Item {
    HashMap::from([
        ("pk".into(), text(files(integration_ref))),
        ("sk".into(), text(format!("{PREFIX}{}", file.until))),
        ("bucket".into(), text(file.bucket.as_str())),
        ("key".into(), text(file.key.as_str())),
        ("from".into(), text(file.from.to_string())),
        ("lines".into(), number(file.lines)),
        ("size_bytes".into(), number(file.size_bytes)),
        ("crc64".into(), text(file.crc64.as_str())),
        ("created_at".into(), number(file.created_at.0)),
        ("expires_at".into(), number(file.expires_at.epoch_seconds())),
    ])
}

fn read(item: &Item) -> Result<ExportedFile, StoreError> {
    let id = |text: &str| Ulid::from_string(text).map_err(|_| unreadable("a file's position"));
    let sk = text_of(item, "sk")?;
    Ok(ExportedFile {
        bucket: text_of(item, "bucket")?,
        key: text_of(item, "key")?,
        from: id(&text_of(item, "from")?)?,
        until: id(sk.trim_start_matches(PREFIX))?,
        lines: number_of(item, "lines")?,
        size_bytes: number_of(item, "size_bytes")?,
        crc64: text_of(item, "crc64")?,
        created_at: Millis(number_of(item, "created_at")?),
        expires_at: Millis(number_of(item, "expires_at")? * 1000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_item_of_a_file_is_read_as_it_was_written() {
        let file = ExportedFile {
            bucket: "b".into(),
            key: "p/acme/1-data-x.export".into(),
            from: Ulid(5),
            until: Ulid(9),
            lines: 2,
            size_bytes: 300,
            crc64: "0f".into(),
            created_at: Millis(1_700_000_000_123),
            expires_at: Millis(1_707_776_000_000),
        };
        let integration_ref = IntegrationRef {
            tenant: "acme".into(),
            integration_id: "files".into(),
            generation: Ulid(7),
        };
        let item = item(&integration_ref, &file);
        assert_eq!(
            text_of(&item, "pk").unwrap(),
            format!("acme#files#{}#files", Ulid(7))
        );
        assert_eq!(read(&item).unwrap(), file);
    }
}
