//! Words that a sentence shares with passages.

use std::collections::{HashMap, HashSet};

use epitome_data::Passage;

/// Which passages have a word.
pub(crate) struct Words {
    passages: HashMap<String, Vec<usize>>,
    count: usize,
}

impl Words {
    pub(crate) fn new(passages: &[Passage]) -> Self {
        let mut words: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, passage) in passages.iter().enumerate() {
            for word in words_of(&passage.text) {
                words.entry(word).or_default().push(index);
            }
        }
        Self { passages: words, count: passages.len() }
    }

    /// For each passage the share of the sentence's different words that it has, each weighted with
    /// `ln(1 + (n + 1) / (m + 1))` where m of the n passages have it, so that words which are everywhere say little: a smooth
    /// form of the inverse document frequency (Spärck Jones 1972).
    pub(crate) fn overlaps(&self, sentence: &str) -> Vec<f32> {
        let mut sums = vec![0.0f64; self.count];
        let mut total = 0.0;
        // In the order of the alphabet, so that sums are the same in every run.
        let mut words: Vec<String> = words_of(sentence).into_iter().collect();
        words.sort_unstable();
        for word in words {
            let found = self.passages.get(&word).map_or(&[][..], Vec::as_slice);
            let weight = (1.0 + (self.count + 1) as f64 / (found.len() + 1) as f64).ln();
            total += weight;
            found.iter().for_each(|&passage| sums[passage] += weight);
        }
        sums.into_iter().map(|sum| if total > 0.0 { (sum / total) as f32 } else { 0.0 }).collect()
    }
}

/// The different words of a text: runs of letters and digits in lower case.
fn words_of(text: &str) -> HashSet<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::Words;
    use epitome_data::Passage;

    #[test]
    fn rare_words_count_more_and_missing_ones_most() {
        let passage = |text: &str| Passage { document: None, characters: 0..0, text: text.into(), tokens: 0..0 };
        let words = Words::new(&[passage("The cat, the cat."), passage("the DOG"), passage("the Élan")]);
        let found = words.overlaps("The dog: a dog!");
        // ln(1 + 4/4) for `the`, ln(1 + 4/2) for `dog`, ln(1 + 4/1) for `a`.
        let [the, dog, a] = [2.0f64, 3.0, 5.0].map(f64::ln);
        let wanted = [the, the + dog, the].map(|sum| (sum / (the + dog + a)) as f32);
        assert_eq!(found, wanted);
        assert_eq!(words.overlaps("élan"), [0.0, 0.0, 1.0]);
        assert_eq!(words.overlaps(" ..."), [0.0; 3]);
    }
}
