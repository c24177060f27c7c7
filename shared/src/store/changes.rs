//! The change stream of the integrations table: what its records say that is worth a notification.

use domain::integration::IntegrationRef;
use domain::integration_log::{Action, Entry};
use domain::time::Millis;
use serde::Deserialize;
use serde_json::Value;
use ulid::Ulid;

use super::{integration_log, integration_of, rejected_events};

/// Something new in the table.
#[derive(Debug, PartialEq, Eq)]
pub enum TableChange {
    /// An entry of an integration log.
    Entry(IntegrationRef, Entry),
    /// An event that was rejected: its id, and when.
    Rejected(IntegrationRef, String, Millis),
}

/// An attribute as DynamoDB's JSON has it.
#[derive(Deserialize)]
enum Attribute {
    S(String),
    N(String),
}

#[derive(Deserialize)]
struct Image {
    pk: Attribute,
    sk: Attribute,
    action: Option<Attribute>,
    reason: Option<Attribute>,
    created_at: Option<Attribute>,
}

/// What a record of the stream says; none where it is no item of these kinds, or has another form. Entries are written once; the item of
/// a rejected event is written again when the receiver rejects the event again.
pub fn read(record: &Value) -> Option<TableChange> {
    let is_new = match record.get("eventName")?.as_str()? {
        "INSERT" => true,
        "MODIFY" => false,
        _ => return None,
    };
    let image = Image::deserialize(record.get("dynamodb")?.get("NewImage")?).ok()?;
    let (pk, sk) = (image.pk.text()?, image.sk.text()?);
    if let Some(id) = sk.strip_prefix(integration_log::PREFIX).filter(|_| is_new) {
        let entry = Entry {
            id: Ulid::from_string(id).ok()?,
            action: Action::parse(&image.action?.text()?)?,
            reason: image.reason?.text()?,
        };
        return Some(TableChange::Entry(integration_of(&pk)?, entry));
    }
    let event_id = sk.strip_prefix(rejected_events::PREFIX)?;
    let Attribute::N(created_at) = image.created_at? else {
        return None;
    };
    let created_at = Millis(created_at.parse().ok()?);
    Some(TableChange::Rejected(
        integration_of(&pk)?,
        event_id.to_owned(),
        created_at,
    ))
}

impl Attribute {
    fn text(self) -> Option<String> {
        match self {
            Attribute::S(text) => Some(text),
            Attribute::N(_) => None,
        }
    }
}
