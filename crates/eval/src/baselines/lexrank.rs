//! Continuous LexRank (Erkan and Radev, "LexRank: graph-based lexical centrality as salience in text summarization",
//! JAIR 22, 2004).

use rouge::{Options, Vocabulary};

use super::take_words;
use epitome_sentences::sentences;

/// The share of its rank that a sentence hands on to similar ones; the rest goes to all alike. The paper's d is 1 - this.
const DAMPING: f64 = 0.85;
/// The iteration ends when the ranks, which sum to 1, together change by less.
const TOLERANCE: f64 = 1e-9;
/// Of two sentences with a greater cosine only the one with the higher rank is taken.
const NEAR_DUPLICATE: f64 = 0.7;

/// The sentences of `document` with the highest ranks that together have at least `words` words, in document order.
///
/// Words are compared as ROUGE does, unstemmed. Their inverse document frequency is that among the sentences of the
/// document, `ln(sentences / sentences with the word)`, since there is no collection to take it from. Like the reranker of
/// the MEAD system, in which the paper's authors used LexRank, a sentence too similar to one already taken (cosine above
/// 0.7) is left out, so that a repetitive document may give fewer words than asked for. Of equal ranks the earlier sentence
/// comes first. Time and memory are linear in the length of the document.
pub(super) fn lexrank(document: &str, words: usize) -> String {
    let sentences = sentences(document);
    let vectors = Vectors::new(&sentences);
    let ranks = vectors.ranks();
    let mut order: Vec<usize> = (0..sentences.len()).collect();
    order.sort_by(|&left, &right| ranks[right].total_cmp(&ranks[left]));
    let mut taken: Vec<usize> = Vec::new();
    let different = order.into_iter().filter(|&index| {
        let is_new = taken.iter().all(|&other| vectors.cosine(index, other) <= NEAR_DUPLICATE);
        if is_new {
            taken.push(index);
        }
        is_new
    });
    take_words(&sentences, different, words)
}

/// TF-IDF vectors of length 1, one a sentence, without their zeros. A sentence without telling words has a vector of zeros.
struct Vectors {
    /// Pairs of word and weight, in the order of words.
    rows: Vec<Vec<(u32, f64)>>,
    words: usize,
}

impl Vectors {
    fn new(sentences: &[&str]) -> Self {
        let mut vocabulary = Vocabulary::new(&Options::default());
        let counts: Vec<_> = sentences.iter().map(|sentence| counts(vocabulary.tokens(sentence))).collect();
        let mut containing = vec![0usize; vocabulary.len()];
        for &(word, _) in counts.iter().flatten() {
            containing[word as usize] += 1;
        }
        let idf = |word: u32| (sentences.len() as f64 / containing[word as usize] as f64).ln();
        let row = |counts: Vec<(u32, f64)>| {
            let weights = counts.into_iter().map(|(word, count)| (word, count * idf(word)));
            let mut row: Vec<_> = weights.filter(|&(_, weight)| weight > 0.0).collect();
            let norm = row.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
            row.iter_mut().for_each(|(_, weight)| *weight /= norm);
            row
        };
        Self { rows: counts.into_iter().map(row).collect(), words: vocabulary.len() }
    }

    /// The stationary distribution of `p(u) = (1 - damping) / N + damping sum_v cos(u, v) p(v) / sum_z cos(z, v)`.
    ///
    /// A sentence similar to none, itself included, hands its rank on to all alike.
    fn ranks(&self) -> Vec<f64> {
        let count = self.rows.len() as f64;
        let degrees = self.times_cosines(&vec![1.0; self.rows.len()]);
        let mut ranks = vec![1.0 / count; self.rows.len()];
        let mut change = f64::INFINITY;
        // Each step shrinks the change by the damping, so this ends after 130 steps or so.
        while change > TOLERANCE {
            let shared = ranks.iter().zip(&degrees);
            let shared: Vec<f64> =
                shared.map(|(rank, degree)| if *degree > 0.0 { rank / degree } else { 0.0 }).collect();
            let mut next = self.times_cosines(&shared);
            next.iter_mut().for_each(|rank| *rank *= DAMPING);
            let rest = (1.0 - next.iter().sum::<f64>()) / count;
            next.iter_mut().for_each(|rank| *rank += rest);
            change = next.iter().zip(&ranks).map(|(next, rank)| (next - rank).abs()).sum();
            ranks = next;
        }
        ranks
    }

