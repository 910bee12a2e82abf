//! A global allocator that keeps large blocks for reuse.
//!
//! Every operation writes its result to a new tensor. The system's allocator maps blocks of such sizes afresh and unmaps
//! them when freed, so every page of every result is faulted in anew, which costs more than a GELU or a layer norm
//! itself. [`ReusingAllocator`] keeps freed blocks of a mebibyte and more in lists by size and asks for huge pages.
//! Smaller blocks, and all blocks where there is no `mmap`, go to the system as ever.

use std::alloc::{GlobalAlloc, Layout, System};
#[cfg(unix)]
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Blocks from this size (bytes) are kept.
#[cfg(unix)]
const LARGE: usize = 1 << 20;

/// Sizes are rounded up to this many steps for each doubling, so less than an eighth is wasted.
#[cfg(unix)]
const STEPS: usize = 8;

/// Doublings above [`LARGE`] that have classes: up to 2^44 bytes.
#[cfg(unix)]
const DOUBLINGS: usize = 24;

/// Large blocks are aligned to a huge page.
#[cfg(unix)]
const HUGE_PAGE: usize = 2 << 20;

/// Keeps freed large blocks. A binary uses it with
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: epitome_kernels::ReusingAllocator = epitome_kernels::ReusingAllocator::new();
/// ```
///
/// Large blocks in use and kept together never exceed 5/4 of those in use at the fullest moment so far: what would go
/// beyond is given back to the system.
#[derive(Debug, Default)]
pub struct ReusingAllocator {
    #[cfg(unix)]
    blocks: Mutex<Blocks>,
}

impl ReusingAllocator {
    /// An allocator that keeps nothing yet.
    pub const fn new() -> Self {
        Self {
            #[cfg(unix)]
            blocks: Mutex::new(Blocks::new()),
        }
    }

    #[cfg(unix)]
    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        // The lists are consistent whenever a panic could happen: the lock is held by code that does not panic.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: large blocks come from `Blocks`, which hands out each mapping to one user at a time and with at least the
// size and alignment asked for; the others from the system. `Class::of` sorts a layout the same way when it is freed.
#[cfg(unix)]
unsafe impl GlobalAlloc for ReusingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Class::of(layout) {
            Some(class) => self.blocks().take(class).0,
            // SAFETY: the caller's contract.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's contract.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let (block, fresh) = self.blocks().take(class);
        if !fresh && !block.is_null() {
            // SAFETY: the block has at least this size. A fresh mapping is zero already.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Class::of(layout) {
            Some(class) => self.blocks().give(block, class),
            // SAFETY: the caller's contract; `of` sent this layout to the system when it was allocated, too.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size, rounded up to the alignment, does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Class::of(layout), Class::of(wanted)) {
            (Some(old), Some(new)) if old == new => block,
            // SAFETY: the caller's contract.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            _ => {
                // SAFETY: the caller's contract; both blocks hold at least the smaller size and differ.
                unsafe {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        moved.copy_from_nonoverlapping(block, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

// SAFETY: everything is the system's.
#[cfg(not(unix))]
unsafe impl GlobalAlloc for ReusingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(block, layout) }
    }
}

/// A rounded size.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    index: usize,
    bytes: usize,
}

#[cfg(unix)]
impl Class {
    /// The class of a large layout; `None` for what the system allocates.
    fn of(layout: Layout) -> Option<Self> {
        if layout.size() < LARGE || layout.align() > HUGE_PAGE {
            return None;
        }
        let doubling = (layout.size() / LARGE).ilog2() as usize;
        let step = (LARGE << doubling) / STEPS;
        let steps = layout.size().div_ceil(step);
        let index = doubling * STEPS + steps - STEPS;
        (doubling < DOUBLINGS).then_some(Self { index, bytes: steps * step })
    }
}

/// Freed blocks: a list for each class, its links stored in the blocks.
#[cfg(unix)]
#[derive(Debug)]
struct Blocks {
    free: [List; DOUBLINGS * STEPS + 1],
    kept: usize,
    used: usize,
    most_used: usize,
}

#[cfg(unix)]
#[derive(Clone, Copy, Debug)]
struct List {
    head: *mut Link,
    bytes: usize,
}

#[cfg(unix)]
#[derive(Debug)]
struct Link {
    next: *mut Link,
}

// SAFETY: the pointers are to blocks that nobody uses while they are in a list.
#[cfg(unix)]
unsafe impl Send for Blocks {}

#[cfg(unix)]
impl Default for Blocks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(unix)]
impl Blocks {
    const fn new() -> Self {
        let empty = List { head: std::ptr::null_mut(), bytes: 0 };
        Self { free: [empty; DOUBLINGS * STEPS + 1], kept: 0, used: 0, most_used: 0 }
    }

    /// A block, null when the system has none; and whether it is fresh, so all zeros.
    fn take(&mut self, class: Class) -> (*mut u8, bool) {
        let (block, fresh) = match self.pop(class.index) {
            Some(block) => (block, false),
            None => (map(class.bytes), true),
        };
        if !block.is_null() {
            self.used += class.bytes;
            self.most_used = self.most_used.max(self.used);
            self.release();
        }
        (block, fresh)
    }

