//! Where the sentences of a text end, and how messages count things.

#![forbid(unsafe_code)]

mod counted;

use std::ops::Range;

pub use counted::counted;

/// Words that end in a period without ending a sentence, in lower case and without that period.
const ABBREVIATIONS: [&str; 54] = [
    "ae", "an", "approx", "ave", "capt", "cf", "co", "col", "corp", "dept", "dr", "ed", "eds", "eq", "eqs", "esp",
    "est", "fig", "figs", "gen", "gov", "hon", "inc", "jr", "lt", "ltd", "mr", "mrs", "ms", "mt", "nr", "nos", "pp",
    "prof", "pv", "ref", "refs", "rep", "resp", "rev", "sec", "sect", "sen", "sgt", "sp", "spp", "sr", "ssp", "st",
    "subsp", "suppl", "var", "vol", "vs",
];

/// Abbreviations that are also words: they do not end a sentence when a number follows.
const BEFORE_NUMBERS: [&str; 9] = ["alg", "art", "ca", "ch", "no", "p", "pt", "std", "tab"];

/// Abbreviations that are units after a number and may end a sentence there.
const UNITS: [&str; 2] = ["ms", "sec"];

/// Words that begin sentences and hardly ever follow an abbreviation or an initial within one when capitalised.
const STARTERS: [&str; 26] = [
    "after", "although", "as", "both", "for", "here", "however", "if", "in", "it", "its", "our", "since", "such",
    "the", "then", "there", "these", "they", "this", "those", "thus", "to", "we", "when", "while",
];

/// How texts without numbers mark where one was.
const NUMBER_PLACEHOLDER: &str = "<dig>";

/// The sentences of `text`, without the white space around them; empty ones are left out.
///
/// A sentence ends at a line break, and at `.`, `!` or `?` (several of them, and closing quotes and brackets, may follow)
/// before white space. Capital letters help to tell, but lower-cased text is split too. No sentence ends
/// - at a period after a known abbreviation (`Dr.`, `Fig.`), initials (`J. Smith`, `E. coli`, `e.g.`, `U.S.`), `et al.`,
///   or `no.` and the like before a number. Unless a word such as `The` or `However` follows: then an abbreviation or an
///   initial ends it like any other word, as do one in capitals (`MT.`) and a unit (`50 s. Odors`). `etc.` ends a
///   sentence before a capital letter;
/// - at the period of an enumeration that opens the sentence (`2. Methods`, `2.1. Data`, `iv. Results`);
/// - at an ellipsis, unless a capital letter follows;
/// - at a mark inside closing quotes or brackets before a lower-case letter (`"Why?" she asked`, `(Omaha, Neb.) grew`),
///   except a period inside quotes;
/// - before a comma, semicolon or colon.
///
/// ```
/// let text = "Dr. Smith measured 3.5 mm (Fig. 2). \"Why?\" asked J. Doe et al. in 1999. Nobody knew!";
/// assert_eq!(
///     epitome_sentences::sentences(text),
///     ["Dr. Smith measured 3.5 mm (Fig. 2).", "\"Why?\" asked J. Doe et al. in 1999.", "Nobody knew!"]
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
    let bracket = |letter| matches!(letter, ')' | ']' | '}');
    let closing = |letter| bracket(letter) || matches!(letter, '"' | '\'' | '\u{201D}' | '\u{2019}' | '\u{BB}');
    let unclosed = text.trim_end_matches(closing);
    let unmarked = unclosed.trim_end_matches(['.', '!', '?', '\u{2026}']);
    let (mark, closed) = (&unclosed[unmarked.len()..], &text[unclosed.len()..]);
    let continues = next.starts_with(char::is_lowercase);
    match mark {
        "" => false,
        _ if next.starts_with([',', ';', ':']) => false,
        "." if continues && closed.contains(bracket) => false,
        "." => !is_inside_sentence(unmarked, next),
        _ if is_ellipsis(mark) => is_capitalised(next),
        _ => closed.is_empty() || !continues,
    }
}

fn is_ellipsis(mark: &str) -> bool {
    mark.contains("...") || mark.contains('\u{2026}')
}

/// Whether a period after the last word of `text` marks an abbreviation or an enumeration.
fn is_inside_sentence(text: &str, next: &str) -> bool {
    let mut words = text.split_whitespace();
    let Some(word) = words.next_back() else { return false };
    if text.ends_with(char::is_whitespace) {
        // The period stands alone.
        return word == NUMBER_PLACEHOLDER && next.starts_with(NUMBER_PLACEHOLDER);
    }
    let before = words.next_back();
    let word = word.trim_start_matches(|letter: char| !letter.is_alphanumeric() && letter != '\u{B0}');
    match before {
        None if is_enumeration(word) => true,
        Some(number) if is_number(number) && is_unit(word, next) => false,
        _ => !starts_sentence(next, word) && is_abbreviation(word, before, next),
    }
}

fn is_abbreviation(word: &str, before: Option<&str>, next: &str) -> bool {
    // `J.-P` has nothing between the period and the hyphen.
    let mut parts = word.split(['.', '-', '\u{2013}']).filter(|part| !part.is_empty());
    let is_letter = |part: &str| part.chars().count() == 1 && part.chars().all(char::is_alphabetic);
    if !word.is_empty() && parts.all(is_letter) {
        return true;
    }
    let lower = word.to_lowercase();
    // What a period without white space after it separates may be another sentence.
    let last = lower.rsplit('.').next().unwrap_or_default();
    match last {
        "al" => before == Some("et"),
        "etc" => !is_capitalised(next),
        _ if ABBREVIATIONS.contains(&last) => !is_acronym(word, next),
        _ => BEFORE_NUMBERS.contains(&last) && is_number(next),
    }
}