    /// The matrix of all cosines times `values`, by way of the words: the cosines are `X X^T`, so that the matrix, of which
    /// common words leave hardly an element zero, need not be made.
    fn times_cosines(&self, values: &[f64]) -> Vec<f64> {
        let mut by_word = vec![0.0; self.words];
        for (row, value) in self.rows.iter().zip(values) {
            for &(word, weight) in row {
                by_word[word as usize] += weight * value;
            }
        }
        let product = |row: &Vec<(u32, f64)>| row.iter().map(|&(word, weight)| weight * by_word[word as usize]).sum();
        self.rows.iter().map(product).collect()
    }

    fn cosine(&self, left: usize, right: usize) -> f64 {
        let right = &self.rows[right];
        let products = self.rows[left].iter().filter_map(|&(word, weight)| {
            let at = right.binary_search_by_key(&word, |&(other, _)| other).ok()?;
            Some(weight * right[at].1)
        });
        products.sum()
    }
}

/// Each different word with its count, in the order of words.
fn counts(mut words: Vec<u32>) -> Vec<(u32, f64)> {
    words.sort_unstable();
    words.chunk_by(|left, right| left == right).map(|same| (same[0], same.len() as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: [&str; 6] = [
        "The cat sat on the mat with the dog",
        "A dog and a cat sat together",
        "Rain fell on the town",
        "...",
        "The town is on a hill and the cat is in the town",
        "Nothing else",
    ];

    /// The ranks by the dense matrix of the paper's formula, 2000 steps.
    fn dense_ranks(vectors: &Vectors) -> Vec<f64> {
        let count = vectors.rows.len();
        let cosine = |u, v| vectors.cosine(u, v);
        let degree = |v| (0..count).map(|z| cosine(z, v)).sum::<f64>();
        let step = |u, v| if degree(v) > 0.0 { cosine(u, v) / degree(v) } else { 1.0 / count as f64 };
        let mut ranks = vec![1.0 / count as f64; count];
        for _ in 0..2000 {
            let next =
                (0..count).map(|u| 0.15 / count as f64 + 0.85 * (0..count).map(|v| step(u, v) * ranks[v]).sum::<f64>());
            ranks = next.collect();
        }
        ranks
    }

    #[test]
    fn ranks_are_those_of_the_dense_matrix() {
        let vectors = Vectors::new(&TEXT);
        let (found, expected) = (vectors.ranks(), dense_ranks(&vectors));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-8, "{found} for {expected}");
        }
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn weights_by_hand() {
        // Three sentences: b is in two of them, a and c in one; the b of the last is there twice.
        let vectors = Vectors::new(&["a", "b", "c b b"]);
        let (rare, common) = (3f64.ln(), 1.5f64.ln());
        let norm = (rare * rare + 4.0 * common * common).sqrt();
        assert_eq!(vectors.rows[0], [(0, 1.0)]);
        assert_eq!(vectors.rows[2], [(1, 2.0 * common / norm), (2, rare / norm)]);
        assert!((vectors.cosine(1, 2) - 2.0 * common / norm).abs() < 1e-15);
        assert_eq!(vectors.cosine(0, 2), 0.0);
    }

    #[test]
    fn central_sentences_in_document_order() {
        let document =
            "Some other words open the page.\nCats chase the mice.\nMice fear cats at night.\nCats and mice live here.";
        assert_eq!(lexrank(document, 9), "Cats chase the mice.\nMice fear cats at night.");
        let all = lexrank(document, 100);
        assert_eq!(all, document);
    }

    #[test]
    fn near_duplicates_are_taken_once() {
        let document = "Cats chase mice.\nCats chase mice!\nDogs bark.\nRain fell.";
        let summary = lexrank(document, 100);
        assert_eq!(summary, "Cats chase mice.\nDogs bark.\nRain fell.");
    }

    #[test]
    fn sentences_that_say_nothing() {
        assert_eq!(lexrank("Alone.", 5), "Alone.");
        assert_eq!(lexrank("?\n!\n...", 2), "?\n!");
        assert_eq!(lexrank("", 5), "");
    }
}
