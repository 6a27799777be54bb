//! The allocator of the binary: mimalloc, asked plainly.
//!
//! Its own wrapper asks for each alignment by name. That takes a longer way than a plain request,
//! and for what is larger than a kilobyte and no power of two it takes a larger block as well, to
//! align within it. But a block of mimalloc's is aligned to [`ALIGNED`] anyhow once it is as large,
//! as `malloc` has to be, and hardly a type wants more.

use std::{
    alloc::{GlobalAlloc, Layout},
    ffi::c_void,
};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

/// What every block of this many bytes or more is aligned to: `MI_MAX_ALIGN_SIZE`.
const ALIGNED: usize = 16;

/// Small pages, freed where they were taken: one heap a shard.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

/// Says whether a block of `size` bytes is aligned to `align` without being asked to be. An alignment
/// is a power of two.
const fn is_aligned_anyhow(size: usize, align: usize) -> bool {
    align <= ALIGNED && align <= size
}

// SAFETY: Each call hands the layout on to the allocator, which keeps to it: `is_aligned_anyhow` is
// true only where a plain block is as aligned as the layout wants. A block may be freed, and grown
// plainly, whichever way it was taken.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        let block = if is_aligned_anyhow(size, align) {
            // SAFETY: It takes any size.
            unsafe { mi_malloc(size) }
        } else {
            // SAFETY: It takes any size, and a layout's alignment is a power of two.
            unsafe { mi_malloc_aligned(size, align) }
        };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        let block = if is_aligned_anyhow(size, align) {
            // SAFETY: As in `alloc`.
            unsafe { mi_zalloc(size) }
        } else {
            // SAFETY: As in `alloc`.
            unsafe { mi_zalloc_aligned(size, align) }
        };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: The caller says that the block came from here.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (block, align) = (block.cast::<c_void>(), layout.align());
        let block = if is_aligned_anyhow(size, align) {
            // SAFETY: The caller says that the block came from here. Moved, it is aligned as in
            // `alloc`; where it stays, it was aligned before.
            unsafe { mi_realloc(block, size) }
        } else {
            // SAFETY: As above.
            unsafe { mi_realloc_aligned(block, size, align) }
        };
        block.cast()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes, fills, changes and frees a block, and says whether it was as it has to be.
    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "one life of a block, in order"
    )]
    fn is_kept(size: usize, align: usize, new_size: usize) -> bool {
        let layout = Layout::from_size_align(size, align).unwrap();
        let new_layout = Layout::from_size_align(new_size, align).unwrap();
        // SAFETY: The layouts have a size, the block is used within them and freed with the last.
        unsafe {
            let block = Allocator.alloc(layout);
            block.write_bytes(0x5a, size);
            let was_aligned = block.addr().is_multiple_of(align);
            let moved = Allocator.realloc(block, layout, new_size);
            let kept = std::slice::from_raw_parts(moved, size.min(new_size));
            let is_same = kept.iter().all(|byte| *byte == 0x5a);
            let is_aligned = moved.addr().is_multiple_of(align);
            Allocator.dealloc(moved, new_layout);
            let zeroed = Allocator.alloc_zeroed(layout);
            let is_zero = std::slice::from_raw_parts(zeroed, size)
                .iter()
                .all(|byte| *byte == 0);
            let zeroed_aligned = zeroed.addr().is_multiple_of(align);
            Allocator.dealloc(zeroed, layout);
            was_aligned && is_same && is_aligned && is_zero && zeroed_aligned
        }
    }

    #[test]
    fn every_small_block_is_as_aligned_as_it_has_to_be() {
        for size in 1..=4_096 {
            for align in [1, 2, 4, 8, 16, 32, 64] {
                assert!(is_kept(size, align, size + 1), "{size} by {align}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_block_keeps_its_bytes_and_its_alignment(
            size in 1usize..200_000, new_size in 1usize..200_000, align in 0u32..13,
        ) {
            prop_assert!(is_kept(size, 1 << align, new_size));
        }
    }
}
