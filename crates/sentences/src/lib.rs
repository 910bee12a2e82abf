//! Where the sentences of a text end.

#![forbid(unsafe_code)]

use std::ops::Range;

/// Words that end in a period without ending a sentence, in lower case and without that period.
const ABBREVIATIONS: [&str; 48] = [
    "approx", "ave", "capt", "cf", "co", "col", "corp", "dept", "dr", "ed", "eds", "eq", "eqs", "esp", "est", "etc",
    "fig", "figs", "gen", "gov", "hon", "inc", "jr", "lt", "ltd", "mr", "mrs", "ms", "mt", "nr", "nos", "pp", "prof",
    "ref", "refs", "rep", "resp", "rev", "sec", "sen", "sgt", "sp", "spp", "sr", "st", "suppl", "vol", "vs",
];

/// Abbreviations that are also words: they do not end a sentence when a digit follows, or for `al` after `et`.
const BEFORE_NUMBERS: [&str; 4] = ["no", "ch", "art", "p"];

/// The sentences of `text`, without the white space around them; empty ones are left out.
///
/// A sentence ends at a line break, and at `.`, `!` or `?` (several of them, and closing quotes and brackets, may follow)
/// before white space. A single period does not end a sentence after a known abbreviation (`Dr.`, `Fig.`, `etc.`), after
/// a single letter (`J. Smith`, `E. coli`) or letters with periods (`e.g.`, `U.S.`), after `et al.`, after `no.` before
/// a digit, and after a number that opens the sentence (`2. Methods`). Decimals have no white space inside. Case does
/// not matter, so that lower-cased text is split too.
///
/// ```
/// let text = "Dr. Smith measured 3.5 mm (Fig. 2). \"Why?\" asked J. Doe et al. in 1999. Nobody knew!";
/// assert_eq!(
///     epitome_sentences::sentences(text),
///     ["Dr. Smith measured 3.5 mm (Fig. 2).", "\"Why?\"", "asked J. Doe et al. in 1999.", "Nobody knew!"]
/// );
/// ```
pub fn sentences(text: &str) -> Vec<&str> {
    text.lines().flat_map(sentences_of_line).collect()
}

/// The byte ranges of the [`sentences`] of `text`.
///
/// ```
/// assert_eq!(epitome_sentences::sentence_ranges("Yes. No."), [0..4, 5..8]);
/// ```
pub fn sentence_ranges(text: &str) -> Vec<Range<usize>> {
    let range = |sentence: &str| {
        let start = sentence.as_ptr() as usize - text.as_ptr() as usize;
        start..start + sentence.len()
    };
    sentences(text).into_iter().map(range).collect()
}

fn sentences_of_line(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut words = word_ends(line).peekable();
    while let Some(end) = words.next() {
        let next = words.peek().map_or("", |&next_end| &line[end..next_end]);
        if next.is_empty() || ends_sentence(&line[start..end], next.trim_start()) {
            let sentence = line[start..end].trim();
            if !sentence.is_empty() {
                found.push(sentence);
            }
            start = end;
        }
    }
    found
}

/// The byte positions where words end: white space or nothing follows.
fn word_ends(line: &str) -> impl Iterator<Item = usize> {
    let words = line.split_whitespace();
    words.map(|word| word.as_ptr() as usize - line.as_ptr() as usize + word.len())
}

/// Whether `text`, the sentence so far up to the end of a word, is complete before the word `next`.
fn ends_sentence(text: &str, next: &str) -> bool {
    let closing = |letter| matches!(letter, ')' | ']' | '}' | '"' | '\'' | '\u{201D}' | '\u{2019}' | '\u{BB}');
    let text = text.trim_end_matches(closing);
    let unmarked = text.trim_end_matches(['.', '!', '?']);
    match &text[unmarked.len()..] {
        "" => false,
        "." => !is_abbreviation(unmarked, next),
        _ => true,
    }
}

/// Whether a period after the last word of `text` marks an abbreviation or an enumeration.
fn is_abbreviation(text: &str, next: &str) -> bool {
    let mut words = text.split_whitespace();
    let Some(word) = words.next_back() else { return false };
    if text.ends_with(char::is_whitespace) {
        return false; // The period stands alone.
    }
    let before = words.next_back();
    let word = word.trim_start_matches(|letter: char| !letter.is_alphanumeric()).to_lowercase();
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let has_initials = word.split('.').all(|part| part.chars().count() == 1 && part.chars().all(char::is_alphabetic));
    has_initials
        || ABBREVIATIONS.contains(&word.as_str())
        || (BEFORE_NUMBERS.contains(&word.as_str()) && next.starts_with(|letter: char| letter.is_ascii_digit()))
        || (word == "al" && before == Some("et"))
        || (is_number && before.is_none())
}

#[cfg(test)]
mod tests {
    use super::{sentence_ranges, sentences};

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(sentences(text), expected);
    }

    #[test]
    fn ends_of_sentences() {
        check("One. Two! Three? Four", &["One.", "Two!", "Three?", "Four"]);
        check(
            "He waited... Then left?! \"Yes.\" (Really.) End",
            &["He waited...", "Then left?!", "\"Yes.\"", "(Really.)", "End"],
        );
        check("lower case. is split too.", &["lower case.", "is split too."]);
        check("shown before <cit> . the next", &["shown before <cit> .", "the next"]);
        check("a line\n\n  another  \r\nthird.", &["a line", "another", "third."]);
        check("", &[]);
        check(" . ", &["."]);
    }

    #[test]
    fn periods_inside_sentences() {
        check("It grew 3.5 cm by 1.2.3 at example.org today.", &["It grew 3.5 cm by 1.2.3 at example.org today."]);
        check("Mr. J. R. Smith, e.g. of the U.S. Army.", &["Mr. J. R. Smith, e.g. of the U.S. Army."]);
        check("e. coli and (cf. Fig. 3) others.", &["e. coli and (cf. Fig. 3) others."]);
        check("Lee et al. found it. The al. did not.", &["Lee et al. found it.", "The al.", "did not."]);
        check("See no. 5. She said no. Then left.", &["See no. 5.", "She said no.", "Then left."]);
        check("2. Methods. It was 1999. Then", &["2. Methods.", "It was 1999.", "Then"]);
    }

    #[test]
    fn no_character_but_white_space_is_lost() {
        let text = "\u{130}t is \u{2019}so\u{2019}. \u{201C}Gr\u{FC}\u{DF}e!\u{201D} caf\u{E9}. \u{3000}x.\n.\n?! y";
        let letters = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(letters(&sentences(text).concat()), letters(text));
    }

    #[test]
    fn ranges_are_those_of_the_sentences() {
        let text = "Gr\u{FC}\u{DF}e! \u{201C}caf\u{E9}.\u{201D} \r\n\n  x. (Cf. y.) z";
        let ranges = sentence_ranges(text).into_iter().map(|range| &text[range]);
        assert_eq!(ranges.collect::<Vec<_>>(), sentences(text));
    }
}
