//! The platform's events: their names, and payloads as a shop would write them.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// What a payload is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    FulfillmentRequest,
    Order,
    Return,
    Refund,
    PaymentAccount,
    Inventory,
}

/// All the names of the platform's catalogue.
pub const CATALOGUE: [(&str, Kind); 16] = [
    ("fulfillment_request.assigned", Kind::FulfillmentRequest),
    (
        "fulfillment_request.items_completed",
        Kind::FulfillmentRequest,
    ),
    ("fulfillment_request.items_failed", Kind::FulfillmentRequest),
    (
        "fulfillment_request.items_ready_for_handover",
        Kind::FulfillmentRequest,
    ),
    ("order.created", Kind::Order),
    ("order.opened", Kind::Order),
    ("order.completed", Kind::Order),
    ("order.cancelled", Kind::Order),
    ("order.items_swapped", Kind::Order),
    ("order.items_cancelled", Kind::Order),
    ("return.processed", Kind::Return),
    ("refund_request.issued", Kind::Refund),
    ("payment_account.amount_refunded", Kind::PaymentAccount),
    ("inventory_transaction.asn_created", Kind::Inventory),
    ("inventory_transaction.items_received", Kind::Inventory),
    ("inventory_transaction.adjustment_created", Kind::Inventory),
];

/// The webhook's `event_filter`: with [`ENTITY_FILTER`], half of the catalogue passes.
pub const EVENT_FILTER: [&str; 2] = ["fulfillment_request.assigned", "return.processed"];
/// The webhook's `entity_filter`.
pub const ENTITY_FILTER: [&str; 1] = ["order"];

/// Whether the webhook's filter lets events of this name pass. Said here once more and not taken from the service: the
/// demo checks what the service does.
pub fn passes(name: &str) -> bool {
    let entity = name.split('.').next().unwrap_or_default();
    EVENT_FILTER.contains(&name) || ENTITY_FILTER.contains(&entity)
}

/// What is sold, its price written as the shop writes it: the zeros, escapes and letters must all come back as they are.
const PRODUCTS: [(&str, &str, &str); 8] = [
    ("SKU-10233", "Linen shirt, white", "49.90"),
    ("SKU-10871", "Running shoe \\u201cTempo\\u201d", "129.00"),
    ("SKU-11002", "Rain jacket", "189.50"),
    ("SKU-11410", "Crème brûlée set, 4 pieces", "34.95"),
    ("SKU-12055", "Wool socks", "12.10"),
    ("SKU-12908", "Gants d'\\u00e9t\\u00e9", "27.00"),
    ("SKU-13377", "Daypack 22\\/24 l", "89.99"),
    ("SKU-14020", "Insulated bottle 🧊", "24.50"),
];
const STORES: [&str; 6] = [
    "berlin-mitte",
    "hamburg-altona",
    "köln-süd",
    "wien-1",
    "zürich-hb",
    "warehouse-01",
];
const CARRIERS: [&str; 4] = ["DHL", "UPS", "DPD", "click_and_collect"];
const REASONS: [&str; 4] = ["too_small", "damaged", "changed_mind", "out_of_stock"];
const METHODS: [&str; 4] = ["card", "paypal", "gift_card", "invoice"];

/// An event to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The payload's own `id`, by which arrivals are distinguished.
    pub reference: String,
    pub name: &'static str,
    /// JSON.
    pub payload: String,
}

/// The first `count` events of a run: all names in turn, the payloads the same for the same seed, but for their ids.
pub fn events(run: &str, seed: u64, count: usize) -> Vec<Event> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..count)
        .map(|number| {
            let (name, kind) = CATALOGUE[number % CATALOGUE.len()];
            let reference = format!("{run}-{number:05}");
            let payload = payload(kind, &reference, &mut random);
            Event {
                reference,
                name,
                payload,
            }
        })
        .collect()
}

fn payload(kind: Kind, id: &str, random: &mut Xoshiro256PlusPlus) -> String {
    let order = random.random_range(100_000..1_000_000);
    let customer = random.random_range(1..50_000);
    let cents = random.random_range(500..50_000);
    let amount = format!("{}.{:02}", cents / 100, cents % 100);
    let (store, carrier) = (pick(&STORES, random), pick(&CARRIERS, random));
    let (reason, method) = (pick(&REASONS, random), pick(&METHODS, random));
    let items = items(random);
    match kind {
        Kind::FulfillmentRequest => format!(
            r#"{{"id":"{id}","order_number":"R{order}","location":"{store}","carrier":"{carrier}","items":[{items}],"express":{}}}"#,
            random.random_bool(0.2)
        ),
        Kind::Order => format!(
            r#"{{"id":"{id}","number":"R{order}","currency":"EUR","total":{amount},"customer":{{"id":{customer},"newsletter":{}}},"items":[{items}],"payment_method":"{method}","note":null}}"#,
            random.random_bool(0.5)
        ),
        Kind::Return => format!(
            r#"{{"id":"{id}","order_number":"R{order}","received_at":"{store}","reason":"{reason}","items":[{items}],"refund":{{"amount":{amount},"currency":"EUR"}}}}"#
        ),
        Kind::Refund => format!(
            r#"{{"id":"{id}","order_number":"R{order}","amount":{amount},"currency":"EUR","reason":"{reason}","approved_by":null}}"#
        ),
        Kind::PaymentAccount => format!(
            r#"{{"id":"{id}","account":{customer},"method":"{method}","amount":-{amount},"currency":"EUR","balance":0.00}}"#
        ),
        Kind::Inventory => format!(
            r#"{{"id":"{id}","location":"{store}","reference":"ASN-{order}","items":[{items}],"adjustment":{}}}"#,
            random.random_range(-20..200)
        ),
    }
}

fn items(random: &mut Xoshiro256PlusPlus) -> String {
    let count = random.random_range(1..=4);
    let items: Vec<String> = (0..count)
        .map(|_| {
            let (sku, title, price) = PRODUCTS[random.random_range(0..PRODUCTS.len())];
            let quantity = random.random_range(1..=3);
            format!(
                r#"{{"sku":"{sku}","title":"{title}","quantity":{quantity},"unit_price":{price}}}"#
            )
        })
        .collect();
    items.join(",")
}

fn pick<'a>(choices: &[&'a str], random: &mut Xoshiro256PlusPlus) -> &'a str {
    choices[random.random_range(0..choices.len())]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn payloads_are_json_objects_that_carry_their_own_unique_id() {
        let events = events("k3f9", 7, 500);
        let mut ids = HashSet::new();
        for event in &events {
            let payload: serde_json::Value = serde_json::from_str(&event.payload).unwrap();
            assert_eq!(payload["id"], event.reference.as_str(), "{}", event.payload);
            assert!(ids.insert(event.reference.clone()));
        }
    }

    #[test]
    fn the_whole_catalogue_is_published_and_half_of_it_passes_the_filter() {
        let events = events("run", 1, CATALOGUE.len());
        let names: HashSet<&str> = events.iter().map(|event| event.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        assert_eq!(names.iter().filter(|name| passes(name)).count(), 8);
        assert!(
            names
                .iter()
                .all(|name| domain::event::check_name(name).is_ok())
        );
    }

    #[test]
    fn a_seed_makes_the_same_payloads_again() {
        assert_eq!(events("run", 1, 40), events("run", 1, 40));
        assert_ne!(events("run", 1, 40), events("run", 2, 40));
    }
}
