//! Micro-batches of one update that run side by side, each on threads of its own.

use std::cmp::Reverse;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

/// Threads that share the micro-batches of an update. A small model's operations are too short to be split between
/// threads; whole micro-batches are not.
pub(crate) struct Workers {
    /// Shares of an update's micro-batches: as many as were asked for, so that rounding does not depend on the threads.
    count: usize,
    /// None for a single worker: it runs on the caller's threads.
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// `count` workers, which divide the available threads.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let available = rayon::current_num_threads();
        let pools = count.min(available);
        let threads = available / pools;
        let pool = |_| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            pool.map_err(|error| Error::Threads(error.to_string()))
        };
        Ok(Self { count, pools: if count > 1 { (0..pools).map(pool).collect::<Result<_>>()? } else { Vec::new() } })
    }

    /// How many work side by side.
    pub(crate) fn count(&self) -> usize {
        self.count.max(1)
    }

    /// Runs `work` once per worker, on the indices that fall to it, and returns the results in the order of the workers.
    /// Which worker gets what depends on `costs` alone, so results do not depend on timing.
    pub(crate) fn share<R: Send>(&self, costs: &[usize], work: impl Fn(&[usize]) -> R + Sync) -> Vec<R> {
        let shares = shares(costs, self.count);
        if self.pools.is_empty() {
            return shares.iter().map(|indices| work(indices)).collect();
        }
        shares.chunks(self.pools.len()).flat_map(|shares| self.side_by_side(shares, &work)).collect()
    }

    /// The results of some shares, at most one for each pool.
    fn side_by_side<R: Send>(&self, shares: &[Vec<usize>], work: &(impl Fn(&[usize]) -> R + Sync)) -> Vec<R> {
        std::thread::scope(|scope| {
            let pairs = self.pools.iter().zip(shares);
            let running: Vec<_> =
                pairs.map(|(pool, indices)| scope.spawn(move || pool.install(|| work(indices)))).collect();
            let join = |worker: std::thread::ScopedJoinHandle<'_, R>| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            running.into_iter().map(join).collect()
        })
    }
}

/// Splits indices so that the sums of their costs are about equal: the most expensive first, each to whoever has least.
pub(crate) fn shares(costs: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&index| Reverse(costs[index]));
    // More shares than indices would stay empty.
    let mut shares = vec![(0, Vec::new()); count.min(costs.len())];
    for index in order {
        let (total, share) = shares.iter_mut().min_by_key(|(total, _)| *total).expect("there is a worker");
        *total += costs[index];
        share.push(index);
    }
    let sorted = |(_, mut share): (usize, Vec<usize>)| {
        share.sort_unstable();
        share
    };
    shares.into_iter().map(sorted).filter(|share| !share.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Workers, shares};

    #[test]
    fn costs_are_balanced_and_every_index_is_taken_once() {
        assert_eq!(shares(&[5, 1, 4, 2, 3, 3], 2), [vec![0, 1, 5], vec![2, 3, 4]]);
        assert_eq!(shares(&[7, 7], 3), [vec![0], vec![1]]);
        assert_eq!(shares(&[7, 0, 7, 0], usize::MAX), [vec![0], vec![2], vec![1, 3]]);
        assert_eq!(shares(&[1, 2, 3], 1), [vec![0, 1, 2]]);
    }

    #[test]
    fn results_come_in_the_order_of_the_workers() {
        let expected = [vec![vec![0, 1, 2, 3]], vec![vec![0, 3], vec![1, 2]], vec![vec![0], vec![1], vec![2, 3]]];
        for (count, expected) in (1..).zip(expected) {
            let found = Workers::new(count).unwrap().share(&[4, 3, 2, 1], |indices| indices.to_vec());
            assert_eq!(found, expected);
        }
    }
}
