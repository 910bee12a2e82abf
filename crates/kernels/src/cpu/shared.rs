//! An output that several threads fill, each its own elements.

use std::marker::PhantomData;

/// A mutable slice handed to several tasks, which promise to touch different elements.
pub(crate) struct Shared<'a> {
    start: *mut f32,
    length: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: elements are only reached through `slice`, whose callers promise that no two live slices overlap.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Self { start: values.as_mut_ptr(), length: values.len(), lifetime: PhantomData }
    }

    /// The elements `start..start + length`.
    ///
    /// # Safety
    /// No other slice of this output that is alive at the same time may overlap it.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, start: usize, length: usize) -> &mut [f32] {
        assert!(start + length <= self.length, "rows {start}..{} of {}", start + length, self.length);
        // SAFETY: in bounds by the line above; not aliased by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}
