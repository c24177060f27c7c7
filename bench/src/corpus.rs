//! A fixed corpus: a shop's events, the same in every run. Ids, amounts and times are random, as real ones are, so that zstd
//! finds what it would find in production and no more: its ratio is checked to be at most 8.

use domain::log::segment;
use domain::log::segment::{NewEvent, Segment};
use domain::time::Millis;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::value::RawValue;
use ulid::Ulid;
use uuid::Builder;

/// The tenant of the corpus.
pub const TENANT: &str = "acme";

const NAMES: [&str; 6] = [
    "order.created",
    "order.completed",
    "return.processed",
    "refund_request.issued",
    "fulfillment_request.assigned",
    "inventory_transaction.items_received",
];
const PRODUCTS: [&str; 8] = [
    "Linen shirt, white",
    "Running shoe \u{201c}Tempo\u{201d}",
    "Rain jacket",
    "Crème brûlée set, 4 pieces",
    "Wool socks",
    "Gants d'été",
    "Daypack 22/24 l",
    "Insulated bottle",
];
const CITIES: [&str; 8] = [
    "Berlin", "Hamburg", "Köln", "Wien", "Zürich", "Lyon", "Gdańsk", "Porto",
];

/// Segments, and what they hold.
#[derive(Debug)]
pub struct Corpus {
    /// In order; their ids are a millisecond apart or more.
    pub segments: Vec<Segment>,
    /// The size of all envelopes, newlines included.
    pub bytes: usize,
    /// The size of all compressed envelopes.
    pub compressed_bytes: usize,
    /// The number of events.
    pub events: usize,
}

impl Corpus {
    /// At least `bytes` of envelopes in segments of up to `events_per_segment` events, evenly spread from `from` to `until`.
    ///
    /// # Panics
    /// When zstd has no memory, or finds more in the corpus than it would in real events.
    pub fn new(bytes: usize, events_per_segment: usize, from: Millis, until: Millis) -> Corpus {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(20);
        let mut corpus = Corpus {
            segments: Vec::new(),
            bytes: 0,
            compressed_bytes: 0,
            events: 0,
        };
        // An event has about 2,500 bytes.
        let count = (bytes / (2_000 * events_per_segment)).max(1) as u64;
        let step = (until.since(from).as_millis() as u64 / count).max(1);
        while corpus.bytes < bytes {
            let at = from.0 + step * corpus.segments.len() as u64;
            let events: Vec<_> = (0..events_per_segment)
                .map(|_| event(&mut random, at))
                .collect();
            let appended = events
                .iter()
                .map(|(id, name, payload)| NewEvent { id, name, payload });
            let id = Ulid::from_parts(at, random.random());
            let built = segment::build(TENANT, appended.collect(), || id)
                .expect("segments can be compressed");
            for built in built {
                let lines = built.events.iter().map(|(_, line)| line.get().len() + 1);
                corpus.bytes += lines.sum::<usize>();
                corpus.compressed_bytes += built.segment.envelopes.len();
                corpus.events += built.events.len();
                corpus.segments.push(built.segment);
            }
        }
        assert!(corpus.ratio() <= 8.0, "ratio {}", corpus.ratio());
        corpus
    }

    /// How much smaller zstd makes the envelopes.
    pub fn ratio(&self) -> f64 {
        self.bytes as f64 / self.compressed_bytes as f64
    }
}

