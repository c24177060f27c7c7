//! Time: milliseconds since the epoch, UTC.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// 9999-12-31T23:59:59.999Z: the last instant. SAP, .NET and SQL write "forever" like this.
const LAST: u64 = 253_402_300_799_999;

/// The epoch as a date and time of UTC. Those of the library end with the year 9999; its instants end a day earlier.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl Millis {
    /// This instant plus `duration`, never past the year 9999.
    pub fn after(self, duration: Duration) -> Millis {
        Millis(self.0.saturating_add(duration.as_millis() as u64).min(LAST))
    }

    /// This instant minus `duration`, never before the epoch.
    pub fn before(self, duration: Duration) -> Millis {
        Millis(self.0.saturating_sub(duration.as_millis() as u64))
    }

    /// How long it is from `earlier` to this instant; zero when `earlier` is later.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The first id of the event log at this instant: the smallest ULID of the millisecond.
    pub fn first_id(self) -> Ulid {
        Ulid::from_parts(self.0, 0)
    }

    /// Seconds since the epoch, as DynamoDB's TTL attributes count.
    pub fn epoch_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The first instant of its day, UTC.
    pub fn midnight(self) -> Millis {
        const DAY: u64 = 24 * 3600 * 1000;
        Millis(self.0 / DAY * DAY)
    }

    /// The day as `YYYY-MM-DD`, UTC.
    pub fn day(self) -> String {
        self.to_string()[..10].to_owned()
    }

    /// Reads an RFC 3339 timestamp in UTC (`Z` or `+00:00`); digits past the millisecond are cut off.
    ///
    /// # Errors
    /// A sentence for the caller, when the text is not such a timestamp.
    pub fn parse(text: &str) -> Result<Millis, String> {
        let refusal = || {
            format!(
                "must be an RFC 3339 timestamp in UTC such as 2019-01-17T12:00:00Z, not \"{}\"",
                clip(text)
            )
        };
        if !is_rfc3339_utc(text.as_bytes()) {
            return Err(refusal());
        }
        let zone = text.rfind(['Z', 'z', '+']).unwrap_or(text.len());
        let at: DateTime = text[..zone].parse().map_err(|_| refusal())?;
        let millis = at.duration_since(EPOCH).as_millis();
        u64::try_from(millis)
            .map(Millis)
            .map_err(|_| "must not be before 1970".to_owned())
    }
}

/// The first 40 characters: enough to recognise a value in an error message.
fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The grammar of RFC 3339 section 5.6, narrowed to UTC; the library behind [`Millis::parse`] accepts more of ISO 8601.
fn is_rfc3339_utc(text: &[u8]) -> bool {
    let Some((head, tail)) = text.split_at_checked(19) else {
        return false;
    };
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let head_fits = head.iter().zip(shape).all(|(byte, wanted)| match wanted {
        b'd' => byte.is_ascii_digit(),
        b'T' => byte.eq_ignore_ascii_case(&b'T'),
        other => byte == other,
    });
    let zone = match tail.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            if digits == 0 || digits > 9 {
                return false;
            }
            &fraction[digits..]
        }
        None => tail,
    };
    head_fits && (zone.eq_ignore_ascii_case(b"z") || zone == b"+00:00")
}

/// RFC 3339 UTC with milliseconds and `Z`, the form of every timestamp in our responses.
impl fmt::Display for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = SignedDuration::from_millis(self.0.min(LAST) as i64);
        let at = EPOCH.checked_add(since).map_err(|_| fmt::Error)?;
        write!(formatter, "{at:.3}Z")
    }
}

#[cfg(test)]
mod tests {
    use properties::{Random, RngExt};

    use super::*;

    #[test]
    fn timestamps_are_written_with_milliseconds_and_z() {
        assert_eq!(Millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Millis(1_262_347_200_000).to_string(),
            "2010-01-01T12:00:00.000Z"
        );
        assert_eq!(
            Millis(1_262_347_200_007).to_string(),
            "2010-01-01T12:00:00.007Z"
        );
        assert_eq!(Millis(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn only_rfc_3339_in_utc_is_read() {
        for (text, millis) in [
            ("2019-01-17T12:00:00Z", 1_547_726_400_000),
            ("2019-01-17T12:00:00.5Z", 1_547_726_400_500),
            ("2019-01-17t12:00:00.123456789z", 1_547_726_400_123),
            ("2019-01-17T12:00:00+00:00", 1_547_726_400_000),
            ("1970-01-01T00:00:00Z", 0),
            ("9999-12-31T23:59:59Z", LAST - 999),
            ("9999-12-31T23:59:59.9999999Z", LAST),
        ] {
            assert_eq!(Millis::parse(text), Ok(Millis(millis)), "{text}");
        }
        for text in [
            "",
            "2019-01-17",
            "2019-01-17 12:00:00Z",
            "2019-01-17T12:00:00",
            "2019-01-17T12:00:00+01:00",
            "2019-13-17T12:00:00Z",
            "2019-02-30T12:00:00Z",
            "2019-01-17T25:00:00Z",
            "20190117T120000Z",
            "2019-01-17T12:00Z",
            "2019-01-17T12:00:00.Z",
            "1969-12-31T23:59:59Z",
            "1969-12-31T23:59:59.999Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T24:00:00Z",
            "+02019-01-17T12:00:00Z",
            "2019-01-17T12:00:00Z[UTC]",
            "1547726400",
            "2019-01-17T12:00:00é",
        ] {
            assert!(Millis::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_is_the_first_of_its_millisecond() {
        let place = Millis(1_547_726_400_000).first_id();
        assert_eq!(place.timestamp_ms(), 1_547_726_400_000);
        assert!(place <= Ulid::from_parts(1_547_726_400_000, 1));
        assert!(place > Ulid::from_parts(1_547_726_399_999, u128::MAX >> 48));
    }

    /// Any moment, often a whole second, minute or day, or the last moment.
    fn moment(random: &mut Random) -> Millis {
        let round = properties::one_of(random, &[1, 1_000, 60_000, 86_400_000, LAST]);
        Millis(random.random_range(0..=LAST / round) * round)
    }

    #[test]
    fn what_is_written_is_read_back() {
        properties::holds(moment, |moment| {
            assert_eq!(Millis::parse(&moment.to_string()), Ok(*moment));
        });
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        let text = |random: &mut Random| {
            if random.random() {
                properties::text(random, 40)
            } else {
                let moment = moment(random).to_string();
                properties::damaged(random, &moment, 4)
            }
        };
        properties::holds(text, |text| {
            let _ = Millis::parse(text);
        });
    }
}
