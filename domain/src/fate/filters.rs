//! Filters that were changed.

use super::noted::Event;
use crate::filter::Filter;
use crate::integration::{Integration, Target};
use crate::log::position::Position;
use crate::time::Millis;

/// The filter that an integration had before another one: it has decided on all that was not waiting to be sent then.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PastFilter {
    /// The filter; none where all events passed.
    pub filter: Option<Filter>,
    /// When the integration was stopped to be changed: what was published later was left to the next filter.
    pub until: Millis,
    /// The ranges that were owed then: the next filter decides on them.
    pub unsent: Vec<(Position, Option<Millis>)>,
}

impl PastFilter {
    /// The filter of a stopped integration that is about to be given another one at `now`.
    pub fn of(integration: &Integration, now: Millis) -> PastFilter {
        let unsent = match &integration.target {
            Target::Webhook { stream, .. } => {
                let owed = stream.owed.iter();
                owed.map(|owed| (owed.from, owed.until)).collect()
            }
            // A file that is begun is finished by its own filter.
            Target::S3 { export, .. } => {
                let planned = export.plan.as_ref().map(|plan| plan.until);
                let from = planned.map_or(export.position, |until| until.max(export.position));
                vec![(Position::at(from), None)]
            }
        };
        let until = match &integration.target {
            Target::Webhook { .. } => integration.stopped_at.unwrap_or(now),
            Target::S3 { .. } => now,
        };
        PastFilter {
            filter: integration.filter.clone(),
            until,
            unsent,
        }
    }

    pub(super) fn passes(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|it| it.passes(name))
    }

    /// Whether it was for this filter to decide on an event, unless an earlier one had.
    pub(super) fn decides(&self, event: &Event<'_>) -> bool {
        event.published_at() < self.until && !is_in(&self.unsent, event)
    }
}

/// Whether an event lies in one of these ranges.
pub(super) fn is_in(ranges: &[(Position, Option<Millis>)], event: &Event<'_>) -> bool {
    let (position, at) = (event.position(), event.published_at());
    ranges
        .iter()
        .any(|(from, until)| *from <= position && until.is_none_or(|until| at < until))
}
