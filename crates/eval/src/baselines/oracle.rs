//! The best that sentences of the document can do, or nearly so: the greedy extractive oracle.

use std::collections::HashMap;

use rouge::{Options, Score, Vocabulary};

use super::in_document_order;
use epitome_sentences::sentences;

/// The sentences that a greedy search finds to match the reference best, in document order.
///
/// Starting from none, the sentence is added that raises the mean of ROUGE-1 F1 and ROUGE-2 F1 of the summary most (the
/// earliest of equal ones), until no sentence raises it (Nallapati, Zhai, Zhou, "SummaRuNNer", AAAI 2017). F1
/// limits the length. Matches are counted exactly as ROUGE does for the sentences in document order, so word pairs that
/// span two sentences count. With several references, each gets a search of its own and the best result is taken.
///
/// A step goes through those words of the reference that are in sentences which may still raise the score; there are as many
/// steps as sentences taken. So it is fast for summaries of long documents, not for references as long as the document.
pub(super) fn oracle<S: AsRef<str>>(document: &str, references: &[S], options: &Options) -> String {
    let sentences = sentences(document);
    let mut vocabulary = Vocabulary::new(options);
    let tokens: Vec<Vec<u32>> = sentences.iter().map(|sentence| vocabulary.tokens(sentence)).collect();
    let mut best = Selection::default();
    for reference in references {
        let reference = vocabulary.tokens(reference.as_ref());
        let found = Search::new(&reference, &tokens).run();
        if found.score > best.score {
            best = found;
        }
    }
    in_document_order(&sentences, best.taken)
}

#[derive(Default)]
struct Selection {
    /// The mean of ROUGE-1 F1 and ROUGE-2 F1.
    score: f64,
    /// Sentences by their places, ascending.
    taken: Vec<usize>,
}

struct Search<'a> {
    candidates: Vec<Candidate<'a>>,
    words: Matches,
    /// Numbers for the reference's word pairs.
    pair_numbers: HashMap<(u32, u32), u32>,
    pairs: Matches,
}

/// A sentence as the reference sees it.
struct Candidate<'a> {
    tokens: &'a [u32],
    /// Those of its words that are in the reference.
    words: Vec<u32>,
    /// Those of its word pairs that are in the reference, by their numbers.
    pairs: Vec<u32>,
    /// How many more words matched with it when it was last tried. Words taken since can only make them fewer.
    most_words: usize,
}

impl<'a> Search<'a> {
    fn new(reference: &[u32], sentences: &'a [Vec<u32>]) -> Self {
        let mut pair_numbers = HashMap::new();
        let pairs = reference.windows(2).map(|pair| {
            let next = pair_numbers.len() as u32;
            *pair_numbers.entry((pair[0], pair[1])).or_insert(next)
        });
        let pairs = Matches::new(pairs.collect());
        let words = Matches::new(reference.to_vec());
        let candidate = |tokens: &'a Vec<u32>| {
            let words: Vec<u32> = tokens.iter().copied().filter(|&word| words.has(word)).collect();
            let pairs = tokens.windows(2).filter_map(|pair| pair_numbers.get(&(pair[0], pair[1])).copied());
            Candidate { tokens, most_words: words.len(), words, pairs: pairs.collect() }
        };
        Self { candidates: sentences.iter().map(candidate).collect(), words, pair_numbers, pairs }
    }

    fn run(mut self) -> Selection {
        let mut best = Selection::default();
        let mut length = 0;
        loop {
            let mut next: Option<(f64, usize, usize)> = None;
            for index in 0..self.candidates.len() {
                let Err(place) = best.taken.binary_search(&index) else { continue };
                let to_beat = next.map_or(best.score, |(score, ..)| score);
                if self.at_most(index, length) <= to_beat {
                    continue;
                }
                let score = self.try_out(index, place, &best.taken, length);
                if score > to_beat {
                    next = Some((score, index, place));
                }
            }
            let Some((score, index, place)) = next else { return best };
            self.change(index, place, &best.taken, Matches::add, Matches::remove);
            length += self.candidates[index].tokens.len();
            best.taken.insert(place, index);
            best.score = score;
        }
    }

    /// A bound of what [`Self::try_out`] gives, found without going through words.
    fn at_most(&self, index: usize, length: usize) -> f64 {
        let candidate = &self.candidates[index];
        if candidate.words.is_empty() {
            return 0.0;
        }
        // Two pairs are those with its neighbours.
        self.score(length + candidate.tokens.len(), candidate.most_words, candidate.pairs.len() + 2)
    }

    /// The score with one more sentence, `index`, at `place` among those `taken`, which have `length` words.
    fn try_out(&mut self, index: usize, place: usize, taken: &[usize], length: usize) -> f64 {
        let before = self.words.matched;
        self.change(index, place, taken, Matches::add, Matches::remove);
        self.candidates[index].most_words = self.words.matched - before;
        let score = self.score(length + self.candidates[index].tokens.len(), 0, 0);
        self.change(index, place, taken, Matches::remove, Matches::add);
        score
    }

    /// The mean of both F1 of a summary with `length` words, if so many more of its words and pairs matched.
    fn score(&self, length: usize, more_words: usize, more_pairs: usize) -> f64 {
        (self.words.f1(length, more_words) + self.pairs.f1(length.saturating_sub(1), more_pairs)) / 2.0
    }

    /// Puts sentence `index` at `place` among those `taken`; with `add` and `remove` swapped, takes it out again.
    fn change(&mut self, index: usize, place: usize, taken: &[usize], add: Change, remove: Change) {
        let candidate = &self.candidates[index];
        candidate.words.iter().for_each(|&word| add(&mut self.words, word));
        candidate.pairs.iter().for_each(|&pair| add(&mut self.pairs, pair));
        let neighbour =
            |place: Option<usize>| place.and_then(|place| taken.get(place)).map(|&at| self.candidates[at].tokens);
        let last_before = neighbour(place.checked_sub(1)).and_then(<[u32]>::last);
        let first_after = neighbour(Some(place)).and_then(<[u32]>::first);
        let mut across = |left: Option<&u32>, right: Option<&u32>, change: Change| {
            if let (Some(&left), Some(&right)) = (left, right)
                && let Some(&pair) = self.pair_numbers.get(&(left, right))
            {
                change(&mut self.pairs, pair);
            }
        };
        across(last_before, candidate.tokens.first(), add);
        across(candidate.tokens.last(), first_after, add);
        across(last_before, first_after, remove);
    }
}

