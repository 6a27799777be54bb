//! Reading the buffers that the runtime's traits hand over.

use monoio::buf::IoBuf;

/// The bytes that `buffer` holds.
pub fn bytes_of<B: IoBuf>(buffer: &B) -> &[u8] {
    // SAFETY: whoever implements `IoBuf` promises that `bytes_init` bytes from `read_ptr` on are
    // initialised and stay where they are; the borrow keeps them from being written meanwhile.
    unsafe { std::slice::from_raw_parts(buffer.read_ptr(), buffer.bytes_init()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_shows_what_was_written_into_it_and_no_more() {
        let mut buffer = Vec::with_capacity(64);
        buffer.extend_from_slice(b"abc");
        assert_eq!(bytes_of(&buffer), b"abc");
        assert_eq!(bytes_of(&buffer.slice(1..2)), b"b");
    }
}
