//! The Porter stemmer with NLTK's extensions (its default mode, `NLTK_EXTENSIONS`).
//!
//! M. Porter, "An algorithm for suffix stripping", Program 14(3), 1980. NLTK departs from the paper in these points:
//! a short table of irregular forms; words of one or two letters are left alone; four-letter words in `-ies` and `-ied`
//! keep their `e`, longer ones in `-ied` become `-i`; `-y` becomes `-i` after any consonant that is not the first letter;
//! a two-letter stem vowel + consonant counts as ending in "cvc"; in step 2 `-bli` replaces `-abli`, `-alli` is tried
//! first and its result goes through step 2 again, and `-fulli` and `-logi` are added.
//!
//! Words are lower-case ASCII letters and digits; a digit counts as a consonant.

const IRREGULAR: [(&[u8], &str); 16] = [
    (b"sky", "sky"),
    (b"skies", "sky"),
    (b"dying", "die"),
    (b"lying", "lie"),
    (b"tying", "tie"),
    (b"news", "news"),
    (b"innings", "inning"),
    (b"inning", "inning"),
    (b"outings", "outing"),
    (b"outing", "outing"),
    (b"cannings", "canning"),
    (b"canning", "canning"),
    (b"howe", "howe"),
    (b"proceed", "proceed"),
    (b"exceed", "exceed"),
    (b"succeed", "succeed"),
];

