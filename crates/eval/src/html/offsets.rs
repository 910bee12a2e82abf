//! From bytes and characters to what scripts count.

/// Where the characters of a text stand, for turning offsets into those of JavaScript, which counts UTF-16 code units.
pub(super) struct Offsets {
    /// The byte each character starts at, and the end.
    bytes: Vec<usize>,
    /// The same in UTF-16 code units.
    units: Vec<usize>,
}

impl Offsets {
    pub(super) fn new(text: &str) -> Self {
        let mut unit = 0;
        let mut offsets = Self { bytes: Vec::new(), units: Vec::new() };
        for (byte, character) in text.char_indices() {
            offsets.bytes.push(byte);
            offsets.units.push(unit);
            unit += character.len_utf16();
        }
        offsets.bytes.push(text.len());
        offsets.units.push(unit);
        offsets
    }

    /// The code unit that the character at a byte starts with.
    pub(super) fn of_byte(&self, byte: usize) -> usize {
        self.units[self.bytes.partition_point(|&start| start < byte)]
    }

    /// The code unit that a character starts with; none beyond the end of the text.
    pub(super) fn of_character(&self, character: usize) -> Option<usize> {
        self.units.get(character).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Offsets;

    #[test]
    fn astral_characters_are_two_units() {
        let offsets = Offsets::new("a\u{E9}\u{1F600}b");
        assert_eq!([0, 1, 3, 7, 8].map(|byte| offsets.of_byte(byte)), [0, 1, 2, 4, 5]);
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(|at| offsets.of_character(at)),
            [Some(0), Some(1), Some(2), Some(4), Some(5), None]
        );
        assert_eq!(Offsets::new("").of_byte(0), 0);
    }
}
