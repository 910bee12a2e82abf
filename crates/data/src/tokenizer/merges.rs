//! The learning of BPE merges from word counts (Sennrich, Haddow, Birch 2016, over bytes as in GPT-2).
//!
//! The most frequent pair of neighbouring tokens becomes a token; of equally frequent pairs, the one with the smaller ids.
//! Counts are kept up to date word by word, and a heap holds them with outdated entries that are corrected when they
//! surface.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

type Pair = (u32, u32);

/// Tokens by id and ids by token.
pub(super) struct Vocabulary {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    pub(super) fn new(tokens: impl IntoIterator<Item = String>) -> Self {
        let mut vocabulary = Self { tokens: Vec::new(), ids: HashMap::new() };
        for token in tokens {
            vocabulary.insert(token);
        }
        vocabulary
    }

    /// The id of a token, which is new unless the token is known.
    pub(super) fn insert(&mut self, token: String) -> u32 {
        if let Some(&id) = self.ids.get(&token) {
            return id;
        }
        let id = u32::try_from(self.tokens.len()).expect("a vocabulary is far smaller than 2^32");
        self.ids.insert(token.clone(), id);
        self.tokens.push(token);
        id
    }

    pub(super) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    fn token(&self, id: u32) -> &str {
        &self.tokens[id as usize]
    }
}

/// The printable characters that stand for the 256 bytes in byte-level vocabularies, in the order of their code points.
pub(super) fn byte_characters() -> impl Iterator<Item = char> {
    let mut characters = byte_table();
    characters.sort_unstable();
    characters.into_iter()
}

/// The character of each byte: itself where it is printable in Latin-1, else the next free one from U+0100 on.
pub(crate) fn byte_table() -> [char; 256] {
    let mut next = 0x100u32;
    std::array::from_fn(|byte| {
        let byte = u8::try_from(byte).expect("below 256");
        match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).expect("68 characters from U+0100 on")
            }
        }
    })
}

/// Learns merges until the vocabulary has `size` entries or no pair occurs `min_frequency` times.
///
/// Returns the grown vocabulary and the merges in order. Depends on nothing but its arguments.
pub(super) fn learn_merges(
    vocabulary: Vocabulary,
    words: &[(String, u64)],
    size: usize,
    min_frequency: u64,
) -> (Vocabulary, Vec<(String, String)>) {
    let mut learner = Learner::new(vocabulary, words);
    let mut merges = Vec::new();
    while learner.vocabulary.tokens().len() < size {
        let Some(pair) = learner.most_frequent(min_frequency.max(1)) else { break };
        let (left, right) = (learner.vocabulary.token(pair.0).to_owned(), learner.vocabulary.token(pair.1).to_owned());
        let merged = learner.vocabulary.insert(format!("{left}{right}"));
        learner.merge(pair, merged);
        merges.push((left, right));
    }
    (learner.vocabulary, merges)
}

struct Learner {
    vocabulary: Vocabulary,
    words: Vec<Vec<u32>>,
    frequencies: Vec<u64>,
    counts: HashMap<Pair, u64>,
    /// Words in which a pair occurs or has occurred, perhaps more than once.
    places: HashMap<Pair, Vec<u32>>,
    /// Most frequent first, then smallest pair; a count may be older than the one in `counts`.
    heap: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Learner {
    fn new(vocabulary: Vocabulary, words: &[(String, u64)]) -> Self {
        let table = byte_table();
        let mut buffer = [0; 4];
        let ids = table.map(|character| vocabulary.ids[&*character.encode_utf8(&mut buffer)]);
        let mut learner = Self {
            vocabulary,
            words: words.iter().map(|(word, _)| word.bytes().map(|byte| ids[usize::from(byte)]).collect()).collect(),
            frequencies: words.iter().map(|&(_, frequency)| frequency).collect(),
            counts: HashMap::new(),
            places: HashMap::new(),
            heap: BinaryHeap::new(),
        };
        for index in 0..learner.words.len() {
            learner.add_pairs(index);
        }
        learner.heap = learner.counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        learner
    }

    fn most_frequent(&mut self, min_frequency: u64) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.heap.pop() {
            let current = self.counts.get(&pair).copied().unwrap_or(0);
            if current == count {
                return (count >= min_frequency).then_some(pair);
            }
            // Counts that grew were pushed again when they did; one that shrank goes back with its true value.
            if current < count && current > 0 {
                self.heap.push((current, Reverse(pair)));
            }
        }
        None
    }

    /// Replaces a pair by a token in every word that holds it.
    fn merge(&mut self, pair: Pair, merged: u32) {
        let mut places = self.places.remove(&pair).unwrap_or_default();
        places.sort_unstable();
        places.dedup();
        let mut grown = Vec::new();
        for index in places {
            let index = index as usize;
            if !self.words[index].windows(2).any(|window| (window[0], window[1]) == pair) {
                continue;
            }
            self.remove_pairs(index);
            replace_pair(&mut self.words[index], pair, merged);
            self.add_pairs(index);
            let touching = self.words[index].windows(2).map(|window| (window[0], window[1]));
            grown.extend(touching.filter(|&(left, right)| left == merged || right == merged));
        }
        grown.sort_unstable();
        grown.dedup();
        for pair in grown {
            self.heap.push((self.counts[&pair], Reverse(pair)));
        }
    }

    fn add_pairs(&mut self, index: usize) {
        let place = u32::try_from(index).expect("fewer than 2^32 distinct words");
        for window in self.words[index].windows(2) {
            let pair = (window[0], window[1]);
            *self.counts.entry(pair).or_default() += self.frequencies[index];
            let places = self.places.entry(pair).or_default();
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
    }

    fn remove_pairs(&mut self, index: usize) {
        for window in self.words[index].windows(2) {
            let pair = (window[0], window[1]);
            if let Some(count) = self.counts.get_mut(&pair) {
                *count -= self.frequencies[index];
                if *count == 0 {
                    self.counts.remove(&pair);
                }
            }
        }
    }
}

/// Replaces every occurrence of a pair, from left to right.
fn replace_pair(word: &mut Vec<u32>, pair: Pair, merged: u32) {
    let (mut read, mut write) = (0, 0);
    while read < word.len() {
        let found = word[read] == pair.0 && word.get(read + 1) == Some(&pair.1);
        word[write] = if found { merged } else { word[read] };
        read += if found { 2 } else { 1 };
        write += 1;
    }
    word.truncate(write);
}
