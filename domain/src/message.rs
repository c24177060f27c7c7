//! Messages of SQS, and the texts that it takes.
//!
//! A text goes as it is, unless it has a character that SQS refuses, which JSON may hold.

use std::borrow::Cow;
use std::error::Error;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Begins a text that had to be encoded; no JSON begins so.
const ENCODED: &str = "base64:";

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The text.
    pub body: String,
    /// For how long it is hidden: 0 to 900 seconds.
    pub delay_seconds: u32,
    /// The message group: on a standard queue, messages of one group share a fair part of the queue.
    pub group: Option<String>,
}

/// Whether a text has characters that SQS refuses: all but tab, line feed, carriage return, U+0020 to U+D7FF, U+E000 to U+FFFD and
/// U+10000 to U+10FFFF
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>).
pub fn needs_encoding(body: &str) -> bool {
    let refused = |letter: char| {
        matches!(letter, '\u{fffe}' | '\u{ffff}')
            || (letter < ' ' && !matches!(letter, '\t' | '\n' | '\r'))
    };
    // Looked for as bytes first: nearly no body has one, and U+FFFE and U+FFFF begin with EF BF.
    let (blocks, rest) = body.as_bytes().as_chunks();
    let is_suspect = blocks.iter().any(|block| has_suspect(*block))
        || rest.iter().any(|byte| *byte < 0x20 || *byte == 0xef);
    is_suspect && body.contains(refused)
}

/// Whether one of eight bytes is below 0x20, or is 0xef. All eight at once, and by hand, since a link for size vectorises no loop:
/// <https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord>.
fn has_suspect(block: [u8; 8]) -> bool {
    const EACH: u64 = u64::MAX / 255;
    let word = u64::from_ne_bytes(block);
    let below = |word: u64, limit: u64| word.wrapping_sub(EACH * limit) & !word & (EACH * 0x80);
    below(word, 0x20) | below(word ^ (EACH * 0xef), 1) != 0
}

/// The text that SQS carries for a body that has characters that it refuses.
pub fn encode(body: &str) -> String {
    format!("{ENCODED}{}", BASE64_STANDARD.encode(body))
}

/// The body that was sent, from the text of a received message.
///
/// # Errors
/// When the text says that it is encoded, but is not base64 of UTF-8.
pub fn decode(text: &str) -> Result<Cow<'_, str>, Box<dyn Error + Send + Sync>> {
    match text.strip_prefix(ENCODED) {
        Some(encoded) => Ok(String::from_utf8(BASE64_STANDARD.decode(encoded)?)?.into()),
        None => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SQS is sent for a body.
    fn sent(body: &str) -> String {
        match needs_encoding(body) {
            true => encode(body),
            false => body.to_owned(),
        }
    }

    #[test]
    fn what_sqs_refuses_is_found_wherever_it_is() {
        for at in (0..20).chain([255, 256, 700]) {
            for bad in ["\u{ffff}", "\u{fffe}", "\u{1}"] {
                let body = format!("{}{bad}{}", "x".repeat(at), "y".repeat(300));
                assert!(needs_encoding(&body), "{bad:?} at {at}");
            }
            for good in ["\u{ffe0}\n", "\u{7f}\u{80}", "\u{fffd}\u{ff0f}", "ï \t"] {
                let body = format!("{}{good}{}", "x".repeat(at), "y".repeat(300));
                assert!(!needs_encoding(&body), "{good:?} at {at}");
            }
        }
    }

    #[test]
    fn a_suspect_is_seen_in_each_of_eight_places() {
        for at in 0..8 {
            for byte in 0..=u8::MAX {
                let mut block = *b"{\"a\":12}";
                block[at] = byte;
                let expected = byte < 0x20 || byte == 0xef;
                assert_eq!(has_suspect(block), expected, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn every_text_survives() {
        for body in [
            "{\"a\":\"é\"}",
            "{\"a\":\"\u{ffff}\"}",
            "{\"a\":\"\u{fffe}\u{1F600}\"}",
            "{\n\t\"a\": 1\r\n}",
            "\u{fffd}",
            "",
        ] {
            assert_eq!(decode(&sent(body)).unwrap(), body);
        }
        assert_eq!(sent("{\"a\":\"\u{fffd}ﬀ\"}"), "{\"a\":\"\u{fffd}ﬀ\"}");
        assert!(sent("\u{ffff}").starts_with(ENCODED));
        assert!(decode("base64:#").is_err());
    }
}