/// Id, name and payload of an event at `at`.
fn event(random: &mut Xoshiro256PlusPlus, at: u64) -> (String, &'static str, Box<RawValue>) {
    let id = uuid(random);
    let name = NAMES[random.random_range(0..NAMES.len())];
    let items: Vec<String> = (0..random.random_range(1..5))
        .map(|_| item(random))
        .collect();
    let payload = format!(
        concat!(
            r#"{{"id":"{}","external_id":"HTTP{:09}","associate_id":null,"associate_email":null,"channel_type":"web","channel_name":"storefront","#,
            r#""customer_id":"{}","customer_email":"{}@example.com","placed_at":"{}","is_historical":false,"is_exchange":{},"currency_code":"EUR","#,
            r#""tax_strategy":"tax_included","price_method":"tax_included","demand_location_id":null,"billing_address":{},"shipping_address":{},"#,
            r#""shipping_total":"4.9000","tax_total":"{}.{:02}00","discount_total":"0.0000","subtotal":"{}.{:02}00","grand_total":"{}.{:02}00","#,
            r#""discounts":[],"payments":[{{"method":"credit_card","processor":"adyen","correlation_ref":"{:016}","amount":"{}.{:02}00","type":"authorized","currency":"EUR"}}],"#,
            r#""items":[{}],"extended_attributes":[{{"name":"source_system","value":"storefront"}},{{"name":"requires_signature","value":"false"}}]}}"#
        ),
        uuid(random),
        random.random_range(0..1_000_000_000_u64),
        uuid(random),
        letters(random, 11),
        Millis(at - random.random_range(0..90_000_u64)),
        random.random_bool(0.1),
        address(random),
        address(random),
        random.random_range(1..90),
        random.random_range(0..100),
        random.random_range(5..900),
        random.random_range(0..100),
        random.random_range(5..900),
        random.random_range(0..100),
        random.random_range(0..10_000_000_000_000_000_u64),
        random.random_range(5..900),
        random.random_range(0..100),
        items.join(","),
    );
    let payload = RawValue::from_string(payload).expect("a payload is JSON");
    (id, name, payload)
}

/// An event of about 1 KiB, as a publisher writes it: without an id.
pub fn small_event(random: &mut Xoshiro256PlusPlus) -> String {
    let name = NAMES[random.random_range(0..NAMES.len())];
    format!(
        concat!(
            r#"{{"name":"{}","payload":{{"id":"{}","external_id":"HTTP{:09}","channel_type":"web","customer_id":"{}","currency_code":"EUR","#,
            r#""shipping_address":{},"grand_total":"{}.{:02}00","items":[{}]}}}}"#
        ),
        name,
        uuid(random),
        random.random_range(0..1_000_000_000_u64),
        uuid(random),
        address(random),
        random.random_range(5..900),
        random.random_range(0..100),
        item(random),
    )
}

fn address(random: &mut Xoshiro256PlusPlus) -> String {
    format!(
        concat!(
            r#"{{"salutation":null,"first_name":"{}","last_name":"{}","address_line_1":"{} {}","address_line_2":"","zip_code":"{:05}","#,
            r#""city":"{}","state":"","country_code":"DE","phone":"+49{:010}"}}"#
        ),
        letters(random, 6),
        letters(random, 9),
        letters(random, 12),
        random.random_range(1..200),
        random.random_range(0..100_000),
        CITIES[random.random_range(0..CITIES.len())],
        random.random_range(0..10_000_000_000_u64),
    )
}

fn item(random: &mut Xoshiro256PlusPlus) -> String {
    format!(
        concat!(
            r#"{{"id":"{}","external_id":"{:06}","product_id":"SKU-{:05}","product_name":"{}","quantity":{},"status":"created","#,
            r#""pricebook_price":"{}.{:02}00","list_price":"{}.{:02}00","item_discounts":"0.0000","order_discounts":"0.0000","tax":"{}.{:02}00","tax_lines":[{{"name":"VAT","rate":"0.1900","amount":"{}.{:02}00"}}],"#,
            r#""shipping_service_level":"GROUND","fulfillment_location_id":"store-{:03}","epc":null,"is_gift":false,"extended_attributes":[]}}"#
        ),
        uuid(random),
        random.random_range(0..1_000_000),
        random.random_range(0..100_000),
        PRODUCTS[random.random_range(0..PRODUCTS.len())],
        random.random_range(1..4),
        random.random_range(5..300),
        random.random_range(0..100),
        random.random_range(5..300),
        random.random_range(0..100),
        random.random_range(0..60),
        random.random_range(0..100),
        random.random_range(0..60),
        random.random_range(0..100),
        random.random_range(0..400),
    )
}

fn uuid(random: &mut impl Rng) -> String {
    let mut bytes = [0; 16];
    random.fill_bytes(&mut bytes);
    Builder::from_random_bytes(bytes).into_uuid().to_string()
}

fn letters(random: &mut impl Rng, count: usize) -> String {
    (0..count)
        .map(|_| char::from(random.random_range(b'a'..=b'z')))
        .collect()
}