    fn pop(&mut self, index: usize) -> Option<*mut u8> {
        let List { head, bytes } = self.free[index];
        if head.is_null() {
            return None;
        }
        // SAFETY: a block in a list begins with a link that `give` wrote.
        self.free[index].head = unsafe { (*head).next };
        self.kept -= bytes;
        Some(head.cast())
    }

    fn give(&mut self, block: *mut u8, class: Class) {
        let List { head: next, .. } = self.free[class.index];
        let head = block.cast::<Link>();
        // SAFETY: the block is larger than a link, aligned to a page, and its user has given it up.
        unsafe { head.write(Link { next }) };
        self.free[class.index] = List { head, bytes: class.bytes };
        self.used -= class.bytes;
        self.kept += class.bytes;
    }

    /// Gives the largest kept blocks back to the system until the limit holds.
    fn release(&mut self) {
        let limit = self.most_used + self.most_used / 4;
        for index in (0..self.free.len()).rev() {
            while self.used + self.kept > limit {
                let bytes = self.free[index].bytes;
                let Some(block) = self.pop(index) else { break };
                // SAFETY: the whole of a mapping that `map` made, and that nobody uses.
                unsafe { libc::munmap(block.cast(), bytes) };
            }
        }
    }
}

/// A fresh mapping of `bytes` (whole pages), aligned to a huge page; null when the system has none.
#[cfg(unix)]
fn map(bytes: usize) -> *mut u8 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: a new anonymous mapping touches no other memory.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes + HUGE_PAGE, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    let start = start.cast::<u8>();
    let before = start.align_offset(HUGE_PAGE);
    let block = start.wrapping_add(before);
    // SAFETY: both pieces are whole pages at the ends of the mapping just made, which nobody uses yet.
    unsafe {
        if before > 0 {
            libc::munmap(start.cast(), before);
        }
        if before < HUGE_PAGE {
            libc::munmap(block.add(bytes).cast(), HUGE_PAGE - before);
        }
        #[cfg(target_os = "linux")]
        libc::madvise(block.cast(), bytes, libc::MADV_HUGEPAGE);
    }
    block
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 64).unwrap()
    }

    #[test]
    fn classes_are_whole_pages_and_waste_less_than_an_eighth() {
        assert_eq!(Class::of(layout(LARGE - 1)), None);
        let mut last = Class::of(layout(LARGE)).unwrap();
        assert_eq!((last.index, last.bytes), (0, LARGE));
        for size in (LARGE..20 * LARGE).step_by(12_345) {
            let class = Class::of(layout(size)).unwrap();
            assert!(
                class.bytes >= size && class.bytes - size <= size / 8 && class.bytes.is_multiple_of(4096),
                "{size}"
            );
            assert_eq!(class.index > last.index, class.bytes > last.bytes, "{size}");
            last = class;
        }
    }

    #[test]
    fn a_freed_block_comes_back_zeroed_when_asked() {
        let allocator = ReusingAllocator::new();
        // SAFETY: blocks are used within their sizes and freed once.
        unsafe {
            let first = allocator.alloc_zeroed(layout(3_000_000));
            assert_eq!(*first.add(2_999_999), 0);
            first.write_bytes(7, 3_000_000);
            allocator.dealloc(first, layout(3_000_000));
            let second = allocator.alloc_zeroed(layout(3_000_001));
            assert_eq!(first, second);
            assert!(std::slice::from_raw_parts(second, 3_000_001).iter().all(|byte| *byte == 0));
            allocator.dealloc(second, layout(3_000_001));
        }
    }

    #[test]
    fn growing_keeps_the_contents() {
        let allocator = ReusingAllocator::new();
        // SAFETY: as above; `realloc` frees what it replaces.
        unsafe {
            let mut block = allocator.alloc(layout(1000));
            block.write_bytes(9, 1000);
            let mut size = 1000;
            for next in [2000, LARGE - 1, LARGE, LARGE + 1, 9 * LARGE, 2 * LARGE, 500] {
                block = allocator.realloc(block, layout(size), next);
                size = next;
                assert!(std::slice::from_raw_parts(block, 500).iter().all(|byte| *byte == 9), "{next}");
            }
            allocator.dealloc(block, layout(size));
        }
    }

    #[test]
    fn kept_blocks_stay_within_the_limit() {
        let allocator = ReusingAllocator::new();
        for size in (LARGE..40 * LARGE).step_by(LARGE / 2) {
            // SAFETY: allocated and freed with the same layout, not used between.
            unsafe { allocator.dealloc(allocator.alloc(layout(size)), layout(size)) };
            let blocks = allocator.blocks();
            assert_eq!(blocks.used, 0);
            assert!(blocks.kept <= blocks.most_used + blocks.most_used / 4, "{size}");
        }
        assert!(allocator.blocks().kept > 0);
    }
}
