//! Chunks of an earlier version: events that its replay had taken on. What is not known to have been sent of one is made waiting
//! events; everything else of them expires.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::integration::IntegrationRef;
use domain::log::position::EventRef;
use domain::time::Millis;
use serde::Deserialize;
use ulid::Ulid;

use super::{Item, StoreError, Table, partition, text_of, unreadable};

const PREFIX: &str = "chunk#";

/// The chunks of all integrations.
#[derive(Clone, Debug)]
pub struct Chunks {
    table: Table,
}

/// An event of a chunk, as it is stored.
#[derive(Deserialize)]
struct ChunkEvent {
    event: EventRef,
    attempt: u32,
    failing_since: Option<Millis>,
}

impl Chunks {
    /// The store in a table.
    pub fn new(table: Table) -> Chunks {
        Chunks { table }
    }

    /// The events of a chunk that are not settled: which attempt is next, and since when each fails. None where there is no such
    /// chunk any more. Read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn outstanding(
        &self,
        integration_ref: &IntegrationRef,
        id: Ulid,
    ) -> Result<Vec<(EventRef, u32, Option<Millis>)>, StoreError> {
        let key = format!("{PREFIX}{id}");
        match self.table.get(&partition(integration_ref), &key).await? {
            Some(item) => read(&item),
            None => Ok(Vec::new()),
        }
    }
}

fn read(item: &Item) -> Result<Vec<(EventRef, u32, Option<Millis>)>, StoreError> {
    let events: Vec<ChunkEvent> =
        serde_json::from_str(&text_of(item, "events")?).map_err(unreadable)?;
    let outstanding: BTreeSet<usize> = match item.get("outstanding") {
        Some(AttributeValue::Ns(numbers)) => numbers
            .iter()
            .map(|number| number.parse().map_err(unreadable))
            .collect::<Result<_, _>>()?,
        _ => BTreeSet::new(),
    };
    let left = events.into_iter().enumerate();
    let left = left.filter(|(index, _)| outstanding.contains(index));
    Ok(left
        .map(|(_, it)| (it.event, it.attempt, it.failing_since))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::text;
    use super::*;

    #[test]
    fn what_an_earlier_version_has_not_settled_is_found() {
        let events = r#"[{"event":{"segment":"01HF7YAT010000000000000005","index":3,"shard":1},"attempt":2},{"event":{"segment":"01HF7YAT010000000000000005","index":4,"shard":1},"attempt":3,"failing_since":7}]"#;
        let numbers = AttributeValue::Ns(vec!["1".into()]);
        let stored = HashMap::from([
            ("events".to_owned(), text(events)),
            ("outstanding".to_owned(), numbers),
        ]);
        let event = EventRef {
            segment: Ulid::from_parts(1_700_000_000_001, 5),
            index: 4,
            shard: 1,
        };
        assert_eq!(read(&stored).unwrap(), [(event, 3, Some(Millis(7)))]);
    }
}
