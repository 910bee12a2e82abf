//! Every kind of word on every machine against sums written out, and the rounding of bf16.

mod sample;

use super::*;
use half::bf16;
use sample::Sample;

/// Values between the rows of everything that is strided, so that a wrong stride shows.
const GAP: usize = 3;

/// The most columns of a tile.
const COLUMNS: usize = 2 * PANEL;

/// Where a tile reads its rows of A.
#[derive(Clone, Copy, Debug)]
enum Layout {
    InPlace,
    Transposed,
}

/// Operands of the largest tile, of which smaller ones take a corner.
struct Operands<W: Sample> {
    depth: usize,
    /// [rows, depth] and [depth, rows], with gaps.
    in_place: Vec<W::Left>,
    transposed: Vec<W::Left>,
    panels: [Vec<[W; PANEL]>; 2],
    /// [rows, columns], with gaps.
    target: Vec<f32>,
    row: Vec<f32>,
    /// The numbers of each row of A and of each column of B.
    left_numbers: Vec<Vec<f64>>,
    right_numbers: Vec<Vec<f64>>,
}

impl<W: Sample> Operands<W> {
    fn random(depth: usize) -> Self {
        let mut state = depth as u64;
        let mut bits = move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB)
        };
        let mut operands = Self {
            depth,
            in_place: vec![W::Left::default(); MOST_ROWS * (depth + GAP)],
            transposed: vec![W::Left::default(); depth * (MOST_ROWS + GAP)],
            panels: [(); 2].map(|()| vec![[W::default(); PANEL]; depth]),
            target: (0..MOST_ROWS * (COLUMNS + GAP)).map(|_| W::start(bits())).collect(),
            row: (0..COLUMNS).map(|_| W::start(bits())).collect(),
            left_numbers: vec![Vec::new(); MOST_ROWS],
            right_numbers: vec![Vec::new(); COLUMNS],
        };
        for d in 0..depth {
            for row in 0..MOST_ROWS {
                let (word, numbers) = W::left(bits());
                operands.in_place[row * (depth + GAP) + d] = word;
                operands.transposed[d * (MOST_ROWS + GAP) + row] = word;
                operands.left_numbers[row].extend(numbers);
            }
            for column in 0..COLUMNS {
                let (word, numbers) = W::right(bits());
                operands.panels[column / PANEL][d][column % PANEL] = word;
                operands.right_numbers[column].extend(numbers);
            }
        }
        operands
    }

    /// C after a tile of some rows and columns.
    fn compute(&self, machine: Machine, (rows, columns): (usize, usize), layout: Layout, start: Start<'_>) -> Vec<f32> {
        let mut target = self.target.clone();
        let (left, row_stride, depth_stride) = match layout {
            Layout::InPlace => (&self.in_place, self.depth + GAP, 1),
            Layout::Transposed => (&self.transposed, 1, MOST_ROWS + GAP),
        };
        let tile = Tile {
            left,
            row_stride,
            depth_stride,
            panels: [&self.panels[0], if columns > PANEL { &self.panels[1] } else { &[] }],
            target: target.as_mut_ptr(),
            target_stride: COLUMNS + GAP,
            columns,
            start,
        };
        // SAFETY: the machine is one of this processor's, and the target has more rows and columns than the tile.
        unsafe { tile.compute(machine, rows) };
        target
    }

    fn check(&self, machine: Machine, (rows, columns): (usize, usize), layout: Layout, start: Start<'_>) {
        let found = self.compute(machine, (rows, columns), layout, start);
        for (at, (found, before)) in found.iter().zip(&self.target).enumerate() {
            let (i, j) = (at / (COLUMNS + GAP), at % (COLUMNS + GAP));
            let right = if i < rows && j < columns {
                let from = match start {
                    Start::Zero => 0.0,
                    Start::Target => *before,
                    Start::Row(row) => row[j],
                };
                let pairs = self.left_numbers[i].iter().copied().zip(self.right_numbers[j].iter().copied());
                W::agrees(machine, *found, from, &pairs.collect::<Vec<_>>())
            } else {
                found.to_bits() == before.to_bits()
            };
            let depth = self.depth;
            assert!(
                right,
                "{machine:?}, {rows} x {columns} of depth {depth}, {layout:?}, {start:?}: {found} at {i} {j}"
            );
        }
    }
}

