//! The event log of a corpus, as DynamoDB answers a query of it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::corpus::{Corpus, TENANT};

/// DynamoDB's pages end at 1 MB of items.
const PAGE_BYTES: usize = 1024 * 1024;

/// A segment as DynamoDB answers it.
struct Item {
    day: String,
    id: String,
    size_bytes: usize,
    whole: String,
    ids: String,
}

/// The segments of a corpus, oldest first, in one shard.
#[derive(Default)]
pub struct EventLog(Vec<Item>);

/// What a query is answered, and the bytes of the items that DynamoDB reads for it.
pub struct Page {
    /// The response.
    pub json: String,
    /// What is billed.
    pub read_bytes: usize,
}

impl EventLog {
    /// Made once: rendering an item costs more than a query.
    pub fn new(corpus: &Corpus) -> EventLog {
        let mut event_log = EventLog::default();
        event_log.append(corpus);
        event_log
    }

    /// Takes in a corpus that is younger than what is there.
    pub fn append(&mut self, corpus: &Corpus) {
        let items = corpus.segments.iter().map(|segment| {
            let id = segment.id.to_string();
            let size_bytes = segment.ids.len() + segment.names.len() + segment.envelopes.len() + 100;
            let (ids, names) = (json!(segment.ids), json!(segment.names));
            let envelopes = BASE64_STANDARD.encode(&segment.envelopes);
            Item {
                day: segment.published_at().day(),
                size_bytes,
                ids: format!(r#"{{"sk":{{"S":"{id}"}},"ids":{{"S":{ids}}}}}"#),
                whole: format!(
                    r#"{{"pk":{{"S":"p"}},"sk":{{"S":"{id}"}},"ids":{{"S":{ids}}},"names":{{"S":{names}}},"envelopes":{{"B":"{envelopes}"}},"expires_at":{{"N":"1"}}}}"#
                ),
                id,
            }
        });
        self.0.extend(items);
    }

    /// A page of the partition and range that the query names; with a projection the ids of each segment alone.
    pub fn query(&self, request: &Value) -> Page {
        let value = |name: &str| {
            let value = &request["ExpressionAttributeValues"][name]["S"];
            value.as_str().unwrap_or_default()
        };
        let (partition, from, last) = (value(":partition"), value(":from"), value(":last"));
        let after = request["ExclusiveStartKey"]["sk"]["S"].as_str();
        let is_projected = request["ProjectionExpression"].is_string();
        let limit = request["Limit"].as_u64().unwrap_or(u64::MAX) as usize;
        let start = self.0.partition_point(|item| {
            item.id.as_str() < from || after.is_some_and(|after| item.id.as_str() <= after)
        });
        let found = self.0[start..].iter().filter(|item| {
            item.id.as_str() <= last && partition == format!("{TENANT}#{}#0", item.day)
        });
        let (mut items, mut read_bytes, mut more) = (Vec::new(), 0, String::new());
        let mut found = found.peekable();
        while let Some(item) = found.next() {
            items.push(if is_projected { &item.ids } else { &item.whole }.as_str());
            read_bytes += item.size_bytes;
            if (read_bytes >= PAGE_BYTES || items.len() >= limit) && found.peek().is_some() {
                let id = &item.id;
                more = format!(
                    r#","LastEvaluatedKey":{{"pk":{{"S":"{partition}"}},"sk":{{"S":"{id}"}}}}"#
                );
                break;
            }
        }
        let (count, items) = (items.len(), items.join(","));
        let json = format!(r#"{{"Items":[{items}],"Count":{count},"ScannedCount":{count}{more}}}"#);
        Page { json, read_bytes }
    }
}
