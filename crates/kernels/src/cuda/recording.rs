//! Launches that are recorded once and repeated.

use super::place::address;
use crate::Device;
use candle_core::{DType, Error, Result, Shape, Tensor, bail};
use std::cell::RefCell;
use std::fmt;

/// What a body launches, the same from call to call but for what lies in the memory it reads. From the second call on its
/// launches are one graph, so that a GPU does not wait for the next small kernel to be asked for.
///
/// The first call runs the body as it is and keeps all memory that its kernels are given; the second gives them the same memory
/// again and records the launches; all others repeat those. So a body should launch kernels of this module only, on memory that
/// they are given or that outlives the recording, and copy nothing; one that does more runs as it is every time. Nothing else may
/// use the device meanwhile.
#[derive(Default)]
pub(crate) struct Recording {
    /// What the body depends on, as its caller numbers it.
    epoch: Option<u64>,
    /// In the order in which they were asked for.
    rooms: Vec<Tensor>,
    result: Option<Tensor>,
    /// Whether its launches may be recorded.
    is_repeatable: bool,
    #[cfg(feature = "cuda")]
    graph: Option<graph::Graph>,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recording({:?}, {} rooms)", self.epoch, self.rooms.len())
    }
}

impl Recording {
    /// What `body` returns; it may be the same memory at every call of one `epoch`.
    ///
    /// # Errors
    /// When the body fails or asks for other memory than before.
    pub(crate) fn run<E: From<Error>>(
        &mut self,
        device: &Device,
        epoch: u64,
        mut body: impl FnMut() -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Tensor, E> {
        if self.epoch == Some(epoch) {
            return self.again(device, body);
        }
        *self = Self::default();
        let (result, rooms) = with_rooms(Rooms::New(Vec::new()), &mut body);
        let result = result?;
        self.is_repeatable = is_one_of(&result, &rooms)?;
        (self.epoch, self.rooms, self.result) = (Some(epoch), rooms, Some(result.clone()));
        Ok(result)
    }

    /// Whether its launches have become one graph.
    pub(crate) fn is_graph(&self) -> bool {
        #[cfg(feature = "cuda")]
        return self.graph.is_some();
        #[cfg(not(feature = "cuda"))]
        false
    }

    /// Runs what the body ran before, on the same memory.
    fn again<E: From<Error>>(
        &mut self,
        device: &Device,
        mut body: impl FnMut() -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Tensor, E> {
        let mut run = || {
            let (result, rooms) = with_rooms(Rooms::Again(std::mem::take(&mut self.rooms), 0), &mut body);
            self.rooms = rooms;
            result
        };
        #[cfg(feature = "cuda")]
        if let (Some(result), true) = (&self.result, self.is_repeatable) {
            if self.graph.is_none() {
                self.graph = graph::record(device, || run().is_ok())?;
                self.is_repeatable = self.graph.is_some();
            }
            if let Some(graph) = &self.graph {
                graph.launch()?;
                return Ok(result.clone());
            }
        }
        #[cfg(not(feature = "cuda"))]
        let _ = device;
        run()
    }
}

/// Whether a tensor lies in one of the rooms, whose memory stays.
fn is_one_of(tensor: &Tensor, rooms: &[Tensor]) -> Result<bool> {
    let own = address(tensor)?;
    for room in rooms {
        if address(room)? == own {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where the memory of this thread's kernels comes from.
enum Rooms {
    Anywhere,
    /// It is kept.
    New(Vec<Tensor>),
    /// It is what was kept, from this place on.
    Again(Vec<Tensor>, usize),
}

thread_local! {
    static ROOMS: RefCell<Rooms> = const { RefCell::new(Rooms::Anywhere) };
}

/// Runs the body with these rooms; gives them back.
fn with_rooms<R>(rooms: Rooms, body: impl FnOnce() -> R) -> (R, Vec<Tensor>) {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            ROOMS.set(Rooms::Anywhere);
        }
    }
    let _restore = Restore;
    ROOMS.set(rooms);
    let result = body();
    let rooms = match ROOMS.replace(Rooms::Anywhere) {
        Rooms::New(rooms) | Rooms::Again(rooms, _) => rooms,
        Rooms::Anywhere => Vec::new(),
    };
    (result, rooms)
}

/// Memory for a kernel: that of the recording that this thread repeats, or what `make` makes.
pub(super) fn recorded_room(shape: &Shape, dtype: DType, make: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    ROOMS.with_borrow_mut(|rooms| match rooms {
        Rooms::Anywhere => make(),
        Rooms::New(kept) => {
            let room = make()?;
            kept.push(room.clone());
            Ok(room)
        }
        Rooms::Again(kept, next) => match kept.get(*next) {
            Some(room) if room.shape() == shape && room.dtype() == dtype => {
                *next += 1;
                Ok(room.clone())
            }
            other => {
                let other = other.map(Tensor::dims);
                bail!("a recording asks for {:?} where it asked for {other:?}", shape.dims())
            }
        },
    })
}

#[cfg(feature = "cuda")]
mod graph {
    use candle_core::cuda_backend::WrapErr;
    use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream, sys};
    use candle_core::{Device, Result};
    use std::ptr::null_mut;
    use std::sync::Arc;

    /// Kernels in their order.
    pub(super) struct Graph(CudaGraph);

    impl Graph {
        pub(super) fn launch(&self) -> Result<()> {
            self.0.launch().w()
        }

        /// Whether it can be repeated. A copy from the CPU's memory would read that memory again, whatever lies there then; and memory
        /// that was asked for while recording exists while the graph runs only.
        fn is_kernels_only(&self) -> Result<bool> {
            let graph = self.0.cu_graph();
            let mut count = 0;
            // SAFETY: the graph exists; a null pointer asks for the number of its nodes.
            unsafe { sys::cuGraphGetNodes(graph, null_mut(), &raw mut count) }.result().w()?;
            let mut nodes = vec![null_mut(); count];
            // SAFETY: there is room for all nodes.
            unsafe { sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &raw mut count) }.result().w()?;
            for node in nodes {
                let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
                // SAFETY: the node is the graph's.
                unsafe { sys::cuGraphNodeGetType(node, &raw mut kind) }.result().w()?;
                use sys::CUgraphNodeType as Kind;
                if !matches!(kind, Kind::CU_GRAPH_NODE_TYPE_KERNEL | Kind::CU_GRAPH_NODE_TYPE_MEMSET) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }

    /// What `body` launches on the device's stream, which runs nothing meanwhile; none if it fails, or does more than launch kernels.
    pub(super) fn record(device: &Device, body: impl FnOnce() -> bool) -> Result<Option<Graph>> {
        /// Ends the recording, whatever happens.
        struct Capture(Arc<CudaStream>);
        impl Capture {
            fn end(&self) -> Option<Graph> {
                let graph = self.0.end_capture(sys::CUgraphInstantiate_flags(0)).ok().flatten().map(Graph);
                // What could not be recorded is no error of what comes next.
                let _ = self.0.context().check_err();
                graph
            }
        }
        impl Drop for Capture {
            fn drop(&mut self) {
                if !matches!(self.0.capture_status(), Ok(sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)) {
                    self.end();
                }
            }
        }
        let stream = device.as_cuda_device()?.cuda_stream();
        stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()?;
        let capture = Capture(stream);
        let is_whole = body();
        let Some(graph) = capture.end() else { return Ok(None) };
        Ok(if is_whole && graph.is_kernels_only()? { Some(graph) } else { None })
    }
}
