//! Longest common subsequences, 64 table cells at a time.
//!
//! The table `t[i][j]` = length of the LCS of the first i row tokens and the first j column tokens grows by 0 or 1 from
//! cell to cell, so a row is kept as one bit per column: 0 where `t[i][j] = t[i][j-1] + 1`, else 1. A row follows from
//! the one above by an addition with carry (M. Crochemore et al., "A fast and practical bit-vector algorithm for the
//! longest common subsequence problem", Information Processing Letters 80(6), 2001).
//!
//! The subsequence itself is read backwards from the last cell by the rule of `rouge_score`: a match is taken; else
//! left if `t[i][j-1] > t[i-1][j]`; else up. Which subsequence is found matters, because ROUGE-Lsum unites several. At a
//! cell that is no match, `t[i][j]` is the larger of those two, so the rule says left exactly if `t[i][j] > t[i-1][j]`:
//! one *rise* bit per cell is all it needs. Rise bits of the whole table would still be quadratic in memory, so one row
//! in about sqrt(rows) is kept and the rows between are computed again, block by block, on the way back.

use crate::columns::Columns;

/// Tables with no more rows than this are walked in one block.
const MIN_BLOCK_ROWS: usize = 256;

/// Longest common subsequences with one column sequence after another; keeps its buffers between calls.
#[derive(Debug)]
pub(crate) struct Aligner {
    columns: Columns,
    /// The current row, one bit a column.
    state: Vec<u64>,
    /// The rows above each block.
    starts: Vec<u64>,
    /// The rise bits of one block.
    rises: Vec<u64>,
}

impl Aligner {
    /// For tokens below `vocabulary`.
    pub(crate) fn new(vocabulary: usize) -> Self {
        Self { columns: Columns::new(vocabulary), state: Vec::new(), starts: Vec::new(), rises: Vec::new() }
    }

    /// Makes `columns` the sequence that the following calls compare with.
    pub(crate) fn load(&mut self, columns: &[u32]) {
        self.columns.load(columns);
    }

    /// Length of the longest common subsequence of `rows` and the columns.
    ///
    /// Time rows x columns / 64, memory linear in the columns.
    pub(crate) fn length(&mut self, rows: &[u32]) -> usize {
        self.restart();
        advance_all(&mut self.state, rows, &mut self.columns);
        let zeros = self.state.iter().map(|word| word.count_zeros() as usize);
        zeros.sum()
    }

    /// Sets `marked[i]` for each of the `rows` that is on the longest common subsequence with the columns which the
    /// back-trace finds; leaves the others as they are.
    ///
    /// Time about twice that of [`Self::length`]; memory 2 x columns x sqrt(rows) bits beyond the columns' own.
    pub(crate) fn mark(&mut self, rows: &[u32], marked: &mut [bool]) {
        let width = self.columns.width();
        if width == 0 {
            return;
        }
        let block = rows.len().isqrt().max(MIN_BLOCK_ROWS);
        self.keep_block_starts(rows, block);
        let mut column = self.columns.len();
        let blocks = rows.chunks(block).zip(marked.chunks_mut(block));
        for ((rows, marked), start) in blocks.zip(self.starts.chunks(width)).rev() {
            // What is right of the current column can no longer matter.
            self.state.clear();
            self.state.extend_from_slice(&start[..column.div_ceil(64)]);
            fill_rises(&mut self.rises, &mut self.state, rows, &mut self.columns);
            column = trace_back(rows, &mut self.columns, &self.rises, column, marked);
            if column == 0 {
                break;
            }
        }
    }

    /// Puts the row above the first row back.
    fn restart(&mut self) {
        self.state.clear();
        self.state.resize(self.columns.width(), !0);
    }

    fn keep_block_starts(&mut self, rows: &[u32], block: usize) {
        self.restart();
        self.starts.clear();
        for (index, block_rows) in rows.chunks(block).enumerate() {
            self.starts.extend_from_slice(&self.state);
            let is_last = (index + 1) * block >= rows.len();
            if !is_last {
                advance_all(&mut self.state, block_rows, &mut self.columns);
            }
        }
    }
}

fn advance_all(state: &mut [u64], rows: &[u32], columns: &mut Columns) {
    for &token in rows {
        if let Some(mask) = columns.mask(token) {
            advance(state, mask);
        }
    }
}

/// One row down: `state` of a row from that of the row above and the mask of the row's token.
#[inline]
fn advance(state: &mut [u64], mask: &[u64]) {
    let mut carry = false;
    for (state, mask) in state.iter_mut().zip(mask) {
        let (sum, next_carry) = state.carrying_add(*state & mask, carry);
        *state = sum | (*state & !mask);
        carry = next_carry;
    }
}

/// Sets the rise bits of each row, `state.len()` words a row: 1 where `t[i][j] > t[i-1][j]`. `state` is the row above.
///
/// A row whose token is in no column has no rises; its words are meaningless.
fn fill_rises(rises: &mut Vec<u64>, state: &mut [u64], rows: &[u32], columns: &mut Columns) {
    rises.resize(rows.len() * state.len(), 0);
    for (&token, rises) in rows.iter().zip(rises.chunks_mut(state.len())) {
        let Some(mask) = columns.mask(token) else {
            continue;
        };
        rises.copy_from_slice(state);
        advance(state, mask);
        // t[i][j] - t[i-1][j] is 0 or 1 and changes exactly where the two states differ.
        let mut parity = 0;
        for (rise, state) in rises.iter_mut().zip(&*state) {
            *rise = prefix_parity(*rise ^ state) ^ parity;
            parity = 0u64.wrapping_sub(*rise >> 63);
        }
    }
}

