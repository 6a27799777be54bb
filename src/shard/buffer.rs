//! Buffers that go round: taken for a read or a head, given back when it is done.

use std::cell::RefCell;

/// A read of a head, of a small body, of an event.
pub const SMALL_BYTES: usize = 4 * 1024;
/// A read of a body: what a loopback or a fast link delivers at once.
pub const LARGE_BYTES: usize = 64 * 1024;

/// Free buffers kept; more are given back to the allocator.
const KEPT_SMALL: usize = 256;
const KEPT_LARGE: usize = 16;

/// The free buffers of one shard, in two sizes.
#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer of [`SMALL_BYTES`].
    pub fn small(&self) -> Vec<u8> {
        let kept = self.small.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(SMALL_BYTES))
    }

    /// An empty buffer of [`LARGE_BYTES`].
    pub fn large(&self) -> Vec<u8> {
        let kept = self.large.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(LARGE_BYTES))
    }

    /// Takes a buffer back. One that has grown to another size is not kept.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        let (shelf, kept) = match buffer.capacity() {
            SMALL_BYTES => (&self.small, KEPT_SMALL),
            LARGE_BYTES => (&self.large, KEPT_LARGE),
            _ => return,
        };
        buffer.clear();
        let mut shelf = shelf.borrow_mut();
        if shelf.len() < kept {
            shelf.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_only_in_its_size() {
        let buffers = Buffers::default();
        let mut one = buffers.small();
        one.extend_from_slice(b"secret");
        let place = one.as_ptr();
        buffers.give_back(one);
        let again = buffers.small();
        assert!(again.is_empty() && again.as_ptr() == place);
        buffers.give_back(Vec::with_capacity(5_000));
        assert_eq!(buffers.small().capacity(), SMALL_BYTES);
        assert_eq!(buffers.large().capacity(), LARGE_BYTES);
    }
}
