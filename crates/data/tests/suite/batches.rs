//! Batches: every example once an epoch, the same from the same seed, within their budget.

use epitome_data::{BatchPlan, BatchSize, EpochBatches};

use crate::support::Random;

fn plan(size: BatchSize, seed: u64) -> BatchPlan {
    BatchPlan { size, shuffle: true, seed }
}

/// Batches of `size` examples of one token.
fn epoch(plan: &BatchPlan, examples: usize, epoch: u64) -> Vec<Vec<u32>> {
    lists(&plan.epoch(examples, |_| 1, epoch))
}

fn lists(batches: &EpochBatches) -> Vec<Vec<u32>> {
    batches.iter().map(<[u32]>::to_vec).collect()
}

fn sorted(batches: &[Vec<u32>]) -> Vec<u32> {
    let mut all = batches.concat();
    all.sort_unstable();
    all
}

#[test]
fn every_example_once_an_epoch() {
    for examples in [0, 1, 5, 16, 17, 100] {
        for size in [1, 4, 16, 1_000] {
            let plan = plan(BatchSize::Examples(size), 3);
            for number in 0..3 {
                let batches = epoch(&plan, examples, number);
                assert_eq!(sorted(&batches), (0..examples as u32).collect::<Vec<_>>());
                assert_eq!(batches.len(), plan.count(examples, |_| 1, number));
                let full = batches.iter().filter(|batch| batch.len() == size).count();
                assert_eq!(full, examples / size);
            }
        }
    }
}

#[test]
fn without_shuffling_the_order_stays() {
    let plan = BatchPlan { size: BatchSize::Examples(2), shuffle: false, seed: 9 };
    assert_eq!(epoch(&plan, 5, 0), [vec![0, 1], vec![2, 3], vec![4]]);
    assert_eq!(epoch(&plan, 5, 4), epoch(&plan, 5, 0));
}

#[test]
fn orders_depend_on_seed_and_epoch_alone() {
    let of = |seed, number| epoch(&plan(BatchSize::Examples(3), seed), 50, number);
    assert_eq!(of(1, 0), of(1, 0));
    assert_ne!(of(1, 0), of(1, 1));
    assert_ne!(of(1, 0), of(2, 0));
    // Neighbouring seeds and epochs must not give each other's orders.
    assert_ne!(of(1, 2), of(2, 1));
}

#[test]
fn an_order_once_published_stays() {
    // Recomputed independently from the published SplitMix64; a change would break resumed runs.
    assert_eq!(epoch(&plan(BatchSize::Examples(8), 42), 8, 0), [vec![4, 2, 5, 1, 7, 0, 6, 3]]);
}

#[test]
fn every_place_is_equally_likely() {
    let mut counts = [[0u32; 4]; 4];
    for seed in 0..12_000 {
        for (place, &index) in epoch(&plan(BatchSize::Examples(4), seed), 4, 0)[0].iter().enumerate() {
            counts[place][index as usize] += 1;
        }
    }
    // 3000 expected; the standard deviation is below 48.
    assert!(counts.as_flattened().iter().all(|count| count.abs_diff(3_000) < 250), "{counts:?}");
}

#[test]
fn a_budget_of_tokens_is_kept_and_used() {
    let mut random = Random(5);
    for round in 0..200 {
        let lengths: Vec<usize> = (0..random.below(60)).map(|_| random.below(40)).collect();
        let tokens = |batch: &[u32]| batch.iter().map(|&index| lengths[index as usize]).sum::<usize>();
        let most = 1 + random.below(90);
        let plan = BatchPlan { size: BatchSize::Tokens(most), shuffle: round % 4 > 0, seed: round };
        let order = epoch(&BatchPlan { size: BatchSize::Examples(1), ..plan.clone() }, lengths.len(), 2).concat();
        let batches = lists(&plan.epoch(lengths.len(), |index| lengths[index], 2));
        assert_eq!(batches.concat(), order, "the order is that of the epoch");
        assert_eq!(batches.len(), plan.count(lengths.len(), |index| lengths[index], 2));
        for (number, batch) in batches.iter().enumerate() {
            assert!(batch.len() == 1 || tokens(batch) <= most, "{batch:?} has {} of {most}", tokens(batch));
            if let Some(next) = batches.get(number + 1) {
                assert!(tokens(batch) + lengths[next[0] as usize] > most, "the next example would have fitted");
            }
        }
    }
}
