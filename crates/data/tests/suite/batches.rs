//! Batches: every example once an epoch, the same from the same seed, and exact resumption.

use epitome_data::{Batch, BatchPlan};

fn sorted(batches: &[Vec<usize>]) -> Vec<usize> {
    let mut all = batches.concat();
    all.sort_unstable();
    all
}

fn lengths(count: usize) -> Vec<usize> {
    (0..count).map(|index| (index * 7_919) % 1_013).collect()
}

#[test]
fn every_example_once_an_epoch() {
    for count in [0, 1, 5, 16, 17, 100] {
        for (batch_size, bucket_batches) in [(1, 0), (4, 0), (4, 1), (4, 3), (16, 2), (1_000, 50)] {
            let plan = BatchPlan { bucket_batches, ..BatchPlan::new(batch_size, true, 3) };
            for epoch in 0..3 {
                let batches = plan.epoch(&lengths(count), epoch);
                assert_eq!(sorted(&batches), (0..count).collect::<Vec<_>>());
                assert_eq!(batches.len(), plan.steps_per_epoch(count));
                let full = batches.iter().filter(|batch| batch.len() == batch_size).count();
                assert_eq!(full, count / batch_size);
            }
        }
    }
}

#[test]
fn without_shuffling_the_order_stays() {
    let plan = BatchPlan::new(2, false, 9);
    assert_eq!(plan.epoch(&lengths(5), 0), [vec![0, 1], vec![2, 3], vec![4]]);
    assert_eq!(plan.epoch(&lengths(5), 4), plan.epoch(&lengths(5), 0));
}

#[test]
fn orders_depend_on_seed_and_epoch_alone() {
    let plan = |seed| BatchPlan::new(3, true, seed);
    let first = plan(1).epoch(&lengths(50), 0);
    assert_eq!(first, plan(1).epoch(&lengths(50), 0));
    assert_ne!(first, plan(1).epoch(&lengths(50), 1));
    assert_ne!(first, plan(2).epoch(&lengths(50), 0));
    // Neighbouring seeds and epochs must not give each other's orders.
    assert_ne!(plan(1).epoch(&lengths(50), 2), plan(2).epoch(&lengths(50), 1));
}

#[test]
fn an_order_once_published_stays() {
    // Recomputed independently from the published SplitMix64; a change would break resumed runs.
    let batches = BatchPlan::new(8, true, 42).epoch(&lengths(8), 0);
    assert_eq!(batches, [vec![4, 2, 5, 1, 7, 0, 6, 3]]);
}

#[test]
fn every_place_is_equally_likely() {
    let mut counts = [[0u32; 4]; 4];
    for seed in 0..12_000 {
        for (place, index) in BatchPlan::new(4, true, seed).epoch(&lengths(4), 0)[0].iter().enumerate() {
            counts[place][*index] += 1;
        }
    }
    // 3000 expected; the standard deviation is below 48.
    assert!(counts.as_flattened().iter().all(|count| count.abs_diff(3_000) < 250), "{counts:?}");
}

#[test]
fn bucketing_brings_similar_lengths_together() {
    let lengths = lengths(960);
    let spread = |plan: &BatchPlan| -> usize {
        let spread = |batch: &Vec<usize>| {
            let of = batch.iter().map(|&index| lengths[index]);
            of.clone().max().unwrap() - of.min().unwrap()
        };
        plan.epoch(&lengths, 0).iter().map(spread).sum()
    };
    let plain = BatchPlan::new(8, true, 5);
    let bucketed = BatchPlan { bucket_batches: 20, ..plain.clone() };
    assert!(spread(&bucketed) * 5 < spread(&plain), "{} and {}", spread(&bucketed), spread(&plain));
    // The long batches must not all come at the end.
    let batches = bucketed.epoch(&lengths, 0);
    let longest = (0..batches.len()).max_by_key(|&step| batches[step].iter().map(|&index| lengths[index]).max());
    let other = bucketed.epoch(&lengths, 1);
    let other_longest = (0..other.len()).max_by_key(|&step| other[step].iter().map(|&index| lengths[index]).max());
    assert_ne!(longest, other_longest);
}

#[test]
fn resuming_at_any_step_gives_the_same_batches() {
    let plan = BatchPlan { bucket_batches: 2, ..BatchPlan::new(3, true, 11) };
    let lengths = lengths(10);
    let all: Vec<Batch> = plan.clone().batches_from(lengths.clone(), 0).take(14).collect();
    assert_eq!((all[3].epoch, all[3].step), (0, 3));
    assert_eq!((all[4].epoch, all[4].step), (1, 0));
    assert_eq!(all[5].indices, plan.epoch(&lengths, 1)[1]);
    for step in 0..14 {
        let resumed: Vec<Batch> = plan.clone().batches_from(lengths.clone(), step).take(14 - step as usize).collect();
        assert_eq!(resumed, all[step as usize..]);
    }
}

#[test]
fn no_examples_no_batches() {
    assert_eq!(BatchPlan::new(4, true, 0).batches_from(Vec::new(), 5).next(), None);
}