/// Tiles of every size on every machine this processor has.
fn check_all_tiles<W: Sample>() {
    for depth in [0, 1, 2, 5, 17] {
        let operands = Operands::<W>::random(depth);
        for machine in W::machines() {
            let sizes = (1..=machine.rows()).flat_map(|rows| (1..=machine.panels() * PANEL).map(move |n| (rows, n)));
            for size in sizes {
                for start in [Start::Zero, Start::Target, Start::Row(&operands.row)] {
                    operands.check(machine, size, Layout::InPlace, start);
                    operands.check(machine, size, Layout::Transposed, start);
                }
            }
        }
    }
}

#[test]
fn tiles_of_numbers() {
    check_all_tiles::<f32>();
}

#[test]
fn tiles_of_pairs_of_bf16() {
    check_all_tiles::<Bf16x2>();
}

#[test]
fn tiles_of_four_bytes() {
    check_all_tiles::<Int8x4>();
}

#[test]
fn tiles_of_two_bytes() {
    check_all_tiles::<Int8x2>();
}

/// The one sum of words that are all the same, on every machine.
#[track_caller]
fn check_sum<W: Word>(left: W::Left, right: W, depth: usize, wanted: i64) {
    let (left, panel) = (vec![left; depth], vec![[right; PANEL]; depth]);
    for machine in W::machines() {
        let mut target = [0.0; PANEL];
        let tile = Tile {
            left: &left,
            row_stride: depth,
            depth_stride: 1,
            panels: [&panel, &[]],
            target: target.as_mut_ptr(),
            target_stride: PANEL,
            columns: PANEL,
            start: Start::Zero,
        };
        // SAFETY: the machine is one of this processor's, and the target is the tile's only row.
        unsafe { tile.compute(machine, 1) };
        assert_eq!(target.map(|sum| i64::from(sum.to_bits() as i32)), [wanted; PANEL], "{machine:?}");
    }
}

/// At the depths up to which `int8` and `memory_attention` rely on 32 bits.
#[test]
fn extreme_integers_do_not_overflow() {
    for sign in [1i8, -1] {
        let (byte, factor) = (127 * sign, i64::from(sign));
        check_sum(Int8x4([255; 4]), Int8x4([byte as u8; 4]), 16_500, factor * 255 * 127 * 66_000);
        check_sum(Int16x2([32_767; 2]), Int8x2([byte; 2]), 258, factor * 32_767 * 127 * 516);
        check_sum(Int16x2([-32_767; 2]), Int8x2([byte; 2]), 258, -factor * 32_767 * 127 * 516);
        check_sum(Int16x2([16_383; 2]), Int8x2([byte; 2]), 512, factor * 16_383 * 127 * 1024);
    }
}

/// Every upper half of an f32 with lower halves around a tie: all signs, exponents, subnormals, infinities and NaN.
#[test]
fn bf16_is_rounded_as_in_the_half_crate() {
    for (upper, lower) in
        (0..=u16::MAX).flat_map(|upper| [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| (upper, low)))
    {
        let value = f32::from_bits(u32::from(upper) << 16 | lower);
        let wanted = bf16::from_f32(value).to_f32();
        let (one, other) = (Bf16x2::new(value, -1.5), Bf16x2::new(-1.5, value));
        assert_eq!((one.second(), other.first()), (-1.5, -1.5));
        for found in [one.first(), other.second()] {
            let same = found.to_bits() == wanted.to_bits() || (found.is_nan() && value.is_nan());
            assert!(same, "{:#010x} becomes {found}, not {wanted}", value.to_bits());
        }
    }
}

#[test]
fn rows_are_rounded_two_to_a_word_and_odd_ones_padded() {
    for length in [0usize, 1, 2, 15, 16, 17, 33, 64, 99] {
        let row: Vec<f32> = (0..length).map(|i| (i as f32 * 0.7391).sin()).collect();
        let mut words = vec![Bf16x2::new(9.0, 9.0); length.div_ceil(2)];
        round_row(&mut words, &row);
        let found: Vec<f32> = words.iter().flat_map(|word| [word.first(), word.second()]).collect();
        let mut wanted: Vec<f32> = row.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
        wanted.resize(2 * words.len(), 0.0);
        assert_eq!(found, wanted);
    }
}
