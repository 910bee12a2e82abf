//! `clean_up_tokenization` of `transformers`: English text without the spaces that tokenizers of words leave.

/// What is replaced by what, one after the other. All replacements remove spaces and nothing else.
const REPLACEMENTS: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

pub(super) fn clean_up(text: &str) -> String {
    REPLACEMENTS.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Turns places in a text, in ascending order, into those in the cleaned text.
pub(super) fn move_ends(ends: &mut [Option<usize>], text: &str, cleaned: &str) {
    let mut rest = cleaned.bytes().peekable();
    let (mut place, mut moved) = (0, 0);
    for end in ends.iter_mut().flatten() {
        // A byte that is not the next of the cleaned text is a space that was removed.
        for byte in text.as_bytes().get(place..*end).unwrap_or_default() {
            moved += usize::from(rest.next_if_eq(byte).is_some());
        }
        place = *end;
        *end = moved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_reference() {
        let clean = [
            ("a . b ? c ! d , e", "a. b? c! d, e"),
            ("do n't I 'm he 's we 've they 're", "don't I'm he's we've they're"),
            ("the dogs ' bone ' s", "the dogs'bone's"),
            ("  . ...  ,", " .... ,"),
        ];
        for (text, expected) in clean {
            assert_eq!(clean_up(text), expected);
        }
    }

    #[test]
    fn ends_stay_with_their_letters() {
        let text = "do n't  . é ' x";
        let cleaned = clean_up(text);
        assert_eq!(cleaned, "don't . é'x");
        let letters = |text: &str, end: usize| text[..end].replace(' ', "");
        let places: Vec<usize> = (0..=text.len()).filter(|&place| text.is_char_boundary(place)).collect();
        let mut ends: Vec<Option<usize>> = places.iter().copied().map(Some).collect();
        ends.insert(3, None);
        move_ends(&mut ends, text, &cleaned);
        for (place, end) in places.into_iter().zip(ends.into_iter().flatten()) {
            assert_eq!(letters(&cleaned, end), letters(text, place));
        }
    }
}