/// Bit j of the result is the parity of bits 0 to j.
fn prefix_parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// Walks up through `rows` from the first `column` columns, marking matches; returns the columns left at the top.
fn trace_back(rows: &[u32], columns: &mut Columns, rises: &[u64], mut column: usize, marked: &mut [bool]) -> usize {
    let width = rises.len() / rows.len();
    let rises = rises.chunks(width);
    for ((&token, marked), rises) in rows.iter().zip(marked).zip(rises).rev() {
        let Some(mask) = columns.mask(token) else {
            continue;
        };
        match last_stop(mask, rises, column) {
            None => return 0,
            Some((stop, true)) => {
                *marked = true;
                column = stop;
            }
            Some((stop, false)) => column = stop + 1,
        }
        if column == 0 {
            return 0;
        }
    }
    column
}

/// The last of the first `columns` columns where the walk to the left stops, and whether it is a match there.
fn last_stop(mask: &[u64], rises: &[u64], columns: usize) -> Option<(usize, bool)> {
    let last = (columns - 1) / 64;
    let mut kept = !0 >> (63 - (columns - 1) % 64);
    for word in (0..=last).rev() {
        let stops = (mask[word] | !rises[word]) & kept;
        if stops != 0 {
            let bit = 63 - stops.leading_zeros() as usize;
            return Some((word * 64 + bit, mask[word] >> bit & 1 == 1));
        }
        kept = !0;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table and the rule as written, cell by cell.
    fn by_table(rows: &[u32], columns: &[u32]) -> (usize, Vec<bool>) {
        let mut t = vec![vec![0usize; columns.len() + 1]; rows.len() + 1];
        for i in 1..=rows.len() {
            for j in 1..=columns.len() {
                t[i][j] =
                    if rows[i - 1] == columns[j - 1] { t[i - 1][j - 1] + 1 } else { t[i - 1][j].max(t[i][j - 1]) };
            }
        }
        let mut marked = vec![false; rows.len()];
        let (mut i, mut j) = (rows.len(), columns.len());
        while i > 0 && j > 0 {
            if rows[i - 1] == columns[j - 1] {
                marked[i - 1] = true;
                (i, j) = (i - 1, j - 1);
            } else if t[i][j - 1] > t[i - 1][j] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
        (t[rows.len()][columns.len()], marked)
    }

    #[track_caller]
    fn check(rows: &[u32], columns: &[u32], vocabulary: usize) {
        let (expected_length, expected) = by_table(rows, columns);
        let mut aligner = Aligner::new(vocabulary);
        // Loading twice shows that nothing of an earlier sequence stays.
        aligner.load(rows);
        aligner.load(columns);
        assert_eq!(aligner.length(rows), expected_length);
        let mut marked = vec![false; rows.len()];
        aligner.mark(rows, &mut marked);
        let sizes = (rows.len(), columns.len(), vocabulary);
        assert!(marked == expected, "another path in {sizes:?}");
    }

    /// `len` tokens below `vocabulary`, the low ones more frequent, as words are.
    fn sequence(len: usize, vocabulary: usize, state: &mut u64) -> Vec<u32> {
        let mut token = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let fraction = (*state >> 40) as f64 / (1u64 << 24) as f64;
            (fraction * fraction * vocabulary as f64) as u32
        };
        (0..len).map(|_| token()).collect()
    }

    #[test]
    fn short_sequences_follow_the_table() {
        let mut state = 1;
        for round in 0..3000 {
            let vocabulary = 1 + round % 7;
            let rows = sequence(round % 11, vocabulary, &mut state);
            let columns = sequence(round % 13, vocabulary, &mut state);
            check(&rows, &columns, vocabulary);
        }
    }

    #[test]
    fn sequences_around_a_word_follow_the_table() {
        let mut state = 2;
        for columns in [63, 64, 65, 127, 128, 129, 200] {
            for vocabulary in [1, 2, 10, 100] {
                let rows = sequence(150, vocabulary, &mut state);
                let columns = sequence(columns, vocabulary, &mut state);
                check(&rows, &columns, vocabulary);
                check(&columns, &rows, vocabulary);
            }
        }
    }

    #[test]
    fn long_sequences_in_several_blocks_follow_the_table() {
        let mut state = 3;
        for vocabulary in [3, 50, 5000] {
            for (rows, columns) in [(257, 40), (1100, 700), (513, 3000)] {
                let rows = sequence(rows, vocabulary, &mut state);
                let columns = sequence(columns, vocabulary, &mut state);
                check(&rows, &columns, vocabulary);
            }
        }
    }

    #[test]
    fn no_common_token_and_equal_sequences() {
        check(&[0, 1, 2], &[3, 4], 5);
        let all: Vec<u32> = (0..1000).collect();
        check(&all, &all, 1000);
        let reversed: Vec<u32> = all.iter().rev().copied().collect();
        check(&all, &reversed, 1000);
    }
}
