//! Which sentences of a document match a reference best: the greedy search behind the extractive oracle.

use std::collections::HashMap;

use crate::Score;

/// Sentences that were chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// The mean of ROUGE-1 F1 and ROUGE-2 F1 of the sentences, one after the other.
    pub score: f64,
    /// The chosen sentences by their places, ascending.
    pub taken: Vec<usize>,
    /// The same in the order in which they were chosen: the best one first.
    pub by_gain: Vec<usize>,
}

/// The sentences, of at most `max_length` words together, that a greedy search finds to match `reference` best. Words are
/// numbers, such as those of a [`Vocabulary`](crate::Vocabulary).
///
/// Starting from none, the sentence is added that raises the mean of ROUGE-1 F1 and ROUGE-2 F1 of the summary most (the
/// earliest of equal ones), until no sentence raises it (Nallapati, Zhai, Zhou, "SummaRuNNer", AAAI 2017). F1
/// limits the length too. Matches are counted exactly as ROUGE does for the sentences in document order, so word pairs that
/// span two sentences count.
///
/// A step goes through those words of the reference that are in sentences which may still raise the score; there are as many
/// steps as sentences taken. So it is fast for summaries of long documents, not for references as long as the document.
///
/// ```
/// let sentences = [vec![1, 2, 3], vec![7, 7], vec![4, 5]];
/// assert_eq!(rouge::select(&[1, 2, 3, 4, 5], &sentences, usize::MAX).taken, [0, 2]);
/// assert_eq!(rouge::select(&[1, 2, 3, 4, 5], &sentences, 4).taken, [0]);
/// assert_eq!(rouge::select(&[4, 5, 1, 2, 4, 5], &sentences, usize::MAX).by_gain, [2, 0]);
/// ```
pub fn select<S: AsRef<[u32]>>(reference: &[u32], sentences: &[S], max_length: usize) -> Selection {
    Search::new(reference, sentences).run(max_length)
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
    fn new<S: AsRef<[u32]>>(reference: &[u32], sentences: &'a [S]) -> Self {
        let mut pair_numbers = HashMap::new();
        let pairs = reference.windows(2).map(|pair| {
            let next = pair_numbers.len() as u32;
            *pair_numbers.entry((pair[0], pair[1])).or_insert(next)
        });
        let pairs = Matches::new(pairs.collect());
        let words = Matches::new(reference.to_vec());
        let candidate = |tokens: &'a [u32]| {
            let words: Vec<u32> = tokens.iter().copied().filter(|&word| words.has(word)).collect();
            let pairs = tokens.windows(2).filter_map(|pair| pair_numbers.get(&(pair[0], pair[1])).copied());
            Candidate { tokens, most_words: words.len(), words, pairs: pairs.collect() }
        };
        let candidates = sentences.iter().map(|sentence| candidate(sentence.as_ref())).collect();
        Self { candidates, words, pair_numbers, pairs }
    }

    fn run(mut self, max_length: usize) -> Selection {
        let mut best = Selection::default();
        let mut length = 0;
        loop {
            let mut next: Option<(f64, usize, usize)> = None;
            for index in 0..self.candidates.len() {
                let Err(place) = best.taken.binary_search(&index) else { continue };
                let to_beat = next.map_or(best.score, |(score, ..)| score);
                let fits = self.candidates[index].tokens.len() <= max_length - length;
                if !fits || self.at_most(index, length) <= to_beat {
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
            best.by_gain.push(index);
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
