//! A group over MPI's world communicator.

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence, Root};

/// Values of a message: MPI counts with 32 bits, and messages of this size fill any network.
const MESSAGE: usize = 1 << 22;

/// What is sent of nothing, from a real address: that of an empty vector can be the one by which MPI means "in place".
static NOTHING: [u8; 1] = [0];

pub(crate) struct Group {
    world: SimpleCommunicator,
    /// Those that share this process's memory, in the order of the world's ranks.
    machine: SimpleCommunicator,
    /// Ends MPI when it goes.
    _universe: Universe,
}

impl Group {
    pub(crate) fn join(_: &str) -> Result<Self, crate::Error> {
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled).ok_or(crate::Error::NotStarted)?;
        let world = universe.world();
        Ok(Self { machine: world.split_shared(world.rank()), world, _universe: universe })
    }

    pub(crate) fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    pub(crate) fn world_size(&self) -> usize {
        self.world.size() as usize
    }

    pub(crate) fn on_this_machine(&self) -> usize {
        self.machine.size() as usize
    }

    pub(crate) fn rank_on_this_machine(&self) -> usize {
        self.machine.rank() as usize
    }

    pub(crate) fn all_reduce<T: Equivalence + Copy>(&self, values: &mut [T]) {
        for part in values.chunks_mut(MESSAGE) {
            let own = part.to_vec();
            self.world.all_reduce_into(&own[..], part, SystemOperation::sum());
        }
    }

    pub(crate) fn gather(&self, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        // So that those of all processes together can be counted with 32 bits.
        let message = MESSAGE.min(i32::MAX as usize / self.world_size());
        let mut messages = 0;
        let own = bytes.len().div_ceil(message) as u64;
        self.world.all_reduce_into(&own, &mut messages, SystemOperation::max());
        let mut all = vec![Vec::new(); self.world_size()];
        let mut parts = bytes.chunks(message);
        for _ in 0..messages {
            self.gather_part(parts.next().unwrap_or(&NOTHING[..0]), &mut all);
        }
        (self.rank() == 0).then_some(all)
    }

    /// Appends what every process gives to `all` of the first one.
    fn gather_part(&self, part: &[u8], all: &mut [Vec<u8>]) {
        let root = self.world.process_at_rank(0);
        let length = part.len() as i32;
        if self.rank() != 0 {
            root.gather_into(&length);
            root.gather_varcount_into(part);
            return;
        }
        let mut lengths = vec![0i32; self.world_size()];
        root.gather_into_root(&length, &mut lengths[..]);
        let starts: Vec<i32> =
            lengths.iter().scan(0, |end, length| Some(std::mem::replace(end, *end + length))).collect();
        let mut gathered = vec![0u8; lengths.iter().map(|length| *length as usize).sum()];
        root.gather_varcount_into_root(part, &mut PartitionMut::new(&mut gathered[..], &lengths[..], &starts[..]));
        for ((start, length), all) in starts.iter().zip(&lengths).zip(all) {
            all.extend_from_slice(&gathered[*start as usize..][..*length as usize]);
        }
    }

    pub(crate) fn broadcast(&self, bytes: &mut Vec<u8>) {
        let root = self.world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        bytes.chunks_mut(MESSAGE).for_each(|part| root.broadcast_into(part));
    }

    pub(crate) fn abort(&self, code: u8) {
        self.world.abort(i32::from(code));
    }
}
