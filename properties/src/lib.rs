//! Properties: tests that a statement holds for every input, tried on many random ones.
//!
//! ```
//! use properties::RngExt;
//!
//! properties::holds(
//!     |random| (random.random::<u16>(), random.random::<u16>()),
//!     |&(a, b)| assert_eq!(u32::from(a) + u32::from(b), u32::from(b) + u32::from(a)),
//! );
//! ```
//!
//! A property that fails prints its input and the command that tries the same input again.

use std::fmt::Debug;

pub use rand::RngExt;
use rand::SeedableRng;
pub use rand::rngs::Xoshiro256PlusPlus as Random;

/// On how many inputs each property is tried.
pub const CASES: usize = 1_000;
/// The environment variable with the seed of the one input on which properties are tried.
const SEED: &str = "PROPERTY_SEED";

/// Letters that parsers, terminals and alphabets treat specially: control characters, spaces that are not ASCII, digits and
/// letters that look like ASCII, letters that change their length with their case, marks, and the ends of Unicode's planes.
const ODD: &str = "\0\t\n\r\u{7f}\u{85}\u{a0}éßİﬁ\u{301}а１٣①。\u{200b}\u{202e}\u{2028}\u{feff}\u{fffd}🦀\u{10ffff}";

/// Asserts `property` of [`CASES`] inputs that `input` makes of random numbers, each with another seed; or of the one input
/// whose seed the variable `PROPERTY_SEED` names.
///
/// # Panics
/// Where `property` panics; the input and how it is tried again have been printed then.
pub fn holds<T: Debug>(input: impl Fn(&mut Random) -> T, property: impl Fn(&T)) {
    let seeds = match std::env::var(SEED) {
        Ok(seed) => vec![seed.parse().expect("PROPERTY_SEED is a number")],
        Err(_) => std::iter::repeat_with(rand::random).take(CASES).collect(),
    };
    for seed in seeds {
        let case = Case {
            seed,
            input: input(&mut Random::seed_from_u64(seed)),
        };
        property(&case.input);
    }
}

/// One input, which is printed when it is dropped by a panic.
struct Case<T: Debug> {
    seed: u64,
    input: T,
}

impl<T: Debug> Case<T> {
    fn report(&self, test: &str) -> String {
        let Case { seed, input } = self;
        format!(
            "The property does not hold for the input {input:?}.\nTry it again: {SEED}={seed} cargo test {test}"
        )
    }
}

impl<T: Debug> Drop for Case<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test's own thread has its name.
            let thread = std::thread::current();
            eprintln!("{}", self.report(thread.name().unwrap_or_default()));
        }
    }
}

/// A character of any kind: mostly ASCII, often one of the odd ones, at times any of Unicode.
pub fn letter(random: &mut Random) -> char {
    match random.random_range(0..8) {
        0..5 => random.random_range('\0'..='\u{7f}'),
        5 | 6 => one_of(random, &ODD.chars().collect::<Vec<_>>()),
        _ => random.random(),
    }
}

/// A text of at most `most` characters of any kind.
pub fn text(random: &mut Random, most: usize) -> String {
    let length = random.random_range(0..=most);
    (0..length).map(|_| letter(random)).collect()
}

/// A text of at most `most` characters of `alphabet`.
pub fn spelled(random: &mut Random, alphabet: &str, most: usize) -> String {
    let letters: Vec<char> = alphabet.chars().collect();
    let length = random.random_range(0..=most);
    (0..length).map(|_| one_of(random, &letters)).collect()
}

/// A text of at most `most` of these pieces, in any order.
pub fn joined(random: &mut Random, pieces: &[&str], most: usize) -> String {
    let length = random.random_range(0..=most);
    (0..length).map(|_| one_of(random, pieces)).collect()
}

/// One of these.
pub fn one_of<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())]
}

/// `text` with at most `most` characters left out, replaced, put in or repeated: what a parser of such texts nearly accepts.
pub fn damaged(random: &mut Random, text: &str, most: usize) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..random.random_range(0..=most) {
        let place = random.random_range(0..=letters.len());
        let here = place..letters.len().min(place + 1);
        match random.random_range(0..4) {
            0 => drop(letters.drain(here)),
            1 => drop(letters.splice(here, [letter(random)])),
            2 => letters.insert(place, letter(random)),
            _ => letters.extend_from_within(here),
        }
    }
    letters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_property_is_tried_on_many_inputs_until_it_fails() {
        let inputs = RefCell::new(BTreeSet::new());
        holds(
            |random| random.random::<u64>(),
            |input| {
                inputs.borrow_mut().insert(*input);
            },
        );
        assert_eq!(inputs.borrow().len(), CASES);
        let tried = Cell::new(0);
        let failing = || {
            holds(
                |random| random.random_range(0..10),
                |input| {
                    tried.set(tried.get() + 1);
                    assert_ne!(*input, 7);
                },
            );
        };
        assert!(catch_unwind(AssertUnwindSafe(failing)).is_err());
        assert!((1..CASES).contains(&tried.get()));
    }

    #[test]
    fn a_failure_names_its_input_and_the_command_that_repeats_it() {
        let case = Case {
            seed: 7,
            input: "a\n",
        };
        assert_eq!(
            case.report("a::test"),
            "The property does not hold for the input \"a\\n\".\nTry it again: PROPERTY_SEED=7 cargo test a::test"
        );
        let input = |seed| text(&mut Random::seed_from_u64(seed), 40);
        assert_eq!(input(7), input(7));
        assert_ne!(input(7), input(8));
    }

    #[test]
    fn texts_have_letters_of_every_kind_and_every_length() {
        let mut random = Random::seed_from_u64(1);
        let texts: Vec<String> = (0..CASES).map(|_| text(&mut random, 8)).collect();
        let lengths: BTreeSet<usize> = texts.iter().map(|text| text.chars().count()).collect();
        assert_eq!(lengths, (0..=8).collect());
        let letters: BTreeSet<char> = texts.iter().flat_map(|text| text.chars()).collect();
        assert!(ODD.chars().all(|letter| letters.contains(&letter)));
        assert!(letters.iter().filter(|letter| letter.is_ascii()).count() > 120);
        assert!(letters.iter().any(|letter| *letter > '\u{10000}'));
    }

    #[test]
    fn texts_are_made_of_letters_of_pieces_and_of_damage() {
        let mut random = Random::seed_from_u64(1);
        let texts: BTreeSet<String> = (0..CASES).map(|_| damaged(&mut random, "ab", 1)).collect();
        for text in ["", "ab", "a", "b", "aba", "abb"] {
            assert_eq!(texts.contains(text), !text.is_empty(), "{text}");
        }
        assert!(
            texts
                .iter()
                .all(|text| (1..=3).contains(&text.chars().count()))
        );
        assert_eq!(damaged(&mut random, "ab", 0), "ab");
        let joined: BTreeSet<String> = (0..CASES)
            .map(|_| joined(&mut random, &["a", "bc"], 2))
            .collect();
        let all = ["", "a", "bc", "aa", "abc", "bca", "bcbc"].map(str::to_owned);
        assert_eq!(joined, BTreeSet::from(all));
        let spelled: BTreeSet<String> = (0..CASES).map(|_| spelled(&mut random, "aé", 1)).collect();
        assert_eq!(spelled, BTreeSet::from(["", "a", "é"].map(str::to_owned)));
    }
}
