//! What several test files need: fixtures and a seeded source of hostile text.

use std::path::PathBuf;

use epitome_data::{Record, Tokenizer};

/// The path of a committed fixture.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The path of a sample document.
pub(crate) fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../eval/samples").join(name)
}

/// The small tokenizer that `make.py` made.
pub(crate) fn small_tokenizer() -> Tokenizer {
    Tokenizer::load(fixture("tokenizer")).expect("the fixture is sound")
}

/// A record from its JSON.
pub(crate) fn record(json: &str) -> Record {
    let location = epitome_data::Location { file: "records.jsonl".into(), line: 7 };
    Record::from_json(json, location).expect("the record is sound")
}

/// A linear congruential generator (Knuth's MMIX constants): enough to vary test inputs.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % bound
    }

    /// Text of pieces that meet at awkward places, from ASCII to the last plane, without special tokens.
    pub(crate) fn text(&mut self, pieces: usize) -> String {
        const PIECES: [&str; 24] = [
            " ", "  ", "\t", "\n", "\r\n", "'s", "'", "the", "Word", "ing", "0", "42", "é", "\u{301}", "日本", "😀",
            "\u{a0}", "\u{3000}", "\u{2028}", "\u{200d}", "\0", "½", ">", ".",
        ];
        let mut text = String::new();
        for _ in 0..self.below(pieces + 1) {
            match self.below(4) {
                0 => text.extend(char::from_u32(self.below(0x11_0000) as u32)),
                _ => text.push_str(PIECES[self.below(PIECES.len())]),
            }
        }
        text
    }
}
