//! The heap of the program.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap_anonymous, mremap, munmap};

/// The heap. A large block has pages of its own: it grows without being copied, and goes back to the system when it is
/// freed. The small ones are dlmalloc's, whatever the C library: with musl's own heap a `guest-info` took 56 us, with this
/// one 44.
#[derive(Debug)]
pub struct Heap;

/// Bytes from which on a block is large.
const LARGE: usize = 128 << 10;

/// Bytes of a huge page, of which a block of at least two is made where the kernel can: 27 faults for a message of 54 MiB
/// instead of 13,800, and as many fewer places to remember where it lies.
const HUGE: usize = 2 << 20;

static SMALL: Mutex<Dlmalloc> = Mutex::new(Dlmalloc::new());

fn small() -> MutexGuard<'static, Dlmalloc> {
    SMALL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_large(size: usize, layout: Layout) -> bool {
    // The smallest page there is, and so what every mapping is aligned to.
    size >= LARGE && layout.align() <= 4096
}

/// Bytes of the mapping that is a block of this size: whole huge pages, as the kernel aligns only such a mapping to them.
fn mapped(size: usize) -> usize {
    if size < 2 * HUGE { size } else { size.checked_next_multiple_of(HUGE).unwrap_or(size) }
}

/// Asks for huge pages for a mapping of ours.
///
/// # Safety
/// As for `madvise`; the advice changes nothing but how the kernel finds the pages.
unsafe fn prefer_huge(block: *mut c_void, size: usize) {
    if size >= 2 * HUGE {
        // SAFETY: the caller's promise. A kernel that cannot says so, and all stays as it is.
        let _ = unsafe { madvise(block, mapped(size), Advice::LinuxHugepage) };
    }
}

// SAFETY: what a block was taken from follows from its layout alone, so it is given back there. Blocks of the system
// are aligned to pages, are not given to anyone else until they are unmapped, and read as zero at first; dlmalloc
// keeps the same promises, and is used by one thread at a time. Nothing here unwinds.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size(), layout) {
            // SAFETY: a new mapping, at a place where nothing is; its size is not zero.
            let block = unsafe { mmap_anonymous(ptr::null_mut(), mapped(layout.size()), PROT, MapFlags::PRIVATE) };
            let Ok(block) = block else { return ptr::null_mut() };
            // SAFETY: it is this mapping.
            unsafe { prefer_huge(block, layout.size()) };
            return block.cast();
        }
        // SAFETY: the caller promises a size that is not zero.
        unsafe { small().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size(), layout) {
            // SAFETY: the caller's promise.
            return unsafe { self.alloc(layout) };
        }
        // SAFETY: as in `alloc`.
        unsafe { small().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !is_large(layout.size(), layout) {
            // SAFETY: a block of this layout that is not large is dlmalloc's.
            return unsafe { small().free(block, layout.size(), layout.align()) };
        }
        // SAFETY: a block of this layout is a mapping of ours, which nobody uses any more.
        let _ = unsafe { munmap(block.cast(), mapped(layout.size())) };
        // The small ones that went with it are given back as well.
        // SAFETY: the heap is a valid one.
        unsafe { small().trim(KEPT) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match (is_large(layout.size(), layout), is_large(size, layout)) {
            (true, true) => {
                let (old, new) = (mapped(layout.size()), mapped(size));
                // SAFETY: a block of this layout is a mapping of ours; the caller gives up the old address.
                let moved = unsafe { mremap(block.cast(), old, new, MremapFlags::MAYMOVE) };
                let Ok(moved) = moved else { return ptr::null_mut() };
                // SAFETY: it is this mapping.
                unsafe { prefer_huge(moved, size) };
                moved.cast()
            }
            // SAFETY: a block of this layout that is not large is dlmalloc's, and stays so.
            (false, false) => unsafe { small().realloc(block, layout.size(), layout.align(), size) },
            _ => {
                // SAFETY: the caller promises that `size`, rounded up to the alignment, does not overflow.
                let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
                // SAFETY: the new block is another one and has at least as many bytes as are copied; the old one is
                // given up by the caller, and only if there is a new one.
                unsafe {
                    let to = self.alloc(new);
                    if !to.is_null() {
                        ptr::copy_nonoverlapping(block, to, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    to
                }
            }
        }
    }
}

const PROT: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// Bytes of free small blocks that stay when a large one is freed.
const KEPT: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_bytes_however_it_grows_and_shrinks() {
        let sizes =
            [1, 100, 5000, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE, 40 * LARGE, LARGE, 7, LARGE * 2, LARGE - 1, 16];
        for align in [1, 8, 64, 4096, 65536] {
            let first = Layout::from_size_align(sizes[0], align).unwrap();
            // SAFETY: the layouts are those that the block has at that time; only bytes of the block are touched.
            unsafe {
                let mut block = Heap.alloc(first);
                *block = 1;
                for pair in sizes.windows(2) {
                    let layout = Layout::from_size_align(pair[0], align).unwrap();
                    block = Heap.realloc(block, layout, pair[1]);
                    assert!(!block.is_null() && block.addr() % align == 0, "{pair:?} {align}");
                    let bytes = std::slice::from_raw_parts_mut(block, pair[1]);
                    let kept = pair[0].min(pair[1]);
                    assert!(bytes[..kept].iter().enumerate().all(|(i, &byte)| byte == pattern(i)), "{pair:?} {align}");
                    for (i, byte) in bytes.iter_mut().enumerate() {
                        *byte = pattern(i);
                    }
                }
                Heap.dealloc(block, Layout::from_size_align(16, align).unwrap());
            }
        }
    }

    #[test]
    fn what_is_asked_for_as_zero_is_zero_also_where_something_was_before() {
        for size in [24, 3000, 100_000, LARGE, 5 * LARGE] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            for _ in 0..3 {
                // SAFETY: the block has this layout, and is not used after it is freed.
                unsafe {
                    let block = Heap.alloc_zeroed(layout);
                    let bytes = std::slice::from_raw_parts_mut(block, size);
                    assert!(bytes.iter().all(|&byte| byte == 0), "{size}");
                    bytes.fill(0xa5);
                    Heap.dealloc(block, layout);
                }
            }
        }
    }

    /// Never zero, and the same again only after 251 bytes.
    fn pattern(i: usize) -> u8 {
        u8::try_from(i % 251).unwrap() + 1
    }
}
