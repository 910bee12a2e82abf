//! A token sequence turned into bit masks: for each token, the columns where it stands.

/// A mask is stored whole for tokens with at least one occurrence in this many mask words, else as a list of positions.
///
/// So at most `64 * SPARSENESS` masks are whole, and memory stays linear in the length of the sequence.
const SPARSENESS: usize = 8;

/// Where a token occurs; all zero for a token that does not.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    count: u32,
    filled: u32,
    /// Into `dense` or `sparse`, according to the count.
    start: usize,
}

/// The columns of one token sequence; reusable for many sequences of one vocabulary.
#[derive(Debug)]
pub(crate) struct Columns {
    tokens: Vec<u32>,
    /// `u64` words in a mask.
    width: usize,
    /// By token.
    places: Vec<Place>,
    /// Whole masks, `width` words each.
    dense: Vec<u64>,
    /// Positions of the rarer tokens.
    sparse: Vec<u32>,
    /// The mask of the sparse token asked for last, and its place.
    row: Vec<u64>,
    in_row: Place,
}

impl Columns {
    /// No columns yet, for tokens below `vocabulary`.
    pub(crate) fn new(vocabulary: usize) -> Self {
        Self {
            tokens: Vec::new(),
            width: 0,
            places: vec![Place::default(); vocabulary],
            dense: Vec::new(),
            sparse: Vec::new(),
            row: Vec::new(),
            in_row: Place::default(),
        }
    }

    /// Makes `tokens` the columns.
    pub(crate) fn load(&mut self, tokens: &[u32]) {
        self.clear();
        self.tokens.extend_from_slice(tokens);
        self.width = tokens.len().div_ceil(64);
        self.row.resize(self.width, 0);
        for &token in tokens {
            self.places[token as usize].count += 1;
        }
        for (position, &token) in tokens.iter().enumerate() {
            self.add(position, token);
        }
    }

    fn clear(&mut self) {
        for &token in &self.tokens {
            self.places[token as usize] = Place::default();
        }
        self.tokens.clear();
        self.dense.clear();
        self.sparse.clear();
        self.row.clear();
        self.in_row = Place::default();
    }

    fn add(&mut self, position: usize, token: u32) {
        let place = &mut self.places[token as usize];
        let is_first = place.filled == 0;
        if is_dense(*place, self.width) {
            if is_first {
                place.start = self.dense.len();
                self.dense.resize(place.start + self.width, 0);
            }
            self.dense[place.start + position / 64] |= 1 << (position % 64);
        } else {
            if is_first {
                place.start = self.sparse.len();
                self.sparse.resize(place.start + place.count as usize, 0);
            }
            self.sparse[place.start + place.filled as usize] = position as u32;
        }
        place.filled += 1;
    }

    /// The number of columns.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// How many `u64` words a mask has.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The columns where `token` stands, lowest bit first; `None` where it does not occur.
    #[inline]
    pub(crate) fn mask(&mut self, token: u32) -> Option<&[u64]> {
        let place = self.places[token as usize];
        if place.count == 0 {
            return None;
        }
        if is_dense(place, self.width) {
            return Some(&self.dense[place.start..place.start + self.width]);
        }
        for &position in &self.sparse[range(self.in_row)] {
            self.row[position as usize / 64] = 0;
        }
        for &position in &self.sparse[range(place)] {
            self.row[position as usize / 64] |= 1 << (position % 64);
        }
        self.in_row = place;
        Some(&self.row)
    }
}

fn is_dense(place: Place, width: usize) -> bool {
    place.count as usize * SPARSENESS >= width
}

fn range(place: Place) -> std::ops::Range<usize> {
    place.start..place.start + place.count as usize
}
