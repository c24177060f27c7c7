//! Which events an integration receives.

use serde::{Deserialize, Serialize};

use crate::event::{check_name, entity, is_name_part};

/// The longest list of a filter.
pub const MAX_NAMES: usize = 200;

/// How long all names of a filter may be together, in bytes: ingest reads the filters of all of a tenant's integrations for each
/// batch, and a partition of DynamoDB gives 12 MB a second.
pub const MAX_BYTES: usize = 8_000;

/// `filter_conditions` of an integration: names of events and of entities.
///
/// An event passes when its name is in `event_filter` **or** its entity is in `entity_filter`. Without names everything
/// passes; an empty list next to a filled one adds nothing (docs/api.md, Filter).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Whole names, for example `order.created`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_filter: Option<Vec<String>>,
    /// Entities, for example `order`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity_filter: Option<Vec<String>>,
}

impl Filter {
    /// Whether an event of this name passes.
    pub fn passes(&self, name: &str) -> bool {
        let events = self.event_filter.as_deref().unwrap_or_default();
        let entities = self.entity_filter.as_deref().unwrap_or_default();
        (events.is_empty() && entities.is_empty())
            || events.iter().any(|wanted| wanted == name)
            || entities.iter().any(|wanted| wanted == entity(name))
    }

    /// Checks both lists: at most [`MAX_NAMES`] well-formed names each.
    ///
    /// # Errors
    /// The field's path below `filter_conditions` and a sentence for the caller.
    pub fn check(&self) -> Result<(), (String, String)> {
        for (field, names) in [
            ("event_filter", &self.event_filter),
            ("entity_filter", &self.entity_filter),
        ] {
            let names = names.as_deref().unwrap_or_default();
            if names.len() > MAX_NAMES {
                return Err((
                    field.to_owned(),
                    format!("must not have more than {MAX_NAMES} names"),
                ));
            }
            for (index, name) in names.iter().enumerate() {
                let checked = match field {
                    "event_filter" => check_name(name),
                    _ if is_name_part(name) && name.len() <= crate::event::MAX_NAME_CHARS => Ok(()),
                    _ => Err("must be the part of an event's name before the dot, in lower case, such as order".to_owned()),
                };
                checked.map_err(|reason| (format!("{field}[{index}]"), reason))?;
            }
        }
        let lists = [&self.event_filter, &self.entity_filter];
        let names = lists.into_iter().flatten().flatten();
        match names.map(String::len).sum::<usize>() > MAX_BYTES {
            true => Err((
                "event_filter".to_owned(),
                format!(
                    "must not have names of more than {MAX_BYTES} characters in all, with those of entity_filter; filter by entities instead"
                ),
            )),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(events: Option<&[&str]>, entities: Option<&[&str]>) -> Filter {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Filter {
            event_filter: events.map(owned),
            entity_filter: entities.map(owned),
        }
    }

    #[test]
    fn all_names_together_are_bounded() {
        let name = |n: usize| format!("order.a{n:0>93}");
        let names: Vec<String> = (0..80).map(name).collect();
        let named = |names: &[String]| Filter {
            event_filter: Some(names.to_vec()),
            entity_filter: Some(vec!["order".to_owned()]),
        };
        assert!(named(&names[..79]).check().is_ok());
        let (field, reason) = named(&names).check().unwrap_err();
        assert!(
            field == "event_filter" && reason.contains("8000"),
            "{field}: {reason}"
        );
    }

    #[test]
    fn an_event_passes_by_its_name_or_by_its_entity() {
        let order: &[&str] = &["order"];
        let created: &[&str] = &["order.created"];
        let empty: &[&str] = &[];
        for (events, entities, name, passes) in [
            (None, None, "order.created", true),
            (Some(empty), None, "order.created", true),
            (None, Some(empty), "order.created", true),
            (Some(empty), Some(empty), "order.created", true),
            (Some(created), None, "order.created", true),
            (Some(created), None, "order.completed", false),
            (Some(created), Some(empty), "order.completed", false),
            (None, Some(order), "order.completed", true),
            (Some(empty), Some(order), "order.completed", true),
            (Some(empty), Some(order), "return.processed", false),
            (None, Some(order), "order_line.created", false),
            (Some(created), Some(&["return"]), "return.processed", true),
            (Some(created), Some(&["return"]), "order.created", true),
            (Some(created), Some(&["return"]), "order.completed", false),
        ] {
            assert_eq!(
                filter(events, entities).passes(name),
                passes,
                "{events:?} {entities:?} {name}"
            );
        }
    }

    #[test]
    fn bad_names_are_refused_with_their_place() {
        assert_eq!(
            filter(Some(&["order.created"]), Some(&["order"])).check(),
            Ok(())
        );
        assert_eq!(
            filter(Some(&["a.b", "order"]), None).check().unwrap_err().0,
            "event_filter[1]"
        );
        assert_eq!(
            filter(None, Some(&["order.created"]))
                .check()
                .unwrap_err()
                .0,
            "entity_filter[0]"
        );
        let many = vec!["a.b"; 201];
        assert_eq!(
            filter(Some(&many), None).check().unwrap_err().0,
            "event_filter"
        );
    }
}