/// Whether `word` is in capitals, and not because everything is.
fn is_acronym(word: &str, next: &str) -> bool {
    word.chars().all(char::is_uppercase) && next.contains(char::is_lowercase)
}

/// A number with or without periods inside, a letter or a small roman numeral.
fn is_enumeration(word: &str) -> bool {
    let only =
        |letters: &str| !word.is_empty() && word.chars().all(|letter| letters.contains(letter.to_ascii_lowercase()));
    only("0123456789.") || only("ivx") || word.chars().count() == 1
}

fn is_number(word: &str) -> bool {
    let has_digit = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_digit());
    word == NUMBER_PLACEHOLDER || has_digit(word.chars().next()) || has_digit(word.chars().next_back())
}

/// Whether `word`, after a number, is a unit at the end of a sentence. `10 E. coli` and `2 m. tall` have none.
fn is_unit(word: &str, next: &str) -> bool {
    let is_letter = word.chars().count() == 1 && !word.chars().all(|letter| letter.is_ascii_uppercase());
    UNITS.contains(&word) || (is_letter && is_capitalised(next))
}

/// Whether `next` begins a sentence although it follows an abbreviation: single letters are so often the names of things
/// (`vitamin c. the`) that case does not matter after them.
fn starts_sentence(next: &str, word: &str) -> bool {
    let next = next.trim_matches(|letter: char| !letter.is_alphanumeric());
    let counts = is_capitalised(next) || word.chars().count() == 1;
    counts && STARTERS.contains(&next.to_lowercase().as_str())
}

fn is_capitalised(word: &str) -> bool {
    word.trim_start_matches(['(', '[', '"', '\u{201C}', '\u{2018}']).starts_with(char::is_uppercase)
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
        check(
            "shown  <cit> . <dig> genes. r <dig> . <dig> was",
            &["shown  <cit> .", "<dig> genes.", "r <dig> . <dig> was"],
        );
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
    fn initials_and_units() {
        check("J.-P. Sartre met D. vulgaris. Then", &["J.-P. Sartre met D. vulgaris.", "Then"]);
        check(
            "It stood 50 s. Odors came at 4 \u{B0}C. Cells grew.",
            &["It stood 50 s.", "Odors came at 4 \u{B0}C.", "Cells grew."],
        );
        check("In 10 E. coli cells, 2 m. tall.", &["In 10 E. coli cells, 2 m. tall."]);
        check("It took 300 ms. Ms. Lee saw.", &["It took 300 ms.", "Ms. Lee saw."]);
        check(
            "He took vitamin C. The rest. vitamin c. this too.",
            &["He took vitamin C.", "The rest.", "vitamin c.", "this too."],
        );
        check(
            "kept at <dig> \u{B0}c. cells and <dig> e. coli.",
            &["kept at <dig> \u{B0}c.", "cells and <dig> e. coli."],
        );
        check(
            "ae. aegypti, an. gambiae and p. syringae pv. tomato.",
            &["ae. aegypti, an. gambiae and p. syringae pv. tomato."],
        );
    }

    #[test]
    fn abbreviations_at_the_end() {
        check("They live in the U.S. However, A. B. Lee left.", &["They live in the U.S.", "However, A. B. Lee left."]);
        check("As in Lee et al. We agree (Lee et al., 2001).", &["As in Lee et al.", "We agree (Lee et al., 2001)."]);
        check("Cats, dogs, etc. were seen. Cows, etc. Birds", &["Cats, dogs, etc. were seen.", "Cows, etc.", "Birds"]);
        check("Applied to MT. Later by MR. SMITH on Mt. Fuji.", &["Applied to MT.", "Later by MR. SMITH on Mt. Fuji."]);
        check("the results.fig. <dig> Shown (i.e. here).", &["the results.fig. <dig> Shown (i.e. here)."]);
        check(
            "ca. 5 mm from Fremont, CA. Then (cf. Fig. 2a). Next",
            &["ca. 5 mm from Fremont, CA.", "Then (cf. Fig. 2a).", "Next"],
        );
    }

    #[test]
    fn enumerations() {
        check("2.1. Data. 3. We saw 4. IV. Results", &["2.1. Data.", "3. We saw 4.", "IV. Results"]);
        check("b. The second. iii. third", &["b. The second.", "iii. third"]);
    }

    #[test]
    fn quotes_brackets_and_ellipses() {
        check("\"Why?\" she asked. \"No!\" Then", &["\"Why?\" she asked.", "\"No!\"", "Then"]);
        check("said \"stop.\" then left.", &["said \"stop.\"", "then left."]);
        check("In (Omaha, Neb.) it grew (a lot.) There.", &["In (Omaha, Neb.) it grew (a lot.)", "There."]);
        check("Well ... so be it\u{2026} and then ... Really?", &["Well ... so be it\u{2026} and then ...", "Really?"]);
        check("x1, ... , xn. a? b! c", &["x1, ... , xn.", "a?", "b!", "c"]);
        check("t = 1, 2, \u{2026} 10. \"Yes...\" (He left.)", &["t = 1, 2, \u{2026} 10.", "\"Yes...\"", "(He left.)"]);
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
