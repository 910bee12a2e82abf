//! Several processes that work on one thing, on one machine or more: who they are, sums over all of them, and what the
//! first of them collects.
//!
//! Without the feature `mpi`, and outside `mpirun`, a [`ProcessGroup`] is this process alone and every operation is free.
//! The crate knows nothing of tensors, models or records.
#![forbid(unsafe_code)]

#[cfg_attr(feature = "mpi", path = "open_mpi.rs")]
#[cfg_attr(not(feature = "mpi"), path = "absent.rs")]
mod mpi;

/// Variables with the number of processes, as launchers set them.
const WORLD_SIZE: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"];

/// What launchers by PMIx set, such as `srun --mpi=pmix`, which do not say how many processes there are.
const PMIX: &str = "PMIX_RANK";

/// The processes could not be brought together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Started by a launcher, but built without MPI: every process would do the same work and write the same files.
    #[error(
        "{0} says that this may be one of several processes, but this build has no MPI: build with `--features mpi`"
    )]
    NotBuilt(String),
    /// The MPI library did not start.
    #[error("the MPI library cannot be initialised")]
    NotStarted,
}

/// The processes of one run. All of them must call the same operations in the same order.
pub struct ProcessGroup(Group);

enum Group {
    Single,
    Mpi(mpi::Group),
}

impl ProcessGroup {
    /// This process alone.
    pub fn single() -> Self {
        Self(Group::Single)
    }

    /// The processes that `mpirun` started, or this one alone where there was no launcher. To be called once, by the thread
    /// that will use the group.
    ///
    /// # Errors
    /// When a launcher started several processes and they cannot be joined.
    pub fn join() -> Result<Self, Error> {
        let size = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<usize>().ok());
        let launcher = match WORLD_SIZE.iter().find_map(|name| Some((*name, size(name)?))) {
            Some((name, size)) => (size > 1).then_some(name),
            None => std::env::var_os(PMIX).map(|_| PMIX),
        };
        Ok(match launcher {
            Some(name) => Self(Group::Mpi(mpi::Group::join(name)?)),
            None => Self::single(),
        })
    }

    /// Number of this process, from 0.
    pub fn rank(&self) -> usize {
        match &self.0 {
            Group::Single => 0,
            Group::Mpi(group) => group.rank(),
        }
    }

    /// Number of processes.
    pub fn world_size(&self) -> usize {
        match &self.0 {
            Group::Single => 1,
            Group::Mpi(group) => group.world_size(),
        }
    }

    /// How many of the processes share this one's machine and its memory, itself included.
    pub fn on_this_machine(&self) -> usize {
        match &self.0 {
            Group::Single => 1,
            Group::Mpi(group) => group.on_this_machine(),
        }
    }

    /// Number of this process among those that share its machine, from 0, in the order of [`ProcessGroup::rank`].
    pub fn rank_on_this_machine(&self) -> usize {
        match &self.0 {
            Group::Single => 0,
            Group::Mpi(group) => group.rank_on_this_machine(),
        }
    }

    /// Whether this is the process that writes files and speaks to the user.
    pub fn is_root(&self) -> bool {
        self.rank() == 0
    }

    /// Replaces `values` by their sums over all processes; every process gets the same bits.
    pub fn all_reduce(&self, values: &mut [f32]) {
        match &self.0 {
            Group::Single => (),
            Group::Mpi(group) => group.all_reduce(values),
        }
    }

    /// As [`ProcessGroup::all_reduce`].
    pub fn all_reduce_f64(&self, values: &mut [f64]) {
        match &self.0 {
            Group::Single => (),
            Group::Mpi(group) => group.all_reduce(values),
        }
    }

    /// Whether `flag` is true in any process.
    pub fn any(&self, flag: bool) -> bool {
        let mut count = [f64::from(u8::from(flag))];
        self.all_reduce_f64(&mut count);
        count[0] > 0.0
    }

    /// Waits until every process has come here.
    pub fn barrier(&self) {
        self.any(false);
    }

    /// Does `work` in the first process of every machine, and then in the others, which find what that has left there. Where the
    /// first fails the others wait until it ends them by [`ProcessGroup::abort`].
    ///
    /// # Errors
    /// Those of `work`.
    pub fn first_on_each_machine<T, E>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if self.rank_on_this_machine() > 0 {
            self.barrier();
            return work();
        }
        let done = work()?;
        self.barrier();
        Ok(done)
    }

    /// What every process gave, in the order of ranks, for the first of them; nothing for the others.
    pub fn gather(&self, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        match &self.0 {
            Group::Single => Some(vec![bytes.to_vec()]),
            Group::Mpi(group) => group.gather(bytes),
        }
    }

    /// Gives every process what the first of them has.
    pub fn broadcast(&self, bytes: &mut Vec<u8>) {
        match &self.0 {
            Group::Single => (),
            Group::Mpi(group) => group.broadcast(bytes),
        }
    }

    /// Ends a failed process with an exit code so that the others, which may be waiting for it, end too. Returns where it is
    /// alone.
    pub fn abort(&self, code: u8) {
        if let Group::Mpi(group) = &self.0 {
            group.abort(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProcessGroup;

    #[test]
    fn alone_every_operation_changes_nothing() {
        let group = ProcessGroup::single();
        let mut values = [1.5f32, -2.0];
        group.all_reduce(&mut values);
        assert_eq!((values, group.rank(), group.world_size(), group.is_root()), ([1.5, -2.0], 0, 1, true));
        assert_eq!((group.rank_on_this_machine(), group.on_this_machine()), (0, 1));
        assert_eq!(group.gather(&[1, 2]), Some(vec![vec![1, 2]]));
        assert_eq!(group.first_on_each_machine(|| Err::<(), _>("failed")), Err("failed"));
        assert_eq!([true, false].map(|flag| group.any(flag)), [true, false]);
    }
}