/// Suffix and replacement, applied when the measure of what precedes the suffix is positive.
const STEP2: [(&str, &str); 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP3: [(&str, &str); 7] =
    [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

/// Suffixes removed when the measure of what precedes them exceeds 1.
const STEP4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// Replaces `word` by its stem.
pub(crate) fn stem(word: &mut Vec<u8>) {
    if let Some(stem) = irregular(word) {
        word.clear();
        word.extend_from_slice(stem.as_bytes());
        return;
    }
    if word.len() <= 2 {
        return;
    }
    plurals(word);
    past_and_gerund(word);
    final_y(word);
    step2(word);
    if let Some((stem, replacement)) = first_suffix(word, &STEP3)
        && measure(&word[..stem]) > 0
    {
        replace_from(word, stem, replacement);
    }
    step4(word);
    final_e(word);
    if word.ends_with(b"ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
}

fn irregular(word: &[u8]) -> Option<&'static str> {
    let found = IRREGULAR.iter().find(|(form, _)| *form == word);
    found.map(|(_, stem)| *stem)
}

/// Step 1a.
fn plurals(word: &mut Vec<u8>) {
    let removed = if word.ends_with(b"ies") {
        if word.len() == 4 { 1 } else { 2 }
    } else if word.ends_with(b"sses") {
        2
    } else {
        usize::from(word.ends_with(b"s") && !word.ends_with(b"ss"))
    };
    word.truncate(word.len() - removed);
}

/// Step 1b.
fn past_and_gerund(word: &mut Vec<u8>) {
    let len = word.len();
    if word.ends_with(b"ied") {
        word.truncate(if len == 4 { len - 1 } else { len - 2 });
    } else if word.ends_with(b"eed") {
        if measure(&word[..len - 3]) > 0 {
            word.pop();
        }
    } else if word.ends_with(b"ed") && contains_vowel(&word[..len - 2]) {
        word.truncate(len - 2);
        restore_ending(word);
    } else if word.ends_with(b"ing") && contains_vowel(&word[..len - 3]) {
        word.truncate(len - 3);
        restore_ending(word);
    }
}

/// What step 1b does to the stem that is left when `-ed` or `-ing` is gone.
fn restore_ending(word: &mut Vec<u8>) {
    if [b"at", b"bl", b"iz"].iter().any(|end| word.ends_with(*end)) {
        word.push(b'e');
    } else if ends_in_double_consonant(word) {
        if !matches!(word.last(), Some(b'l' | b's' | b'z')) {
            word.pop();
        }
    } else if measure(word) == 1 && ends_in_cvc(word) {
        word.push(b'e');
    }
}

/// Step 1c.
fn final_y(word: &mut [u8]) {
    if let Some((last, stem)) = word.split_last_mut()
        && *last == b'y'
        && stem.len() > 1
        && is_consonant(stem, stem.len() - 1)
    {
        *last = b'i';
    }
}

fn step2(word: &mut Vec<u8>) {
    while word.ends_with(b"alli") && measure(&word[..word.len() - 4]) > 0 {
        word.truncate(word.len() - 2);
    }
    if let Some((stem, replacement)) = first_suffix(word, &STEP2) {
        if measure(&word[..stem]) > 0 {
            replace_from(word, stem, replacement);
        }
    } else if word.ends_with(b"logi") && measure(&word[..word.len() - 3]) > 0 {
        // The l counts as part of the stem, so that "geologi" loses its i as "archaeologi" does.
        word.pop();
    }
}

fn step4(word: &mut Vec<u8>) {
    let suffix = STEP4.iter().find(|end| word.ends_with(end.as_bytes()));
    let Some(suffix) = suffix else { return };
    let stem = &word[..word.len() - suffix.len()];
    let removable = *suffix != "ion" || matches!(stem.last(), Some(b's' | b't'));
    if removable && measure(stem) > 1 {
        word.truncate(word.len() - suffix.len());
    }
}

/// Step 5a.
fn final_e(word: &mut Vec<u8>) {
    let Some((b'e', stem)) = word.split_last() else {
        return;
    };
    let measure = measure(stem);
    if measure > 1 || (measure == 1 && !ends_in_cvc(stem)) {
        word.pop();
    }
}

/// Where the stem ends and what replaces the suffix, for the first rule whose suffix the word has.
fn first_suffix(word: &[u8], rules: &[(&str, &'static str)]) -> Option<(usize, &'static str)> {
    let rule = rules.iter().find(|(end, _)| word.ends_with(end.as_bytes()));
    rule.map(|(end, replacement)| (word.len() - end.len(), *replacement))
}

fn replace_from(word: &mut Vec<u8>, stem: usize, replacement: &str) {
    word.truncate(stem);
    word.extend_from_slice(replacement.as_bytes());
}

/// For each letter, whether it is a consonant: not a, e, i, o, u, nor a y that follows a consonant.
fn consonants(word: &[u8]) -> impl Iterator<Item = bool> {
    word.iter().scan(false, |previous, letter| {
        *previous = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !*previous,
            _ => true,
        };
        Some(*previous)
    })
}

fn is_consonant(word: &[u8], index: usize) -> bool {
    consonants(&word[..=index]).last() == Some(true)
}

/// Porter's m: how many times a consonant follows a vowel.
fn measure(stem: &[u8]) -> usize {
    let mut after_vowel = false;
    let mut count = 0;
    for consonant in consonants(stem) {
        count += usize::from(consonant && after_vowel);
        after_vowel = !consonant;
    }
    count
}

fn contains_vowel(stem: &[u8]) -> bool {
    consonants(stem).any(|consonant| !consonant)
}

fn ends_in_double_consonant(word: &[u8]) -> bool {
    let len = word.len();
    len >= 2 && word[len - 1] == word[len - 2] && is_consonant(word, len - 1)
}

/// Consonant, vowel, consonant other than w, x, y; or a whole word of vowel and consonant.
fn ends_in_cvc(word: &[u8]) -> bool {
    let len = word.len();
    if len == 2 {
        return !is_consonant(word, 0) && is_consonant(word, 1);
    }
    len >= 3
        && is_consonant(word, len - 3)
        && !is_consonant(word, len - 2)
        && is_consonant(word, len - 1)
        && !matches!(word[len - 1], b'w' | b'x' | b'y')
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn stems_equal_nltk() {
        let rows = include_str!("../tests/fixtures/stems.tsv").lines();
        let mut checked = 0;
        for row in rows.filter(|row| !row.starts_with('#')) {
            let (word, expected) = row.split_once('\t').expect("two columns");
            let mut found = word.as_bytes().to_vec();
            stem(&mut found);
            assert_eq!(String::from_utf8_lossy(&found), expected, "stem of {word}");
            checked += 1;
        }
        assert!(checked > 1000, "only {checked} words in the fixture");
    }
}