type Change = fn(&mut Matches, u32);

/// Clipped matches of n-grams, kept up to date as n-grams of the reference come and go.
struct Matches {
    /// How many n-grams the reference has.
    reference: usize,
    /// By n-gram: its count in the reference minus that in the summary.
    missing: Vec<i32>,
    matched: usize,
}

impl Matches {
    fn new(reference: Vec<u32>) -> Self {
        let kinds = reference.iter().max().map_or(0, |&highest| highest as usize + 1);
        let mut missing = vec![0; kinds];
        reference.iter().for_each(|&gram| missing[gram as usize] += 1);
        Self { reference: reference.len(), missing, matched: 0 }
    }

    /// Whether the reference has `gram`, as long as nothing was added.
    fn has(&self, gram: u32) -> bool {
        self.missing.get(gram as usize).is_some_and(|&count| count > 0)
    }

    fn add(&mut self, gram: u32) {
        let missing = &mut self.missing[gram as usize];
        self.matched += usize::from(*missing > 0);
        *missing -= 1;
    }

    fn remove(&mut self, gram: u32) {
        let missing = &mut self.missing[gram as usize];
        *missing += 1;
        self.matched -= usize::from(*missing > 0);
    }

    /// F1 of a summary with `length` n-grams, if `more` of them matched.
    fn f1(&self, length: usize, more: usize) -> f64 {
        Score::from_matches(self.matched + more, self.reference, length).f1
    }
}

#[cfg(test)]
mod tests {
    use rouge::{Metric, score_metrics};

    use super::*;

    const PLAIN: Options = Options { stemmer: false };

    fn score(reference: &str, summary: &str, options: &Options) -> f64 {
        let found = score_metrics(&[reference], summary, &[Metric::N(1), Metric::N(2)], options);
        (found[0].f1 + found[1].f1) / 2.0
    }

    /// The same search with a full ROUGE for every candidate.
    fn slow_search(document: &str, reference: &str, options: &Options) -> (f64, String) {
        let sentences = sentences(document);
        let mut best = (0.0, String::new());
        let mut taken = Vec::new();
        loop {
            let mut next = None;
            for index in (0..sentences.len()).filter(|index| !taken.contains(index)) {
                let summary = in_document_order(&sentences, [&taken[..], &[index]].concat());
                let score = score(reference, &summary, options);
                if score > best.0 {
                    best = (score, summary);
                    next = Some(index);
                }
            }
            match next {
                Some(index) => taken.push(index),
                None => return best,
            }
        }
    }

    /// Sentences of few different words, so that words repeat within and across them.
    fn text(sentences: usize, state: &mut u64) -> String {
        let mut below = |bound: u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 33) % bound
        };
        let mut text = String::new();
        for _ in 0..sentences {
            for _ in 0..below(7) {
                text += ["run", "running", "cats", "cat", "the", "dog", "é", "sat", "mat"][below(9) as usize];
                text.push(' ');
            }
            text += "end.\n";
        }
        text
    }

    #[test]
    fn equals_the_search_with_full_rouge() {
        let mut state = 1;
        for round in 0..200 {
            let document = text(12, &mut state);
            let references = [text(3, &mut state), text(1 + round % 5, &mut state)];
            let options = Options { stemmer: round % 2 == 0 };
            let searches = references.each_ref().map(|reference| slow_search(&document, reference, &options));
            let expected = if searches[1].0 > searches[0].0 { &searches[1].1 } else { &searches[0].1 };
            assert_eq!(&oracle(&document, &references, &options), expected, "round {round}");
        }
    }

    #[test]
    fn finds_the_reference_among_other_sentences() {
        let document = "Rain fell. The cat sat on the mat. Nobody came. The dog ran home. The cat ran.";
        let found = oracle(document, &["The cat sat on the mat and the dog ran home"], &PLAIN);
        assert_eq!(found, "The cat sat on the mat.\nThe dog ran home.");
    }

    #[test]
    fn stems_are_compared_when_told() {
        let document = "Dogs barked. A cat sat.";
        assert_eq!(oracle(document, &["dog barking"], &PLAIN), "");
        assert_eq!(oracle(document, &["dog barking"], &Options { stemmer: true }), "Dogs barked.");
    }

    #[test]
    fn nothing_in_common() {
        assert_eq!(oracle("A b. C d.", &["x y", ""], &PLAIN), "");
    }
}
